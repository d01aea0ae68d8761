"""report.html of a run: its story, every stage, what it cost and where everything comes from.

Made of what lies in the run's folder, at any time: while it runs, after a fall, at its end. One
page without scripts that needs nothing else (llm/page.py). A part that cannot be read says so in
its place.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rich.console import Console

from jobs.report_compared import compared_section
from jobs.report_costs import costs, costs_section, dollars, kwh, price_of
from jobs.report_read import EVALUATION, RunSeen, Seen, listed, mapping, moment, read_json, read_run
from jobs.report_stages import stage_section
from jobs.report_story import story
from jobs.report_whence import environment_section, lineage_section, spec_section
from llm.answers import NAME as ANSWERS
from llm.evaluation_section import STYLE as EVALUATION_STYLE
from llm.evaluation_section import evaluation_section
from llm.falls_report import STYLE as FALLS_STYLE
from llm.files import write_atomic
from llm.lineage_graph import STYLE as LINEAGE_STYLE
from llm.metrics import duration, quantity
from llm.page import page, shown
from llm.page_parts import STYLE, notice, part, tiles
from llm.panels import held_out, points, trained
from llm.plots import label
from llm.training_report import STYLE as TRAINING_STYLE
from llm.training_report import text_figure

NAME = "report.html"

STYLES = "".join((TRAINING_STYLE, FALLS_STYLE, STYLE, LINEAGE_STYLE, EVALUATION_STYLE))


@contextmanager
def reported(folder: Path, console: Console) -> Iterator[None]:
    """The block's run has a report afterwards, however it ends; without one stage there is none."""
    try:
        yield
    finally:
        if any(folder.glob("*/*")):
            tell(folder, console)


def tell(folder: Path, console: Console) -> None:
    """Write the report, or say why it cannot be: what the run has made does not hang on it."""
    try:
        path: Path | str = write_run_report(folder)
    except Exception as error:  # a full disk, a bug: the run's own end is what counts
        path = f"could not be written ({type(error).__name__}: {error})"
    console.print(f"report: {path}", markup=False, highlight=False, soft_wrap=True)


def write_run_report(folder: Path) -> Path:
    """Write report.html of the run in a folder."""
    path = folder / NAME
    write_atomic(path, run_page(read_run(folder)))
    return path


def run_page(run: RunSeen) -> str:
    """The whole page."""
    sections = dict(sections_of(run))
    body = [
        f"<header><h1>{shown(run.name)}</h1>",
        f"<p>{shown(made_at(run))}</p></header>",
        "<main>",
        *(notice("Not all of it is shown", text) for text in run.troubles),
        part("The story", lambda: [f'<p class="story">{shown(" ".join(story(run)))}</p>']),
        part("The figures", lambda: [tiles(dict(figures(run)))]),
        navigation(sections),
        *(section(at, content) for at, content in enumerate(sections.values())),
        "</main>",
    ]
    return page(f"{run.name}: report", STYLES, "\n".join(part for part in body if part))


def sections_of(run: RunSeen) -> Iterator[tuple[str, str]]:
    """Every section by its name, those of stages in the order in which they run."""
    for one in run.stages:
        if one.folder:
            yield one.name, part(one.name, partial(stage_section, run, one))
    more: Mapping[str, Callable[[RunSeen], Iterable[str]]] = {
        "Pretrainings compared": compared_section,
        "Who answers what": answers_section,
        "Evaluation": evaluations,
        "Cost and energy": costs_section,
        "Lineage": lineage_section,
        "Environment": environment_section,
        "Spec": spec_section,
    }
    for name, make in more.items():
        if content := part(name, partial(make, run)):
            yield f" {name}", f"<h2>{name}</h2>\n{content}"  # no stage begins with a blank


def navigation(names: Iterable[str]) -> str:
    """Links to all sections."""
    links = "".join(
        f'<li><a href="#part-{at}">{shown(name.strip())}</a></li>' for at, name in enumerate(names)
    )
    return f'<nav aria-label="Sections"><ul>{links}</ul></nav>'


def section(at: int, content: str) -> str:
    """A section that the navigation leads to."""
    return f'<section id="part-{at}">\n{content}\n</section>'


def made_at(run: RunSeen) -> str:
    """When the report was made, and how far the run was then."""
    begun = [one for one in run.stages if one.folder]
    done = sum(one.state == "finished" for one in begun)
    wanted = len([one for one in run.stages if one.folder or one.state == "not begun"])
    return f"{done} of {wanted} stages finished; told {moment(time.time())}"


def figures(run: RunSeen) -> Iterator[tuple[str, tuple[str, str]]]:
    """The figures at the top of the page, with where they were at first."""
    models = [one for one in run.stages if isinstance(one.start.get("parameters"), int)]
    if models:
        yield "parameters", (quantity(models[0].start["parameters"]), "")
    tokens = [count for one in run.of("pretrain") if (count := one.metrics.get("tokens"))]
    if tokens:
        yield "tokens read", (quantity(sum(tokens)), "in pretraining")
    yield from reached(run.of("pretrain", "sweep"), "bits per byte", "bpb")
    yield from accuracy(run.of("reward", "dpo"))
    yield from rewards(run.of("ppo"))
    spent = costs(run)
    yield "at work", (duration(sum(one.seconds for one in spent)), "all stages")
    if price := price_of(run):
        yield "cost", (dollars(sum(one.hours for one in spent), price), "estimated")
    yield "energy", (kwh(sum(one.energy for one in spent)), "estimated")
    if count := sum(one.account.count for one in run.stages):
        shares = [one.account.goodput for one in run.stages if one.account.goodput is not None]
        least = f"goodput {min(shares):.1%}" if shares else ""
        yield f"fall{'s' if count > 1 else ''}", (str(count), least)


def reached(stages: list[Seen], name: str, key: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """A figure of held-out data of the last stage that has it."""
    for one in stages[::-1]:
        at = points(one.log, held_out(key))
        if at.first is not None and at.last is not None:
            yield name, (label(at.last), f"from {label(at.first)}")
            return


def accuracy(stages: list[Seen]) -> Iterator[tuple[str, tuple[str, str]]]:
    """How often the newest judge is right."""
    for one in stages[::-1]:
        if (last := points(one.log, held_out("accuracy")).last) is not None:
            yield "pairs judged right", (f"{last:.0%}", one.name)
            return


def rewards(stages: list[Seen]) -> Iterator[tuple[str, tuple[str, str]]]:
    """What the last PPO reached."""
    for one in stages[::-1]:
        at = points(one.log, trained("reward"))
        if at.first is not None and at.last is not None:
            yield "reward", (label(at.last), f"from {label(at.first)}")
            return


# -- sections of several stages --------------------------------------------------------------------


def answers_section(run: RunSeen) -> Iterator[str]:
    """The same prompts answered by each model, those of all stages that asked."""
    troubles: list[str] = []
    asked: dict[str, dict[str, str]] = {}
    for one in run.stages:
        found = read_json(one.folder / ANSWERS, troubles) if one.folder else None
        for row in listed(found):
            answers = {str(k): str(v) for k, v in mapping(row.get("answers")).items()}
            asked.setdefault(str(row.get("prompt", "")), {}).update(answers)
    yield from (notice("Answers", text) for text in troubles)
    if asked:
        yield "<p>The likeliest answer of each model to the same prompts.</p>"
    for prompt, answers in asked.items():
        yield text_figure(prompt, answers.items())


def evaluations(run: RunSeen) -> Iterator[str]:
    """What was measured of models, by every stage that did."""
    troubles: list[str] = []
    for one in run.stages:
        found = read_json(one.folder / EVALUATION, troubles) if one.folder else None
        if found is not None:
            yield part(f"Evaluation by {one.name}", partial(evaluation_section, found))
    yield from (notice("Evaluation", text) for text in troubles)

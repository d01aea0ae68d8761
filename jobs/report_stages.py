"""The part of a run's report that shows one stage: its figures, curves, falls and texts."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jobs.report_read import EVALUATION, RunSeen, Seen, mapping, read_json
from llm.corpus_config import CorpusConfig, SourceConfig
from llm.corpus_report import bar
from llm.corpus_tables import summary, tables
from llm.falls_report import falls_section, goodput_tile, marks
from llm.ledger import Ledger
from llm.metrics import Event, duration, quantity, size_of
from llm.page import lowered, shown
from llm.page_parts import notice, part, table
from llm.panels import SECTIONS, Panel, curves_of
from llm.training_report import layer_maps, plot, samples, text_figure
from llm.training_report import notice as event_notice
from llm.training_report import summary as training_summary
from llm.training_report import tiles as training_tiles
from tune.config import DimensionConfig, SweepConfig
from tune.results import best, points_of
from tune.scaling import scaling_of
from tune.scaling_report import best_figure, foretold_figure, law_table, rungs_figure
from tune.space import short
from tune.sweep_report import drawings
from tune.sweep_report import summary as sweep_summary
from tune.sweep_report import tiles as sweep_tiles
from tune.trials import read_trials

CHOSEN = (
    "Reward",
    "Loss",
    "Filled in",
    "Given back",
    "Bits per byte",
    "Accuracy",
    "Margin",
    "Preference",
    "Divergence",
    "KL coefficient",
    "Entropy",
    "Length",
    "Learning rate",
    "Gradient norm",
    "Tokens per second",
)
"""Panels that tell the story; a stage's own report has all."""

MOST_NOTICES = 5
"""Of guards and faults of one stage; its own report has all."""

FIGURES = {
    "documents": "documents read",
    "kept": "documents kept",
    "train_documents": "documents to train on",
    "vocab_size": "tokens in the vocabulary",
    "bytes_per_token": "bytes per token",
    "coverage": "of characters covered",
    "tokens": "tokens",
    "samples": "samples",
    "architecture": "architecture",
    "dtype": "numbers",
    "bytes": "of files",
}
"""Metrics of stages without a course of their own, and what they are."""


def stage_section(run: RunSeen, seen: Seen) -> Iterator[str]:
    """All of one stage; each part stands or falls by itself."""
    state = f'<span class="state">{shown(seen.kind)}, {shown(seen.state)}</span>'
    yield f"<h2>{shown(seen.name)} {state}</h2>"
    yield f"<p>{whereabouts(run, seen)}</p>"
    yield from (notice("Not all of it is shown", text) for text in seen.troubles)
    parts = [part(f"{what} of {seen.name}", make) for what, make in parts_of(seen)]
    yield "".join(parts) or f"<p>{elsewhere(seen.folder)}</p>"


def elsewhere(folder: Path | None) -> str:
    """What is said of a stage that has nothing to show here."""
    measured = folder is not None and (folder / EVALUATION).exists()
    return "What it measured is below." if measured else "There is nothing to show yet."


def parts_of(seen: Seen) -> Iterator[tuple[str, Callable[[], Iterator[str]]]]:
    """What there is to show of a stage, by what it is."""
    assert seen.folder is not None
    if own := PARTS.get(seen.kind):
        yield "what it found", lambda: own(seen)
    elif not seen.log:
        yield "figures", lambda: plain_figures(seen)
    if seen.log and seen.kind not in ("sweep", "scaling"):
        yield "course", lambda: course(seen)
        yield "curves", lambda: curves(seen)
        yield "layers", lambda: (lowered(one) for one in layer_maps(seen.log))
        yield "falls", lambda: (lowered(one) for one in falls_section(seen.account))
        yield "samples", lambda: (lowered(one) for one in samples(seen.log))


def whereabouts(run: RunSeen, seen: Seen) -> str:
    """Its fingerprint, how long it took, and where all of it is told."""
    assert seen.folder is not None
    parts = [f"fingerprint {shown(seen.folder.name)}"]
    if seen.seconds:
        parts.append(f"{duration(seen.seconds)} of work")
    if (seen.folder / "report.html").exists():
        parts.append(f'<a href="{link(run.folder, seen.folder)}">its own report</a>')
    return ", ".join(parts)


def link(run: Path, stage: Path) -> str:
    """From the run's report to a stage's, beside it."""
    return quote(os.path.relpath(stage / "report.html", run))


# -- trainings -------------------------------------------------------------------------------------


def course(seen: Seen) -> Iterator[str]:
    """How far it came, what guards did, and its most important figures."""
    yield f"<p>{shown(training_summary(seen.log))}</p>"
    grave = [event for event in seen.log if event["event"] in ("guard", "fault")]
    yield from (event_notice(event) for event in grave[-MOST_NOTICES:])
    yield training_tiles(seen.log, goodput_tile(seen.account))


def curves(seen: Seen) -> Iterator[str]:
    """The panels that tell the story, with marks where it fell."""
    log: Sequence[Event] = [*seen.log, *marks(seen.account.falls)]
    panels = [panel for panels in SECTIONS.values() for panel in panels if panel.title in CHOSEN]
    found = [plot_of(panel, log) for panel in panels if curves_of(panel, log)]
    if found:
        yield f'<h3>Curves</h3>\n<div class="plots">{"".join(found)}</div>'


def plot_of(panel: Panel, log: Sequence[Event]) -> str:
    """A panel, or why it cannot be drawn."""
    return part(panel.title, lambda: [plot(panel, log)])


# -- other stages ----------------------------------------------------------------------------------


def corpus(seen: Seen) -> Iterator[str]:
    """The data card's tables."""
    assert seen.folder is not None
    troubles: list[str] = []
    books = mapping(read_json(seen.folder / "ledger.json", troubles))
    yield from (notice("Books", text) for text in troubles)
    if not books:
        return
    ledgers = {name: Ledger.from_json(one) for name, one in books["sources"].items()}
    sources = {name: SourceConfig(**arranged(one)) for name, one in seen.spec["sources"].items()}
    config = CorpusConfig(sources=sources)
    yield f"<p>{shown(summary(ledgers))}</p>"
    yield bar(ledgers)
    for one in tables(config, ledgers):
        yield f"<h3>{shown(one.heading)}</h3>\n<p>{shown(one.note)}</p>"
        yield table(one.columns, one.rows, one.texts, one.heading)


def arranged(value: Any) -> Any:
    """A spec out of JSON as its records have it: lists are tuples there."""
    if isinstance(value, dict):
        return {key: arranged(inner) for key, inner in value.items()}
    return tuple(map(arranged, value)) if isinstance(value, list) else value


def sweep(seen: Seen) -> Iterator[str]:
    """The best values, how the trials went, and all points."""
    assert seen.folder is not None
    config = search_of(seen.spec)
    trials = read_trials(seen.folder)
    tried, leader = points_of(trials), best(trials, config)
    yield f"<p>{shown(sweep_summary(config, trials))}</p>"
    yield sweep_tiles(config, trials, leader)
    if leader is None:
        return
    yield "<h3>The best values</h3>"
    values = [[path, short(value)] for path, value in leader.point.items()]
    yield table(("field", "value"), values, 2, "the best values")
    yield from map(lowered, drawings(config, trials, tried, leader))


def search_of(spec: Mapping[str, Any]) -> SweepConfig:
    """The search that a manifest tells of."""
    known = {one.name: arranged(spec[one.name]) for one in fields(SweepConfig) if one.name in spec}
    space = {path: DimensionConfig(**one) for path, one in known["space"].items()}
    return SweepConfig(**{**known, "space": space})


def scaling(seen: Seen) -> Iterator[str]:
    """The ladder and its law."""
    from jobs.ladder import trainings_of

    assert seen.folder is not None
    law = mapping(seen.metrics.get("law"))
    if "text" in law:
        yield f"<p>{shown(law['text'])}.</p>"
    found = scaling_of(trainings_of(read_trials(seen.folder)), seen.spec["predict"], times=0)
    figures = f"{rungs_figure(found)}{best_figure(found)}{foretold_figure(found)}"
    yield f'<h3>The ladder</h3>\n<div class="plots">{figures}</div>'
    yield f"<h3>The law</h3>\n{law_table(found)}"


def generated(seen: Seen) -> Iterator[str]:
    """What it wrote to its prompts."""
    import json

    assert seen.folder is not None
    path = seen.folder / "samples.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    for row in map(json.loads, lines):
        yield text_figure(row["prompt"], [(seen.name, row["text"])])


def plain_figures(seen: Seen) -> Iterator[str]:
    """The figures of a stage that has no course."""
    rows = [
        [words, worded(key, seen.metrics[key])]
        for key, words in FIGURES.items()
        if isinstance(seen.metrics.get(key), int | float | str)
    ]
    if rows:
        yield table(("figure", "value"), rows, 1, "figures")


def worded(key: str, value: Any) -> str:
    """A figure for people."""
    if key == "bytes":
        return size_of(value)
    if key == "coverage":
        return f"{value:.2%}"
    if isinstance(value, int):
        return f"{value:,}" if value < 10**6 else quantity(value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


PARTS: Mapping[str, Callable[[Seen], Iterator[str]]] = {
    "corpus": corpus,
    "sweep": sweep,
    "scaling": scaling,
    "generate": generated,
}
"""Stages that are shown in a way of their own."""

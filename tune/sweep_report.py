"""report.html of a sweep: what did best, how all trials went, what mattered.

Made of the trials' folders alone, at any time. One file that needs nothing else (llm/page.py).
"""

from collections.abc import Iterator, Sequence, Set
from pathlib import Path

from llm.files import write_atomic
from llm.metrics import duration, quantity
from llm.page import page, shown
from llm.plots import label
from llm.training_report import STYLE, framed
from tune.config import SweepConfig
from tune.importance import Importance, importance_of
from tune.pairs import by_pairs
from tune.results import Tried, best, figures_of, front, objectives, points_of
from tune.space import short
from tune.sweep_plots import KEY, draw_curves, draw_field, draw_parallel
from tune.trials import Trial, read_trials, seconds_at_work, spent

NEAR = 0.02
"""Points whose figure is worse than the best by this share at most are as good as it."""

TRUSTED = 0.2
"""Share of the variance that a forest must explain for its shares to be shown as knowledge."""

OWN = """
.bars { display: grid; grid-template-columns: minmax(0, auto) 1fr 3rem; gap: .35rem .75rem;
  align-items: center; max-width: 46rem; font-size: .9rem; }
.bars span { overflow-wrap: anywhere; }
.bars i { display: block; height: .8rem; border-radius: .15rem; background: var(--held);
  width: var(--share); min-width: 1px; }
.bars b { font-weight: 400; text-align: right; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { color: var(--soft); font-weight: 600; }
tr.best td { color: var(--kept); font-weight: 600; }
"""


def write_sweep_report(folder: Path, config: SweepConfig, title: str) -> Path:
    """Write report.html of the sweep in a folder."""
    path = folder / "report.html"
    write_atomic(path, sweep_page(title, config, read_trials(folder)))
    return path


def sweep_page(title: str, config: SweepConfig, trials: Sequence[Trial]) -> str:
    """The whole page."""
    tried, leader = points_of(trials), best(trials, config)
    body = [
        f"<h1>{shown(title)}</h1>",
        f"<p>{shown(summary(config, trials))}</p>",
        tiles(config, trials, leader),
        *failures(trials),
        best_values(config, trials, leader),
        *drawings(config, trials, tried, leader),
        *mattered(config, tried),
        *by_field(config, tried, leader),
        *by_pairs(config, tried),
        all_trials(config, trials, leader),
    ]
    return page(title, STYLE + OWN, "\n".join(part for part in body if part))


def summary(config: SweepConfig, trials: Sequence[Trial]) -> str:
    """How many of what, in which time."""
    counts = {status: sum(one.status == status for one in trials) for status in WORDS}
    parts = [f"{count} {WORDS[status]}" for status, count in counts.items() if count]
    tokens = quantity(sum(spent(trial.log) for trial in trials))
    time = duration(seconds_at_work(trials))
    how = f"search {config.search}, scheduler {config.scheduler}"
    return f"{len(trials)} trials ({how}): {', '.join(parts)}. {tokens} tokens in {time}."


WORDS = {
    "done": "went all the way",
    "stopped": "stopped early",
    "failed": "failed",
    "unfinished": "under way",
}


def tiles(config: SweepConfig, trials: Sequence[Trial], leader: Tried | None) -> str:
    """The figures of the best point, and what stopping early has saved."""
    found = []
    if leader is not None:
        for metric, mode in objectives(config).items():
            value = leader.figure(metric)
            if value is not None:
                words = "the least" if mode == "min" else "the most"
                found.append((metric, label(value), words if metric == config.metric else ""))
    whole = max((trial.tokens for trial in trials), default=0)
    used = sum(spent(trial.log) for trial in trials)
    if whole and any(trial.status == "stopped" for trial in trials):
        saved = 1 - used / (whole * len(trials))
        found.append(("tokens saved", f"{saved:.0%}", "by stopping early"))
    items = "".join(
        f"<li><span>{shown(name)}</span><b>{text}</b><small>{note}</small></li>"
        for name, text, note in found
    )
    return f'<ul class="tiles">{items}</ul>' if items else ""


def best_values(config: SweepConfig, trials: Sequence[Trial], leader: Tried | None) -> str:
    """The values that did best; of several figures, all trade-offs."""
    if leader is None:
        return ""
    several = front(trials, config) if config.also else []
    chosen = several or [leader]
    if len(chosen) == 1:
        rows = [[path, short(value)] for path, value in chosen[0].point.items()]
        return f"<h2>The best values</h2>\n{table(('field', 'value'), rows)}"
    rows = [
        [figure_text(one.figure(metric)) for metric in objectives(config)]
        + [short(one.point.get(path)) for path in config.space]
        for one in chosen
    ]
    return f"<h2>The best trade-offs</h2>\n{table([*objectives(config), *config.space], rows)}"


def failures(trials: Sequence[Trial]) -> Iterator[str]:
    """The errors of failed trials."""
    for trial in trials:
        if trial.status == "failed":
            name = f"trial {trial.number} ({trial.name}) failed"
            yield f'<p class="notice"><b>{name}</b>: {shown(trial.result["error"])}</p>'


def drawings(
    config: SweepConfig, trials: Sequence[Trial], tried: Sequence[Tried], leader: Tried | None
) -> Iterator[str]:
    """Curves and parallel coordinates, if there are figures."""
    if leader is None:
        return
    value = figure_text(leader.figure(config.metric))
    present = {
        name: colour
        for name, colour in KEY.items()
        if name != "stopped early" or not all(one.whole for one in tried)
    }
    note = "By tokens trained on. A dot is where a trial was stopped; the best is thicker."
    curves = framed(
        shown(config.metric), value, draw_curves(trials, leader, config.metric), present, note
    )
    note = "Each line is a point: its values from the top to what it reached at the bottom."
    lines = framed(
        "All points", f"{len(tried)}", draw_parallel(tried, leader, config), present, note
    )
    yield f'<h2>How the trials went</h2>\n<div class="plots">{curves}{lines}</div>'


def mattered(config: SweepConfig, tried: Sequence[Tried]) -> Iterator[str]:
    """What mattered, and how far that is known."""
    known = [(one.point, figures[0]) for one in tried if (figures := figures_of(one, config))]
    found = importance_of(config.space, [p for p, _ in known], [f for _, f in known])
    if found is None or len(config.space) < 2:
        return
    yield "<h2>What mattered</h2>"
    yield f"<p>{trust(found, len(known))}</p>"
    yield f'<div class="bars">{"".join(bar(*item) for item in found.shares.items())}</div>'


def trust(found: Importance, count: int) -> str:
    """What the shares mean, and how much they are worth."""
    text = "How much worse a forest foretells a trial when a field's values are shuffled."
    if found.explained < TRUSTED:
        return f"{text} With these {count} points it foretells little: do not rely on this."
    return f"{text} It explains {found.explained:.0%} of how trials it had not seen differ."


def bar(path: str, share: float) -> str:
    """A field's share."""
    return f'<span>{shown(path)}</span><i style="--share: {share:.1%}"></i><b>{share:.0%}</b>'


def by_field(config: SweepConfig, tried: Sequence[Tried], leader: Tried | None) -> Iterator[str]:
    """The figure against each field, and where it is as good as the best."""
    if leader is None:
        return
    figures = [
        framed(
            shown(path),
            shown(short(leader.point.get(path))),
            draw_field(tried, leader, config, path),
            {},
            shown(near(config, tried, leader, path)),
        )
        for path in config.space
    ]
    yield f'<h2>Around the best</h2>\n<div class="plots">{"".join(figures)}</div>'


def near(config: SweepConfig, tried: Sequence[Tried], leader: Tried, path: str) -> str:
    """`3 points within 2% of the best: 0.001 to 0.004`"""
    top = leader.figure(config.metric)
    assert top is not None
    close = [
        one.point[path]
        for one in tried
        if path in one.point
        and (value := one.figure(config.metric)) is not None
        and abs(value - top) <= NEAR * abs(top)
        and one.whole == leader.whole
    ]
    if not close:
        return "The best point does not have it."
    if all(isinstance(value, int | float) for value in close):
        low, high = short(min(close)), short(max(close))
        span = low if low == high else f"{low} to {high}"
    else:
        span = ", ".join(sorted({short(value) for value in close}))
    points = "The best point alone" if len(close) == 1 else f"{len(close)} points"
    return f"{points} within {NEAR:.0%} of the best: {span}."


def all_trials(config: SweepConfig, trials: Sequence[Trial], leader: Tried | None) -> str:
    """Every trial in a line."""
    columns = ["#", "status", "tokens", *objectives(config), *config.space, "trial"]
    rows, marked = [], set()
    for index, trial in enumerate(trials):
        rows.append(
            [
                str(trial.number),
                WORDS[trial.status] + (f" ({trial.result['by']})" if "by" in trial.result else ""),
                quantity(trial.tokens),
                *(figure_text(trial.figure(metric)) for metric in objectives(config)),
                *(short(trial.point.get(path)) for path in config.space),
                trial.name,
            ]
        )
        if leader is not None and trial.number == leader.number:
            marked.add(index)
    return f"<h2>All trials</h2>\n{table(columns, rows, marked)}"


def table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], marked: Set[int] = frozenset()
) -> str:
    """A table that scrolls where the page is narrow."""
    head = "".join(f"<th>{shown(column)}</th>" for column in columns)
    lines = "".join(
        f"<tr{' class=best' if index in marked else ''}>"
        + "".join(f"<td>{shown(text)}</td>" for text in row)
        + "</tr>"
        for index, row in enumerate(rows)
    )
    return f'<div class="scroll" tabindex="0"><table><tr>{head}</tr>{lines}</table></div>'


def figure_text(value: float | None) -> str:
    """A figure for people; a dash where there is none."""
    return "–" if value is None else f"{value:.4g}"

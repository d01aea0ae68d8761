"""report.html of an evaluation: every figure with its interval drawn, differences, calibration, and
items as they went. One file that needs nothing else (llm/page.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from llm.files import write_atomic
from llm.page import page, shown

STYLE = """
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: .4rem; }
table { border-collapse: collapse; width: 100%; font-size: .875rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .7rem; text-align: left; vertical-align: middle;
  border-top: 1px solid var(--line); }
tr:first-child th { border-top: 0; background: var(--card); font-weight: 600; }
td.number { text-align: right; white-space: nowrap; }
td.drawn { min-width: 12rem; width: 40%; }
td small { color: var(--soft); }
svg { display: block; width: 100%; height: 1.1rem; overflow: visible; }
svg line { stroke: var(--held); stroke-width: 2.5; }
svg circle { fill: var(--held); }
svg line.zero { stroke: var(--line); stroke-width: 1.5; }
.better svg line:not(.zero) { stroke: var(--kept); } .better svg circle { fill: var(--kept); }
.worse svg line:not(.zero) { stroke: var(--lost); } .worse svg circle { fill: var(--lost); }
.items { display: grid; gap: .75rem; margin-top: .5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); }
.items figure { margin: 0; }
"""

EACH = 3
"""Items that are shown of a measurement, right and wrong."""

LONG = 600
"""Characters of a text on the page."""

Row = Mapping[str, Any]


def write_report(
    folder: Path, title: str, evaluation: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]
) -> Path:
    """Write report.html; returns where it is."""
    path = folder / "report.html"
    body = [
        f"<h1>{shown(title)}</h1>",
        "<p>Each line is a figure with the interval that holds it with 95% probability, as far as "
        "chance in the choice of items goes.</p>",
        *figures(evaluation["rows"]),
        *compared(evaluation["differences"]),
        *calibrated(evaluation["calibration"]),
        *items(parts),
    ]
    write_atomic(path, page(title, STYLE, "\n".join(body)))
    return path


def figures(rows: Sequence[Row]) -> Iterator[str]:
    """A table for each task, a line for each metric and model."""
    by_task: dict[str, list[Row]] = {}
    for row in rows:
        by_task.setdefault(row["task"], []).append(row)
    for task, own in by_task.items():
        order = list(dict.fromkeys(row["metric"] for row in own))
        own.sort(key=lambda row: order.index(row["metric"]))
        yield f"<h2>{shown(task)}</h2>"
        lines = []
        for _, group in groupby(own, key=lambda row: row["metric"]):
            of_metric = list(group)
            ends = scale(of_metric)
            lines += [figure_line(row, ends, not number) for number, row in enumerate(of_metric)]
        yield grid(("metric", "model", "figure", "", "examples"), lines)
        yield from notes(own)


def notes(rows: Sequence[Row]) -> Iterator[str]:
    """What is to be known of figures, each sentence once, with the models that it is about."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row["note"]:
            found.setdefault(row["note"], []).append(f"{row['metric']} of {row['model']}")
    for note, who in found.items():
        yield f"<p>{shown(', '.join(who).replace('_', ' '))}: {shown(note)}.</p>"


def figure_line(row: Row, ends: tuple[float, float], first: bool) -> str:
    """A row of the table of figures."""
    metric = f"{row['metric']}".replace("_", " ") if first else ""
    better = f" <small>{row['better']} is better</small>" if first else ""
    return (
        f"<tr><td>{shown(metric)}{better}</td><td>{shown(row['model'])}</td>"
        f'<td class="number">{written(row)}</td><td class="drawn">{drawn(row, ends)}</td>'
        f'<td class="number">{row["examples"]:,}</td></tr>'
    )


def compared(differences: Sequence[Row]) -> Iterator[str]:
    """What the first model has more than the others."""
    if not differences:
        return
    yield "<h2>Differences</h2>"
    yield (
        "<p>On the same items, so what is hard for both does not count. Green is better, orange "
        "worse; where the line crosses the middle, chance alone may be the reason.</p>"
    )
    lines = []
    for row in differences:
        most = max(abs(row["low"]), abs(row["high"])) or 1.0
        sure = row["low"] > 0 or row["high"] < 0
        good = (row["value"] > 0) == (row["better"] == "higher")
        kind = (' class="better"' if good else ' class="worse"') if sure else ""
        who = f"{row['model']} against {row['other']}"
        lines.append(
            f"<tr{kind}><td>{shown(row['task'])}</td>"
            f"<td>{shown(row['metric'].replace('_', ' '))}</td><td>{shown(who)}</td>"
            f'<td class="number">{written(row, sign="+")}</td>'
            f'<td class="drawn">{drawn(row, (-most, most))}</td></tr>'
        )
    yield grid(("task", "metric", "models", "difference", ""), lines)


def calibrated(calibration: Sequence[Row]) -> Iterator[str]:
    """How sure models are of their choices, and how often they are right."""
    if not calibration:
        return
    yield "<h2>Calibration</h2>"
    yield (
        "<p>Choices by how sure the model is of them (its likeliest choice's share of the "
        "probability of all). Of a calibrated model as many are right as it is sure.</p>"
    )
    lines = [
        f"<tr><td>{shown(one['task'])}</td><td>{shown(one['model'])}</td>"
        f'<td class="number">{100 * part["confidence"]:.0f}%</td>'
        f'<td class="number">{100 * part["accuracy"]:.0f}%</td>'
        f'<td class="number">{part["examples"]:,}</td></tr>'
        for one in calibration
        for part in one["bins"]
    ]
    table = grid(("task", "model", "sure", "right", "choices"), lines)
    yield f"<details><summary>{len(lines)} lines</summary>{table}</details>"


def items(parts: Sequence[Row]) -> Iterator[str]:
    """A few items of each measurement as they went."""
    yield "<h2>Items</h2>"
    yield "<p>A few of each; all of them are in examples.jsonl.</p>"
    for part in parts:
        chosen = few(part["examples"])
        if chosen:
            title = f"{shown(part['task'])}: {shown(part['model'])}"
            cards = "".join(card(one) for one in chosen)
            yield f'<details><summary>{title}</summary><div class="items">{cards}</div></details>'


def few(examples: Sequence[Row]) -> list[Row]:
    """The first ones that were right, and the first that were wrong."""
    right = [one for one in examples if one.get("right", True)][:EACH]
    return right + [one for one in examples if not one.get("right", True)][:EACH]


def card(example: Row) -> str:
    """What was asked, what came."""
    lines = [f"{name}: {value}" for name, value in example.items()]
    text = "\n".join(line if len(line) <= LONG else line[:LONG] + " ..." for line in lines)
    return f"<figure><pre>{shown(text)}</pre></figure>"


# -- drawing ---------------------------------------------------------------------------------------


def grid(head: Sequence[str], lines: Sequence[str]) -> str:
    """A table that scrolls by itself if it is wide."""
    cells = "".join(f"<th>{shown(one)}</th>" for one in head)
    return f'<div class="scroll"><table>\n<tr>{cells}</tr>\n{"".join(lines)}\n</table></div>'


def scale(rows: Sequence[Row]) -> tuple[float, float]:
    """From where to where intervals are drawn: all of them, with a little room."""
    low, high = min(row["low"] for row in rows), max(row["high"] for row in rows)
    room = 0.1 * (high - low) or abs(high) or 1.0
    return low - room, high + room


def drawn(row: Row, ends: tuple[float, float]) -> str:
    """An interval as a line with a dot for the figure."""
    low, value, high = (place(row[key], ends) for key in ("low", "value", "high"))
    zero = ""
    if ends[0] < 0 < ends[1]:
        at = place(0, ends)
        zero = f'<line class="zero" x1="{at}%" x2="{at}%" y1="0%" y2="100%"/>'
    return (
        f'<svg role="img" aria-label="{shown(written(row))}">{zero}'
        f'<line x1="{low}%" x2="{high}%" y1="50%" y2="50%"/>'
        f'<circle cx="{value}%" cy="50%" r="4"/></svg>'
    )


def place(value: float, ends: tuple[float, float]) -> float:
    """Where a value lies, in percent."""
    low, high = ends
    return round(100 * (value - low) / (high - low), 2)


def written(row: Row, sign: str = "") -> str:
    """`61.2% (55.1 to 67.0)`"""
    value, low, high = row["value"], row["low"], row["high"]
    if row["unit"] == "share":
        return f"{100 * value:{sign}.1f}% ({100 * low:{sign}.1f} to {100 * high:{sign}.1f})"
    return f"{value:{sign}.4g} ({low:{sign}.4g} to {high:{sign}.4g})"

"""The part of a report that tells how good models are: figures with their intervals drawn.

Of evaluation.json: {"rows": [{"model", "task", "metric", "value", "low", "high", "examples",
"unit", "better", "note"}, ...], "differences": [the like with "other"], "calibration": [...]}.
Intervals of one task share a scale, so what overlaps is seen. A row that is not like that is
counted and left out.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from llm.metrics import quantity
from llm.page import shown
from llm.page_parts import cells, framed_table, notice, table

Row = Mapping[str, Any]

SHARES = ("share", "%")
"""Units of what lies between 0 and 1."""

BIN = ("confidence", "accuracy")

STYLE = """
.interval { position: relative; display: block; height: 1.3rem; min-width: 7rem; width: 100%;
  background: linear-gradient(var(--line), var(--line)) center / 100% 1px no-repeat; }
.interval i { position: absolute; left: var(--low); right: calc(100% - var(--high)); top: .5rem;
  height: .3rem; min-width: 1px; border-radius: .15rem; background: var(--held); opacity: .45; }
.interval b { position: absolute; left: calc(var(--at) - .25rem); top: .4rem; width: .5rem;
  height: .5rem; border-radius: 50%; background: var(--held); }
.better :is(i, b) { background: var(--kept) !important; }
.worse :is(i, b) { background: var(--lost) !important; }
.scroll :is(th, td).drawn { width: 40%; min-width: 8rem; padding-right: 1rem; }
"""


def evaluation_section(evaluation: Any) -> Iterator[str]:
    """All tasks, their models below each other; who differs from whom; how sure they are."""
    rows = evaluation["rows"]
    known = [row for row in rows if is_row(row)]
    if len(known) < len(rows):
        yield notice("Evaluation", f"{len(rows) - len(known)} of {len(rows)} rows are not readable")
    key = lambda row: (row["task"], row["metric"])  # noqa: E731
    order = {name: at for at, name in reversed(list(enumerate(map(key, known))))}
    for (task, metric), group in groupby(sorted(known, key=lambda r: order[key(r)]), key):
        yield from task_part(task, metric, list(group))
    yield from compared([one for one in evaluation.get("differences", ()) if is_row(one)])
    yield from calibrated(evaluation.get("calibration", ()))


def is_row(row: Any) -> bool:
    """Whether it has what every row has."""
    if not isinstance(row, dict):
        return False
    named = all(isinstance(row.get(key), str) for key in ("model", "task", "metric"))
    return named and number(row.get("value")) is not None


def number(value: Any) -> float | None:
    """A finite number, or None."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if plain and math.isfinite(value) else None


def task_part(task: str, metric: str, rows: Sequence[Row]) -> Iterator[str]:
    """One figure of one task, a model a line."""
    low, high = scale(rows)
    yield f"<h3>{shown(task)}: {shown(metric)}</h3>"
    yield f"<p>{shown(about(rows[0], low, high))}</p>"
    lines = "\n".join(line(row, low, high, (row["model"],)) for row in rows)
    yield framed_table(("model", "value", "95% interval", "examples"), lines, 1, task)
    yield from (f"<p>{shown(note)}</p>" for note in notes(rows))


def about(row: Row, low: float, high: float) -> str:
    """`In bits per byte, lower is better; drawn from 1.9 to 2.3.`"""
    plain = row.get("unit") in (None, "", row["metric"], *SHARES)
    unit = "" if plain else f"In {row['unit']}, "
    better = f"{row['better']} is better; " if row.get("better") else ""
    text = f"{unit}{better}drawn from {told(low, row)} to {told(high, row)}."
    return text[0].upper() + text[1:]


def notes(rows: Sequence[Row]) -> Iterator[str]:
    """What is remarked of rows, each remark once; of some only: with the names of their models."""
    remarks: dict[str, list[str]] = {}
    for row in rows:
        if row.get("note"):
            remarks.setdefault(str(row["note"]), []).append(row["model"])
    for note, models in remarks.items():
        yield note if len(models) == len(rows) else f"{', '.join(models)}: {note}"


def scale(rows: Sequence[Row]) -> tuple[float, float]:
    """From where to where intervals are drawn: a share from 0 to 1, else what there is."""
    values = [v for row in rows for key in ("low", "value", "high") if (v := number(row.get(key)))]
    values += [number(row["value"]) or 0.0 for row in rows]
    low, high = min(values), max(values)
    if rows[0].get("unit") in SHARES and low >= 0 and high <= 1:
        return 0.0, 1.0
    room = 0.05 * (high - low) or max(abs(high), 1.0) * 0.05
    return low - room, high + room


def line(row: Row, low: float, high: float, words: Sequence[str], kind: str = "") -> str:
    """A row of a table, its interval on a scale from low to high."""
    value = number(row["value"])
    assert value is not None, "is_row has looked"
    ends = number(row.get("low")), number(row.get("high"))
    examples = number(row.get("examples"))
    count = f"{examples:,.0f}" if examples is not None else ""
    plain = cells("td", map(shown, (*words, told(value, row))), len(words))
    drawn = interval(value, ends, (low, high), row)
    return f'<tr class="{kind}">{plain}<td class="drawn">{drawn}</td><td>{count}</td></tr>'


def interval(
    value: float, ends: tuple[float | None, float | None], scale: tuple[float, float], row: Row
) -> str:
    """A value as a dot and its interval as a bar, and both in words."""

    def place(at: float) -> str:
        share = (at - scale[0]) / (scale[1] - scale[0])
        return f"{min(1.0, max(0.0, share)):.2%}"

    at, words, bar = f"--at: {place(value)}", told(value, row), ""
    if ends[0] is not None and ends[1] is not None:
        at += f"; --low: {place(ends[0])}; --high: {place(ends[1])}"
        words, bar = f"{told(ends[0], row)} to {told(ends[1], row)}", "<i></i>"
    return (
        f'<span class="interval" role="img" aria-label="{shown(words)}" style="{at}">'
        f"{bar}<b></b></span><small>{shown(words) if bar else 'no interval'}</small>"
    )


def written(row: Row, sign: str = "") -> str:
    """`61.2% (55.1% to 67.0%)`"""
    value, low, high = (told(row[key], row, sign) for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def told(value: float, row: Row, sign: str = "") -> str:
    """A share in percent, anything else as a number."""
    if row.get("unit") in SHARES:
        return f"{value:{sign}.1%}"
    return f"{value:{sign}.4g}" if abs(value) < 1000 else quantity(value)


def compared(differences: Sequence[Row]) -> Iterator[str]:
    """What the first model has more than each other one, drawn from the middle."""
    if not differences:
        return
    yield "<h3>Differences</h3>"
    yield (
        "<p>On the same items, so what is hard for both does not count. Green is better, orange "
        "worse; where the line crosses the middle, chance alone may be the reason.</p>"
    )
    head = ("models", "value", "95% interval", "examples")
    lines = "\n".join(difference(row) for row in differences)
    yield framed_table(("task", *head), lines, 2, "differences")


def difference(row: Row) -> str:
    """A row of the table of differences."""
    ends = [number(row.get(key)) or 0.0 for key in ("low", "value", "high")]
    most = max(map(abs, ends)) or 1.0
    task = f"{row['task']}: {row['metric']}"
    who = f"{row['model']} against {row.get('other', 'another')}"
    return line(row, -most, most, (task, who), judged(row))


def judged(row: Row) -> str:
    """`better` or `worse` where chance alone is not the reason."""
    low, value, high = (number(row.get(key)) for key in ("low", "value", "high"))
    if low is None or high is None or value is None or low <= 0 <= high:
        return ""
    return "better" if (value > 0) == (row.get("better") == "higher") else "worse"


def calibrated(calibration: Sequence[Any]) -> Iterator[str]:
    """How sure models are of their choices, and how often they are right."""
    lines = [
        (f"{one['task']}", f"{one['model']}", *(f"{part[key]:.0%}" for key in BIN), f"{count:,}")
        for one in calibration
        for part in one["bins"]
        if (count := part["examples"])
    ]
    if not lines:
        return
    yield "<h3>Calibration</h3>"
    yield (
        "<p>Choices by how sure the model is of them (its likeliest choice's share of the "
        "probability of all). Of a calibrated model as many are right as it is sure.</p>"
    )
    columns = ("task", "model", "sure", "right", "choices")
    made = table(columns, lines, 2, "calibration")
    yield f"<details><summary>{len(lines)} lines</summary>{made}</details>"

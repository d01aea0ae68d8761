"""report.html of an evaluation: every figure with its interval drawn, differences, calibration, and
items as they went. One file that needs nothing else (llm/page.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llm.evaluation_section import STYLE as SECTION_STYLE
from llm.evaluation_section import evaluation_section
from llm.files import write_atomic
from llm.page import page, shown
from llm.page_parts import STYLE as PARTS_STYLE

STYLE = """
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
    folder: Path, title: str, evaluation: Mapping[str, Any], parts: Sequence[Row]
) -> Path:
    """Write report.html; returns where it is."""
    path = folder / "report.html"
    body = [
        f"<h1>{shown(title)}</h1>",
        "<p>Each line is a figure with the interval that holds it with 95% probability, as far as "
        "chance in the choice of items goes.</p>",
        "<h2>Figures</h2>",
        *evaluation_section(evaluation),
        *items(parts),
    ]
    write_atomic(path, page(title, PARTS_STYLE + SECTION_STYLE + STYLE, "\n".join(body)))
    return path


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

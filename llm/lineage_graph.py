"""A drawing of what was made of what: stages below each other, arrows from each to what it became.

One column, so that it is read on a phone; what goes past other stages runs in lanes at the right,
as few as keep apart. SVG to stand inside a page (llm/page.py), whose colours it takes.
"""

from collections.abc import Sequence
from typing import NamedTuple

from llm.page import shown

WIDTH, HEIGHT, GAP, LANE, EDGE = 236, 58, 26, 13, 6
"""Of a box, between boxes, of a lane, and around all; in CSS pixels."""

MOST = {"name": 27, "note": 36, "mark": 36}
"""Characters that a box has room for."""

STYLE = """
.lineage { background: none; border: 0; padding: 0; }
.lineage svg { font-size: 11px; }
.lineage .box { fill: var(--card); stroke: var(--line); }
.lineage .elsewhere { fill: none; stroke-dasharray: 4 3; }
.lineage .way { fill: none; stroke: var(--soft); stroke-width: 1.3; }
.lineage .head { fill: var(--soft); }
.lineage text { fill: var(--soft); }
.lineage .name { fill: var(--text); font-size: 13px; font-weight: 600; }
.lineage .mark { font-family: ui-monospace, monospace; }
"""


class Node(NamedTuple):
    """Something that was made; `parents` are keys of what it was made of."""

    key: str
    name: str
    note: str
    mark: str
    parents: tuple[str, ...] = ()
    elsewhere: bool = False
    """Known by what was made of it alone."""


class Edge(NamedTuple):
    """From one row to a later one."""

    start: int
    end: int


def graph(nodes: Sequence[Node]) -> str:
    """The drawing; each node stands after its parents."""
    edges = edges_of(nodes)
    lanes = lanes_of([edge for edge in edges if edge.end > edge.start + 1])
    used = 1 + max(lanes.values(), default=-1)
    width = 2 * EDGE + WIDTH + (used * LANE + EDGE if used else 0)
    height = 2 * EDGE + len(nodes) * (HEIGHT + GAP) - GAP
    ways = "".join(way(edge, lanes.get(edge)) for edge in edges)
    boxes = "".join(box(at, node) for at, node in enumerate(nodes))
    return (
        f'<figure class="lineage"><svg viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="What was made of what" style="max-width: {width}px">{ways}{boxes}</svg>'
        "</figure>"
    )


def edges_of(nodes: Sequence[Node]) -> list[Edge]:
    """From parents to children; a parent that stands after its child is none."""
    rows = {node.key: at for at, node in enumerate(nodes)}
    found = {
        Edge(rows[parent], at)
        for at, node in enumerate(nodes)
        for parent in node.parents
        if rows.get(parent, at) < at
    }
    return sorted(found)


def lanes_of(edges: Sequence[Edge]) -> dict[Edge, int]:
    """A lane for each edge: short ones next to the boxes, and none on top of another's."""
    taken: list[list[Edge]] = []
    lanes: dict[Edge, int] = {}
    for edge in sorted(edges, key=lambda one: (one.end - one.start, one.start)):
        free = (at for at, there in enumerate(taken) if not any(meet(edge, one) for one in there))
        lane = next(free, len(taken))
        if lane == len(taken):
            taken.append([])
        taken[lane].append(edge)
        lanes[edge] = lane
    return lanes


def meet(one: Edge, other: Edge) -> bool:
    """Whether two edges run beside the same boxes."""
    return one.start < other.end and other.start < one.end


def top(row: int) -> int:
    """Of a box."""
    return EDGE + row * (HEIGHT + GAP)


def way(edge: Edge, lane: int | None) -> str:
    """A line with its head: straight down, or by its lane."""
    if lane is None:
        x, start, end = EDGE + WIDTH // 2, top(edge.start) + HEIGHT, top(edge.end)
        head = f"M{x - 4} {end - 7}h8l-4 7z"
        return f'<path class="way" d="M{x} {start}V{end - 6}"/><path class="head" d="{head}"/>'
    side, x = EDGE + WIDTH, EDGE + WIDTH + EDGE + lane * LANE + LANE // 2
    start, end = top(edge.start) + HEIGHT * 2 // 3, top(edge.end) + HEIGHT // 3
    line = f"M{side} {start}H{x}V{end}H{side + 6}"
    head = f"M{side + 7} {end - 4}v8l-7 -4z"
    return f'<path class="way" d="{line}"/><path class="head" d="{head}"/>'


def box(row: int, node: Node) -> str:
    """A stage."""
    x, y = EDGE + 10, top(row)
    dashed = " elsewhere" if node.elsewhere else ""
    texts = (("name", node.name, 19), ("note", node.note, 34), ("mark", node.mark, 49))
    words = "".join(
        f'<text class="{name}" x="{x}" y="{y + down}">{shown(cut(text, MOST[name]))}</text>'
        for name, text, down in texts
    )
    shape = f'x="{EDGE}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6"'
    return f'<rect class="box{dashed}" {shape}/>{words}'


def cut(text: str, most: int) -> str:
    """The beginning of a text that is too long."""
    return text if len(text) <= most else text[: most - 1] + "…"

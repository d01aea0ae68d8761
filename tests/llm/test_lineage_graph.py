"""The drawing of what was made of what: every arrow in a lane of its own, no box in its way."""

import re

from hypothesis import given
from hypothesis import strategies as st

from llm.lineage_graph import Edge, Node, edges_of, graph, lanes_of


def node(key: str, *parents: str) -> Node:
    return Node(key, key, "", "", parents)


def test_edges_lead_from_parents_to_children_once() -> None:
    nodes = [node("a"), node("b", "a"), node("c", "a", "b", "a", "nobody")]
    assert edges_of(nodes) == [Edge(0, 1), Edge(0, 2), Edge(1, 2)]


def test_a_parent_that_comes_later_or_is_its_own_child_is_none() -> None:
    assert edges_of([node("a", "a", "b"), node("b")]) == []


def test_short_ways_run_next_to_the_boxes() -> None:
    assert lanes_of([Edge(0, 5), Edge(1, 3), Edge(3, 5)]) == {
        Edge(1, 3): 0,
        Edge(3, 5): 0,
        Edge(0, 5): 1,
    }


@given(st.sets(st.tuples(st.integers(0, 12), st.integers(1, 12)).map(lambda t: Edge(t[0], sum(t)))))
def test_ways_of_one_lane_never_run_beside_the_same_box(edges: set[Edge]) -> None:
    lanes = lanes_of(sorted(edges))
    assert lanes.keys() == edges
    for lane in set(lanes.values()):
        beside = [row for e, at in lanes.items() if at == lane for row in range(e.start, e.end)]
        assert len(beside) == len(set(beside))


def test_everything_lies_within_the_picture_and_long_names_are_cut() -> None:
    nodes = [node("x" * 99), *(node(str(at), "x" * 99, str(at - 1)) for at in range(9))]
    svg = graph(nodes)
    width, height = map(int, re.findall(r'viewBox="0 0 (\d+) (\d+)"', svg)[0])
    xs = [int(x) for x in re.findall(r"H(\d+)", svg)]
    ys = [int(y) for y in re.findall(r"V(\d+)", svg)]
    assert max(xs) < width and max(ys) < height
    assert "x" * 27 not in svg and "x" * 26 + "…" in svg


def test_names_are_texts() -> None:
    assert "<script>" not in graph([node("<script>")])

"""Points: drawn by seed and number, in bounds, with conditions; and what a space cannot be."""

import math
import re

import pytest

from tune.config import DimensionConfig, ScalingConfig, SweepConfig
from tune.findings import scaling_findings, space_findings, sweep_findings
from tune.space import Space, draw, from_unit, grid, neighbour, perturbed, to_unit, values_of

SPACE: Space = {
    "momentum": DimensionConfig(uniform=(0.8, 0.99), when={"optim": ("sgd",)}),
    "optim": DimensionConfig(choice=("adam", "sgd")),
    "lr": DimensionConfig(loguniform=(1e-4, 1e-2)),
    "decay": DimensionConfig(quniform=(0.0, 0.3, 0.1)),
    "depth": DimensionConfig(randint=(2, 5)),
    "batch": DimensionConfig(grid=(8, 16, 32)),
}


def test_a_point_depends_on_seed_and_number_alone() -> None:
    assert draw(SPACE, 1, 17) == draw(SPACE, 1, 17)
    assert draw(SPACE, 1, 17) != draw(SPACE, 1, 18) != draw(SPACE, 2, 18)
    assert draw(SPACE, 1, 17) != draw(SPACE, 1, 17, attempt=1)


def test_a_field_that_is_added_changes_no_other() -> None:
    longer = {"new": DimensionConfig(uniform=(0.0, 1.0)), **SPACE}
    assert {k: v for k, v in draw(longer, 0, 3).items() if k != "new"} == draw(SPACE, 0, 3)


def test_draws_stay_in_bounds_and_reach_everything() -> None:
    points = [draw(SPACE, 0, number) for number in range(400)]
    assert all(1e-4 <= point["lr"] <= 1e-2 for point in points)
    below = sum(point["lr"] < 1e-3 for point in points)
    assert 150 < below < 250, "half of the factors lie below the geometric mean"
    assert {point["depth"] for point in points} == {2, 3, 4, 5}
    assert {point["decay"] for point in points} == {0.0, 0.1, 0.2, 0.3}
    assert {point["batch"] for point in points} == {8, 16, 32}


def test_a_condition_decides_whether_a_field_is_there_wherever_it_is_written() -> None:
    points = [draw(SPACE, 0, number) for number in range(50)]
    assert all(("momentum" in point) == (point["optim"] == "sgd") for point in points)
    assert list(points[0]) == [path for path in SPACE if path in points[0]]


def test_a_grid_has_every_point_once_and_no_value_where_it_has_no_say() -> None:
    space = {
        "optim": DimensionConfig(choice=("adam", "sgd")),
        "nesterov": DimensionConfig(grid=(True, False), when={"optim": ("sgd",)}),
        "depth": DimensionConfig(randint=(1, 2)),
    }
    assert grid(space) == [
        {"optim": "adam", "depth": 1},
        {"optim": "adam", "depth": 2},
        {"optim": "sgd", "nesterov": True, "depth": 1},
        {"optim": "sgd", "nesterov": True, "depth": 2},
        {"optim": "sgd", "nesterov": False, "depth": 1},
        {"optim": "sgd", "nesterov": False, "depth": 2},
    ]


@pytest.mark.parametrize("path", SPACE)
def test_positions_and_values_are_the_same_thing(path: str) -> None:
    dimension = SPACE[path]
    for position in (0.0, 0.25, 0.6, 1.0):
        value = from_unit(dimension, position)
        assert from_unit(dimension, to_unit(dimension, value)) == pytest.approx(value)
    assert from_unit(dimension, -3.0) == from_unit(dimension, 0.0)
    assert from_unit(dimension, 3.0) == from_unit(dimension, 1.0)


def test_quantised_values_are_written_as_people_write_them() -> None:
    assert values_of(DimensionConfig(quniform=(0.1, 0.75, 0.1))) == (
        0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7,
    )  # fmt: skip


def test_a_step_is_small_and_ends_at_the_bounds() -> None:
    lr = SPACE["lr"]
    assert neighbour(lr, 1e-3, up=True) == pytest.approx(1.2e-3)
    assert neighbour(lr, 1e-3, up=False) == pytest.approx(0.8e-3)
    assert neighbour(lr, 9.9e-3, up=True) == 1e-2
    assert neighbour(SPACE["batch"], 16, up=True) == 32 == neighbour(SPACE["batch"], 32, up=True)
    assert neighbour(SPACE["momentum"], 0.9, up=True) == pytest.approx(0.919)


def test_perturbing_keeps_conditions_and_depends_on_its_key() -> None:
    point = {"optim": "adam", "lr": 1e-3, "decay": 0.1, "depth": 3, "batch": 16}
    for copy in range(40):
        moved = perturbed(SPACE, point, 0.25, 0, copy)
        assert moved == perturbed(SPACE, point, 0.25, 0, copy)
        assert ("momentum" in moved) == (moved["optim"] == "sgd")
    calm = perturbed(SPACE, point, 0.0, 0, 1)
    assert float(calm["lr"]) in (pytest.approx(1.2e-3), pytest.approx(0.8e-3))


# -- what cannot be --------------------------------------------------------------------------------

WRONG = {
    "no values": (DimensionConfig(), "has no values; exactly one of uniform"),
    "two": (DimensionConfig(uniform=(0, 1), choice=("a",)), "has uniform, choice; exactly one"),
    "empty": (DimensionConfig(uniform=(0.3, 0.3)), r"\[0.3, 0.3\] is empty"),
    "log of 0": (DimensionConfig(loguniform=(0.0, 1.0)), "starts at 0, which has no logarithm"),
    "three ends": (DimensionConfig(uniform=(0, 1, 2)), r"must be \[low, high\], such as"),
    "step": (DimensionConfig(quniform=(0, 1, 2)), "steps of 2 do not fit between 0 and 1"),
    "no step": (DimensionConfig(quniform=(0, 1)), r"must be \[low, high, step\]"),
    "infinite": (DimensionConfig(uniform=(0, math.inf)), "finite"),
    "twice": (DimensionConfig(choice=("a", "b", "a")), "has 'a' twice"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_dimension_that_cannot_be_is_named(case: str) -> None:
    dimension, message = WRONG[case]
    (found,) = space_findings({"lr": dimension})
    assert found.keys == ("space", "lr")
    assert re.search(message, found.message), found.message


def test_conditions_on_nothing_and_in_circles_are_named() -> None:
    one, two = {"choice": (1, 2)}, DimensionConfig(choice=(1, 2))
    unknown = space_findings({"a": DimensionConfig(**one, when={"b": (1,)})})
    assert unknown[0].keys == ("space", "a", "when", "b") and "no field" in unknown[0].message
    never = space_findings({"a": DimensionConfig(**one, when={"b": (3,)}), "b": two})
    assert "3 is no value of b; it has 1, 2" in never[0].message
    endless = {"a": DimensionConfig(**one, when={"b": (3,)}), "b": DimensionConfig(uniform=(0, 1))}
    assert "has no single values" in space_findings(endless)[0].message
    circle = {
        "free": two,
        "a": DimensionConfig(**one, when={"free": (1,), "b": (1,)}),
        "b": DimensionConfig(**one, when={"c": (1,)}),
        "c": DimensionConfig(**one, when={"a": (1,)}),
    }
    (found,) = space_findings(circle)
    assert found.message == "goes round in a circle: a -> b -> c -> a"


def test_a_grid_without_end_or_cut_short_is_refused() -> None:
    endless = SweepConfig(space={"lr": DimensionConfig(uniform=(0, 1))}, search="grid")
    assert "has no end; write grid" in sweep_findings(endless)[0].message
    space = {"a": DimensionConfig(grid=(1, 2, 3)), "b": DimensionConfig(grid=(1, 2))}
    (short,) = sweep_findings(SweepConfig(space=space, search="grid", trials=5))
    assert short.keys == ("trials",) and "less than the grid's 6 points" in short.message
    assert sweep_findings(SweepConfig(space=space, search="grid")) == []


def test_a_population_is_refused_what_it_cannot_do() -> None:
    spec = SweepConfig(space=SPACE, scheduler="pbt", seeds=2, search="grid", trials=1)
    assert [found.keys for found in sweep_findings(spec)] == [("seeds",), ("search",), ("trials",)]
    assert sweep_findings(SweepConfig(space=SPACE, also={"bpb": "max"}))[0].keys == ("also", "bpb")


def test_a_ladder_without_enough_rungs_is_refused() -> None:
    spec = ScalingConfig(depths=(1, 2, 2), budgets=(1e12, 1e13, 1e14), predict=1e15)
    keys = [found.keys for found in scaling_findings(spec)]
    assert keys == [("depths",), ("budgets",)]

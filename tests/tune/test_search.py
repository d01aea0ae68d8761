"""Searches: the same after a fall, no point twice, TPE better than chance."""

import statistics

import pytest

from tests.tune.toys import SPACE, bowl
from tune.config import DimensionConfig, SweepConfig
from tune.search import Known, search_of, trials_of
from tune.space import Point


def found(config: SweepConfig, seed: int) -> list[Known]:
    """What a search has tried one after the other."""
    search, known = search_of(config, seed), []
    for number in range(trials_of(config)):
        point = search(number, known)
        if point is None:
            break
        known.append(Known(point, (bowl(point),)))
    return known


def least(known: list[Known]) -> float:
    return min(one.figures[0] for one in known if one.figures)


def test_optuna_within_16_trials_beats_the_median_of_chance_over_5_seeds() -> None:
    chance = [least(found(SweepConfig(space=SPACE, search="random"), s)) for s in range(40)]
    guided = [least(found(SweepConfig(space=SPACE, search="optuna"), s)) for s in range(5)]
    assert statistics.median(guided) < statistics.median(chance)


@pytest.mark.parametrize("kind", ["random", "optuna", "grid"])
def test_a_search_says_the_same_again_given_what_is_known(kind: str) -> None:
    space = SPACE if kind != "grid" else {"act": SPACE["act"], "n": DimensionConfig(randint=(1, 4))}
    config = SweepConfig(space=space, search=kind, trials="auto")  # type: ignore[arg-type]
    if kind == "grid":
        assert trials_of(config) == 12
        assert search_of(config, 0)(12, []) is None
        return
    before = found(config, 3)
    for number in (2, 7, 12):
        assert search_of(config, 3)(number, before[:number]) == before[number].point


@pytest.mark.parametrize("kind", ["random", "optuna"])
def test_no_point_is_tried_twice_and_a_small_space_ends(kind: str) -> None:
    space = {"a": DimensionConfig(choice=(1, 2, 3)), "b": DimensionConfig(grid=(1, 2))}
    search = search_of(SweepConfig(space=space, search=kind), 0)  # type: ignore[arg-type]
    known: list[Known] = []
    while (point := search(len(known), known)) is not None:
        known.append(Known(point, (float(point["a"]),)))
    assert len({tuple(one.point.items()) for one in known}) == len(known) == 6


def test_optuna_meets_conditions_points_under_way_and_failures() -> None:
    space = {
        "act": SPACE["act"],
        "lr": SPACE["lr"],
        "drop": SPACE["drop"],
        "slope": DimensionConfig(uniform=(0.0, 1.0), when={"act": ("relu",)}),
    }
    config = SweepConfig(space=space, trials=16)
    known = found(config, 0)
    known += [Known({"act": "gelu", "lr": 1e-3, "drop": 0.2}, None)]
    point: Point | None = search_of(config, 0)(17, known)
    assert point is not None and ("slope" in point) == (point["act"] == "relu")


def test_optuna_weighs_several_figures() -> None:
    config = SweepConfig(space=SPACE, metric="loss", also={"speed": "max"})
    search, known = search_of(config, 0), []
    for number in range(8):
        point = search(number, known)
        assert point is not None
        known.append(Known(point, (bowl(point), -float(point["drop"]))))

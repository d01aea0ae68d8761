"""What mattered is found, what did not is not made up."""

import numpy as np

from tune.config import DimensionConfig
from tune.importance import importance_of
from tune.space import draw

SPACE = {
    "lr": DimensionConfig(loguniform=(1e-4, 1e-1)),
    "drop": DimensionConfig(uniform=(0.0, 0.5)),
    "act": DimensionConfig(choice=("a", "b")),
    "deep": DimensionConfig(randint=(1, 4), when={"act": ("a",)}),
}
POINTS = [draw(SPACE, 0, number) for number in range(48)]


def test_the_field_that_decides_comes_first() -> None:
    figures = [abs(np.log10(point["lr"]) + 2.5) + 0.1 * point["drop"] for point in POINTS]
    found = importance_of(SPACE, POINTS, figures)
    assert found is not None
    assert next(iter(found.shares)) == "lr" and found.shares["lr"] > 0.7
    assert found.explained > 0.5
    assert abs(sum(found.shares.values()) - 1) < 1e-9


def test_a_figure_of_pure_chance_explains_nothing() -> None:
    figures = np.random.default_rng(1).normal(size=len(POINTS))
    found = importance_of(SPACE, POINTS, list(figures))
    assert found is not None and found.explained < 0.15


def test_one_diverged_trial_does_not_hide_the_rest() -> None:
    figures = [float(point["act"] == "a") for point in POINTS]
    figures[3] = 1e9
    found = importance_of(SPACE, POINTS, figures)
    assert found is not None and next(iter(found.shares)) in ("act", "deep")


def test_few_points_say_nothing() -> None:
    assert importance_of(SPACE, POINTS[:7], [1.0] * 7) is None

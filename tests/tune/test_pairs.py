"""Two fields together: one curve for each value of the second, and where each is lowest."""

from pathlib import Path

from tests.tune.folders import wrote
from tune.config import DimensionConfig, SweepConfig
from tune.pairs import best_of_each, by_pairs, curves_of
from tune.results import points_of
from tune.trials import read_trials

SPACE = {
    "a.lr": DimensionConfig(grid=(0.001, 0.01, 0.1)),
    "a.depth": DimensionConfig(grid=(2, 4)),
}
CONFIG = SweepConfig(space=SPACE, metric="loss", search="grid", scheduler="none")
FIGURES = {(0.001, 2): 3.0, (0.01, 2): 2.0, (0.1, 2): 4.0}
FIGURES |= {(0.001, 4): 1.5, (0.01, 4): 1.8, (0.1, 4): 5.0}


def write(root: Path, figures: dict[tuple[float, int], float]) -> None:
    for number, ((lr, depth), loss) in enumerate(figures.items()):
        wrote(root, number, {"a.lr": lr, "a.depth": depth}, [loss + 1, loss])


def test_the_field_with_more_values_lies_along_the_curves(tmp_path: Path) -> None:
    write(tmp_path, FIGURES)
    tried = points_of(read_trials(tmp_path))
    curves = curves_of(CONFIG, tried, "a.lr", "a.depth")
    assert curves == {
        2: {0.001: 3.0, 0.01: 2.0, 0.1: 4.0},
        4: {0.001: 1.5, 0.01: 1.8, 0.1: 5.0},
    }
    assert curves_of(CONFIG, tried, "a.depth", "a.lr") == {}
    text = best_of_each(CONFIG, curves, "a.lr", "a.depth")
    assert text == "Best a.lr: 0.01 at 2, 0.001 at 4 (a.depth)."
    [section] = by_pairs(CONFIG, tried)
    assert text in section


def test_a_grid_with_holes_has_no_curves(tmp_path: Path) -> None:
    write(tmp_path, {key: loss for key, loss in FIGURES.items() if key != (0.1, 4)})
    assert not list(by_pairs(CONFIG, points_of(read_trials(tmp_path))))

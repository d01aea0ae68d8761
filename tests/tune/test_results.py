"""What a sweep has found: best point, trade-offs, table, report."""

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from llm.page import POLICY
from tests.tune.folders import wrote, wrote_sweep
from tests.tune.test_scaling import CHINCHILLA, ladder
from tests.tune.toys import SPACE
from tune.config import DimensionConfig, SweepConfig
from tune.results import (
    best,
    dominates,
    front,
    known_points,
    lines,
    points_of,
    ranked,
    write_table,
)
from tune.scaling import scaling_of
from tune.scaling_report import scaling_page
from tune.sweep_report import near, sweep_page, write_sweep_report
from tune.trials import create, end, read_trials

CONFIG = SweepConfig(space=SPACE, metric="loss")


def point(drop: float) -> dict:
    return {"lr": 1e-3, "drop": drop, "act": "gelu"}


def test_a_whole_trial_is_better_than_any_that_was_stopped(tmp_path: Path) -> None:
    wrote(tmp_path, 0, point(0.1), [3.0, 2.0])
    wrote(tmp_path, 1, point(0.2), [1.0], "stopped", by="asha")
    wrote(tmp_path, 2, point(0.3), [3.0, 1.5])
    trials = read_trials(tmp_path)
    assert [one.number for one in ranked(trials, CONFIG)] == [2, 0, 1]
    most = SweepConfig(space=SPACE, metric="loss", mode="max")
    assert [one.number for one in ranked(trials, most)] == [0, 2, 1]


def test_a_diverged_or_failed_trial_is_never_the_best(tmp_path: Path) -> None:
    wrote(tmp_path, 0, point(0.1), [3.0])
    nan = wrote(tmp_path, 1, point(0.2), [1.0], "unfinished")
    end(nan, "done", metrics={"loss": None})
    wrote(tmp_path, 2, point(0.3), [0.1], "failed", error="x")
    found = best(read_trials(tmp_path), CONFIG)
    assert found is not None and found.number == 0
    assert best([], CONFIG) is None


def test_the_mean_over_seeds_counts(tmp_path: Path) -> None:
    for number, losses in enumerate([(1.0, 3.0), (1.9, 1.9)]):
        for seed, loss in enumerate(losses):
            trial = create(tmp_path, number, seed, point(0.1 * number))
            end(trial, "done", metrics={"loss": loss})
    found = best(read_trials(tmp_path), CONFIG)
    assert found is not None and (found.number, found.figure("loss")) == (1, 1.9)
    assert [one.figures for one in known_points(read_trials(tmp_path), CONFIG)] == [(2.0,), (1.9,)]


def test_the_front_has_those_that_nothing_beats_in_all(tmp_path: Path) -> None:
    config = SweepConfig(space=SPACE, metric="loss", also={"speed": "max"})
    for number, (loss, speed) in enumerate([(1.0, 5.0), (2.0, 9.0), (2.5, 8.0), (1.0, 4.0)]):
        trial = create(tmp_path, number, 0, point(0.1 * number))
        end(trial, "done", metrics={"loss": loss, "speed": speed})
    assert [one.number for one in front(read_trials(tmp_path), config)] == [0, 1]
    assert not dominates((1, 2), (1, 2)) and dominates((1, 1), (1, 2))


def test_the_table_has_a_row_for_each_trial_whatever_its_values_are(tmp_path: Path) -> None:
    wrote(tmp_path, 0, {"a": 1, "b": "x"}, [1.0])
    wrote(tmp_path, 1, {"a": 0.5, "b": 2}, [1.0], "failed", error="no")
    wrote(tmp_path, 2, {"a": 0.25}, [1.0], "stopped", by="asha")
    write_table(read_trials(tmp_path), tmp_path / "trials.parquet")
    rows = pq.read_table(tmp_path / "trials.parquet").to_pylist()
    assert [row["space.a"] for row in rows] == [1.0, 0.5, 0.25]
    assert [row["space.b"] for row in rows] == ['"x"', "2", None]
    assert [row["status"] for row in rows] == ["done", "failed", "stopped"]
    assert [row["metrics.loss"] for row in rows] == [1.0, 1.0, 1.0]


def test_a_line_of_the_live_table_says_how_a_trial_is(tmp_path: Path) -> None:
    wrote(tmp_path, 0, point(0.1), [3.0, 2.0], "stopped", by="asha")
    (line,) = lines(read_trials(tmp_path), CONFIG)
    assert line == ("0", "stopped (asha)", "2", "2", "0.001", "0.1", "gelu")


def test_a_trial_that_has_said_nothing_is_starting(tmp_path: Path) -> None:
    create(tmp_path, 0, 0, point(0.1))
    wrote(tmp_path, 1, point(0.2), [3.0], "unfinished")
    states = [line[1] for line in lines(read_trials(tmp_path), CONFIG)]
    assert states == ["starting", "under way"]


# -- report ----------------------------------------------------------------------------------------


def test_a_report_shows_best_stopped_and_failed_trials(tmp_path: Path) -> None:
    wrote_sweep(tmp_path, SPACE, 12)
    html = write_sweep_report(tmp_path, CONFIG, "sweep <1>").read_text()
    assert POLICY in html and "<script" not in html
    assert "<h1>sweep &lt;1&gt;</h1>" in html
    assert "6 went all the way, 5 stopped early, 1 failed" in html
    for heading in ("The best values", "How the trials went", "What mattered", "Around the best"):
        assert f"<h2>{heading}</h2>" in html
    assert html.count("<svg") == 2 + len(SPACE)
    assert "RuntimeError: &lt;b&gt;out of memory&lt;/b&gt;" in html
    assert "tokens saved" in html
    curves = re.search(r"<svg.*?</svg>", html, re.DOTALL)
    assert curves and "var(--lost)" in curves[0] and "var(--kept)" in curves[0]


@pytest.mark.parametrize("count", [0, 1])
def test_a_report_of_next_to_nothing_is_a_page(count: int, tmp_path: Path) -> None:
    wrote_sweep(tmp_path, SPACE, count)
    assert sweep_page("x", CONFIG, read_trials(tmp_path)).startswith("<!doctype html>")


def test_hostile_names_and_values_stay_text(tmp_path: Path) -> None:
    path = "a.$x_{1}$<script>"
    space = {path: DimensionConfig(choice=("<em>", "$\\frac{"))}
    wrote(tmp_path, 0, {path: "<em>"}, [2.0, 1.0])
    wrote(tmp_path, 1, {path: "$\\frac{"}, [2.0, 1.5])
    html = sweep_page("x", SweepConfig(space=space, metric="loss"), read_trials(tmp_path))
    assert "<script" not in html and "<em>" not in html and "&lt;em&gt;" in html


def test_values_as_good_as_the_best_are_told(tmp_path: Path) -> None:
    for number, loss in enumerate((1.0, 1.01, 1.5)):
        wrote(tmp_path, number, point(0.1 * (number + 1)), [loss])
    trials = read_trials(tmp_path)
    leader = best(trials, CONFIG)
    assert leader is not None
    text = near(CONFIG, points_of(trials), leader, "drop")
    assert text == "2 points within 2% of the best: 0.1 to 0.2."


def test_the_page_of_a_ladder_says_what_to_do_and_what_to_doubt() -> None:
    html = scaling_page("ladder", scaling_of(ladder(CHINCHILLA, 0.002), 1e21, times=20))
    assert "With 1e21 FLOPs" in html and "foretold loss" in html and html.count("<svg") == 3
    assert "largest rung, foretold by the others" in html
    far = scaling_page("ladder", scaling_of(ladder(CHINCHILLA), 1e24, times=0))
    assert "The budget is 100,000 times the largest rung." in far

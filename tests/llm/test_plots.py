"""Curves of a training: nothing is lost that matters, nothing missing breaks a drawing."""

import json
import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.metrics import Event
from llm.panels import (
    MOST_POINTS,
    SECTIONS,
    Panel,
    Points,
    curves_of,
    held_out,
    level_of,
    phase_seconds,
    points,
    smooth,
    thin,
    trained,
)
from llm.plots import draw_panel, draw_phases, is_noise, label

LOSS = Panel("Loss", "", (trained("loss"), held_out("loss")))


def steps(values: list[float], key: str = "loss") -> list[Event]:
    return [{"event": "step", "step": n, key: value} for n, value in enumerate(values, start=1)]


def of(values: list[float]) -> Points:
    return Points(np.arange(1.0, len(values) + 1), np.array(values))


def drawn(svg: str) -> ElementTree.Element:
    """A drawing as a tree; links inside of it need a name space that HTML has by itself."""
    return ElementTree.fromstring(svg.replace("<svg ", '<svg xmlns:xlink="x" ', 1))


# -- points ----------------------------------------------------------------------------------------


def test_a_figure_is_taken_from_its_own_kind_of_event_in_order_of_steps() -> None:
    log = [*reversed(steps([3.0, 2.0])), {"event": "validation", "step": 1, "loss": 9.0}]
    assert points(log, trained("loss")).values.tolist() == [3.0, 2.0]
    assert points(log, held_out("loss")).values.tolist() == [9.0]
    assert points(log, trained("bpb")).last is None


def test_a_step_logged_twice_counts_as_it_was_last() -> None:
    at = points([*steps([3.0, 2.0]), {"event": "step", "step": 2, "loss": 1.0}], trained("loss"))
    assert at.steps.tolist() == [1.0, 2.0]
    assert at.values.tolist() == [3.0, 1.0]


def test_first_and_last_pass_over_what_is_no_number() -> None:
    log = json.loads(json.dumps(steps([math.nan, 5.0, 4.0, math.inf])))  # as a log holds them
    log.append({"event": "step", "step": 5, "loss": None})
    at = points(log, trained("loss"))
    assert (at.first, at.last) == (5.0, 4.0)
    assert np.isnan(at.values).tolist() == [True, False, False, True, True]


@given(
    st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(math.nan)), min_size=1, max_size=300),
    st.integers(2, 20).map(lambda half: 2 * half),
)
def test_thinning_keeps_order_and_every_peak(values: list[float], most: int) -> None:
    thinned = thin(of(values), most)
    assert len(thinned.steps) <= most
    assert (np.diff(thinned.steps) > 0).all()
    for place, value in zip(thinned.steps, thinned.values, strict=True):
        assert np.array_equal(value, values[int(place) - 1], equal_nan=True)
    if np.isfinite(values).any():
        assert np.nanmax(thinned.values) == np.nanmax(values)
        assert np.nanmin(thinned.values) == np.nanmin(values)


def test_a_hundred_thousand_points_keep_their_one_spike() -> None:
    values = [1.0] * 100_000
    values[54_321] = 40.0
    thinned = thin(of(values))
    assert len(thinned.steps) <= MOST_POINTS
    assert thinned.steps[np.argmax(thinned.values)] == 54_322


def test_smoothing_is_the_mean_of_what_is_there() -> None:
    at = smooth(of([0.0, 3.0, math.nan, 3.0, 6.0, 3.0]), places=3)  # a window of three points
    assert at.values.tolist() == [1.5, 1.5, 3.0, 4.5, 4.0, 4.5]


def test_a_schedule_is_no_noise_and_a_noisy_loss_is() -> None:
    warmed_up = [min(n, 100 - n / 10) for n in range(500)]
    noisy = [n / 500 + n % 2 for n in range(500)]
    assert not is_noise(of(warmed_up))
    assert is_noise(of(noisy))
    assert not is_noise(of(noisy[:10]))


def test_seconds_of_phases_are_means_where_there_are_many() -> None:
    log: list[Event] = [
        {"event": "step", "step": n, "phases": {"rollout": float(n), "update": 1.0}}
        for n in (1, 2, 3, 4)
    ]
    at, seconds = phase_seconds(log, most=2)
    assert at.tolist() == [1.5, 3.5]
    assert seconds.tolist() == [[1.5, 3.5], [0.0, 0.0], [0.0, 0.0], [1.0, 1.0]]


def test_levels_are_numbers_or_stand_in_the_start_event() -> None:
    assert level_of(Panel("", "", (), level=0.5), {}) == 0.5
    assert level_of(Panel("", "", (), level="kl_target"), {"kl_target": 6.0}) == 6.0
    assert level_of(Panel("", "", (), level="kl_target"), {}) is None


def test_every_figure_that_trainings_log_has_a_panel() -> None:
    logged = "loss bpb perplexity accuracy margin calibration length_correlation preference "
    logged += "reward score kl coefficient entropy length ended same clip_fraction approx_kl "
    logged += "explained_variance policy_loss value_loss mismatch lr grad_norm tokens_per_second "
    logged += "mfu data_wait length_baseline z_loss filled restored whole_words unigram"
    panels = [panel for section in SECTIONS.values() for panel in section]
    assert {curve.key for panel in panels for curve in panel.curves} == set(logged.split())
    assert len({panel.title for panel in panels}) == len(panels)


# -- drawings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [[1.0], [2.0] * 5, [0.0] * 60, [math.nan, 1.0, math.nan], [1e-9, 2e-9], [-3e9, 1e12]],
    ids=["one", "flat", "zero", "gaps", "tiny", "huge"],
)
def test_any_curve_becomes_a_well_formed_drawing(values: list[float]) -> None:
    svg = draw_panel(LOSS, steps(values))
    assert svg.startswith("<svg viewBox=") and svg.endswith("</svg>")
    assert "nan" not in svg
    assert drawn(svg).attrib["aria-label"] == "Loss"


def test_a_drawing_has_the_pages_colours_and_no_names_or_styles_of_its_own() -> None:
    svg = draw_panel(LOSS, [*steps([3.0, 2.0, 1.0]), {"event": "validation", "step": 3, "loss": 2}])
    assert "var(--held)" in svg and "var(--lost)" in svg and "var(--line)" in svg
    assert not re.search(r"#(?!p|m)[0-9a-f]{6}\b", svg)
    assert '<g id="' not in svg
    assert "<style" not in svg and "<metadata" not in svg and "font-family" not in svg


def test_same_events_same_drawing() -> None:
    log = steps([3.0, 2.5, 2.0])
    assert draw_panel(LOSS, log) == draw_panel(LOSS, log)


def test_a_drawing_of_a_hundred_thousand_steps_is_small() -> None:
    source = np.random.default_rng(0)
    svg = draw_panel(LOSS, steps(source.normal(size=100_000).tolist()))
    assert len(svg) < 40_000


def test_intervals_and_guards_are_drawn() -> None:
    accuracy = Panel("Accuracy", "", (held_out("accuracy", "low", "high"),), unit="share")
    bare: list[Event] = [{"event": "validation", "step": n, "accuracy": 0.7} for n in (1, 2)]
    wide = [{**event, "low": 0.6, "high": 0.8} for event in bare]
    guard: Event = {"event": "guard", "step": 2, "message": "", "action": "stop"}
    sizes = [len(draw_panel(accuracy, log)) for log in (bare, wide, [*wide, guard])]
    assert sizes[0] < sizes[1] < sizes[2]
    assert len(curves_of(accuracy, bare)) == 1


def test_phases_of_one_step_are_drawn() -> None:
    seconds = {"rollout": 1.0, "logprobs": 0.5, "reward": 0.1, "update": math.nan}
    svg = draw_phases([{"event": "step", "step": 1, "phases": seconds}])
    assert "var(--more)" in svg
    drawn(svg)


@pytest.mark.parametrize(
    ("value", "shares", "text"),
    [
        (0.25, False, "0.25"),
        (12_300.0, False, "12.3k"),
        (0.00012, False, "1.2e-4"),
        (-1e-5, False, "-1e-5"),
        (0.0, False, "0"),
        (0.794, True, "79.4%"),
        (0.0, True, "0%"),
    ],
)
def test_labels_are_short(value: float, shares: bool, text: str) -> None:
    assert label(value, shares) == text

"""Figures and their intervals, worked by hand or by drawing again and again."""

import math

import numpy as np
import pytest

from llm.intervals import (
    Measure,
    calibration_bins,
    calibration_row,
    difference,
    expected_calibration_error,
    row,
)


def shares(values: list[float]) -> Measure:
    return Measure(metric="accuracy", unit="share", better="higher", values=values)


def test_a_share_has_wilsons_interval() -> None:
    found = row(shares([1.0] * 8 + [0.0] * 2))
    assert found["value"] == 0.8
    # Wilson 1927 with z = 1.96: (0.4902, 0.9433), as in statsmodels' proportion_confint
    assert (found["low"], found["high"]) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert (found["examples"], found["unit"], found["better"]) == (10, "share", "higher")


def test_a_share_of_all_keeps_an_interval_inside_1() -> None:
    found = row(shares([1.0] * 5))
    assert found["high"] == pytest.approx(1)
    assert 0.5 < found["low"] < 0.6


def test_bits_per_byte_is_the_sum_over_the_sum() -> None:
    bits = Measure(
        metric="bits_per_byte", unit="bits", better="lower", values=[10, 30], weights=[10, 10]
    )
    found = row(bits)
    assert found["value"] == 2
    # parts (10 - 2 * 10) / 20 = -0.5 and 0.5: error sqrt(0.5 * 2 / 1) = 1
    assert found["high"] - found["value"] == pytest.approx(1.959964)


def test_the_interval_of_a_ratio_holds_the_truth_95_times_in_100() -> None:
    draw = np.random.default_rng(3)
    held = 0
    for _ in range(400):
        sizes = draw.integers(10, 1000, 60).astype(float)
        values = sizes * draw.normal(1.5, 0.4, 60)
        found = row(
            Measure(
                metric="b",
                unit="bits",
                better="lower",
                values=values.tolist(),
                weights=sizes.tolist(),
            )
        )
        held += found["low"] <= 1.5 <= found["high"]
    assert 0.91 <= held / 400 <= 0.98


def test_perplexity_is_e_to_the_mean_of_nats() -> None:
    found = row(
        Measure(
            metric="p", unit="perplexity", better="lower", values=[1.0, 5.0], weights=[1.0, 2.0]
        )
    )
    assert found["value"] == pytest.approx(math.exp(2))
    assert found["low"] < found["value"] < found["high"]


def test_what_is_hard_for_both_models_does_not_widen_their_difference() -> None:
    hard = [0.0] * 50
    one, other = shares([1.0] * 50 + hard), shares([1.0] * 45 + [0.0] * 5 + hard)
    found = difference(one, other)
    assert found["value"] == pytest.approx(0.05)
    # differences: 5 of 1 and 95 of 0: deviation sqrt(0.05 * 0.95 * 100 / 99), error a tenth of it
    half = 1.959964 * math.sqrt(0.05 * 0.95 * 100 / 99) / 10
    assert found["high"] - found["value"] == pytest.approx(half)
    apart = row(one)
    assert apart["high"] - apart["low"] > 2 * half


def test_a_model_as_sure_as_it_is_right_is_calibrated() -> None:
    sure, right = np.array([0.75] * 4), np.array([1.0, 1.0, 1.0, 0.0])
    assert expected_calibration_error(sure, right) == 0
    assert expected_calibration_error(sure, np.ones(4)) == pytest.approx(0.25)
    (bin,) = calibration_bins(sure, right)
    assert bin == {"from": 0.7, "to": 0.8, "examples": 4, "confidence": 0.75, "accuracy": 0.75}


def test_bins_count_by_their_examples() -> None:
    sure = np.array([0.95, 0.95, 0.95, 0.35])
    right = np.array([1.0, 1.0, 0.0, 0.0])
    # 3/4 of |0.95 - 2/3| and 1/4 of 0.35
    assert expected_calibration_error(sure, right) == pytest.approx(
        0.75 * (0.95 - 2 / 3) + 0.25 * 0.35
    )
    found = calibration_row(sure, right)
    assert found["low"] <= found["value"] <= found["high"]

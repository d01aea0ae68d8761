import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm.reward_score import (
    agreement,
    calibration_error,
    rank_correlation,
    ranks,
    share_won,
    wilson,
)


def test_an_undecided_pair_is_half_won() -> None:
    assert share_won(np.array([1.0, -2.0, 0.0, 3.0])) == 2.5 / 4


def test_wilson_interval_of_published_numbers() -> None:
    # Newcombe 1998, table I, method 3: 81 of 263 and 15 of 148
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15 / 148, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)


@settings(deadline=None)
@given(st.integers(0, 50), st.integers(1, 50))
def test_wilson_interval_stays_a_share(won: int, lost: int) -> None:
    low, high = wilson(won / (won + lost), won + lost)
    assert 0 <= low < high <= 1


def test_calibration_of_worked_numbers() -> None:
    # sure by 3/4, right in two of four: off by 1/4; sure by 9/10, right in both: off by 1/10
    differences = np.log([3, 3, 1 / 3, 1 / 3, 9, 9])
    assert calibration_error(differences) == pytest.approx((4 * 0.25 + 2 * 0.1) / 6)


def test_a_model_that_knows_nothing_and_says_so_is_calibrated() -> None:
    assert calibration_error(np.zeros(5)) == 0
    assert agreement(np.zeros(5))["accuracy"] == 0.5


def test_certainty_is_in_the_last_bin() -> None:
    assert calibration_error(np.array([1000.0, 1000.0, -1000.0])) == pytest.approx(1 / 3)


def test_equal_values_share_their_rank() -> None:
    assert ranks(np.array([5.0, 1.0, 5.0, 7.0])).tolist() == [2.5, 1.0, 2.5, 4.0]


def test_rank_correlation_is_spearmans() -> None:
    a, b = np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([5.0, 6.0, 7.0, 8.0, 7.0])
    # ranks of b: 1, 2, 3.5, 5, 3.5; sum of products of deviations 8, of squares 10 and 9.5
    assert rank_correlation(a, b) == pytest.approx(8 / math.sqrt(10 * 9.5))
    assert rank_correlation(a, -(a**3)) == pytest.approx(-1)
    assert rank_correlation(a, np.ones(5)) == 0

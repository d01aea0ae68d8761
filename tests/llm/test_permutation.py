"""Orders that are never written down: permutations all the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.permutation import Permutation


@given(count=st.integers(1, 3000), key=st.tuples(st.integers(0, 2**32), st.integers(0, 99)))
def test_every_index_is_hit_once(count: int, key: tuple[int, int]) -> None:
    assert sorted(Permutation(count, key)(np.arange(count))) == list(range(count))


def test_one_index_at_a_time_goes_where_all_at_once_go() -> None:
    order = Permutation(1000, (7, 0))
    together = order(np.arange(1000))
    assert [int(order(np.array([i]))[0]) for i in range(0, 1000, 97)] == together[::97].tolist()


def test_the_order_is_the_same_on_every_machine_and_for_ever() -> None:
    assert Permutation(10, (1337, 0))(np.arange(10)).tolist() == [2, 8, 5, 3, 9, 1, 4, 6, 0, 7]


def test_other_keys_give_other_orders() -> None:
    orders = {tuple(Permutation(50, (7, epoch))(np.arange(50))) for epoch in range(20)}
    assert len(orders) == 20


@pytest.mark.parametrize("count", [10, 33, 1000])
def test_every_place_is_equally_likely_to_hold_every_unit(count: int) -> None:
    draws = np.stack([Permutation(count, (seed,))(np.arange(count)) for seed in range(400)])
    # The mean of 400 uniform draws has a spread of count / sqrt(12 x 400); 6 of it is never passed.
    spread = count / np.sqrt(12 * 400)
    assert np.abs(draws.mean(axis=0) - (count - 1) / 2).max() < 6 * spread
    followed = np.mean(np.abs(np.diff(draws, axis=1)) == 1)
    assert followed == pytest.approx(2 / count, rel=0.5)  # neighbours do not stay neighbours


def test_a_corpus_of_a_billion_units_costs_no_memory() -> None:
    places = Permutation(10**9, (1,))(np.arange(10**9 - 32, 10**9))
    assert len(set(places.tolist())) == 32
    assert places.max() < 10**9

"""What each position reads: epochs by hand, mixtures by counting."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.order import Epochs, Visit, mixture, units_per_position


@given(count=st.integers(1, 60), per_position=st.integers(1, 20), seed=st.integers(0, 99))
def test_an_epoch_visits_every_unit_once_and_the_next_in_another_order(
    count: int, per_position: int, seed: int
) -> None:
    order = Epochs(count, per_position, seed)
    for epoch in range(3):
        places = range(epoch * order.positions, (epoch + 1) * order.positions)
        visits = [visit for place in places for visit in order.visits(place)]
        assert sorted(visits) == [Visit(unit, epoch) for unit in range(count)]


def test_passes_are_epochs_and_the_part_of_the_last() -> None:
    order = Epochs(count=10, per_position=4, seed=0)  # 4 + 4 + 2 units
    assert [order.passes(n)["text"] for n in (0, 1, 2, 3, 4)] == [0, 0.4, 0.8, 1, 1.4]


def test_a_position_is_about_8_mib_but_never_more_than_32_units() -> None:
    assert units_per_position(np.full(100, 1 << 20)) == 8
    assert units_per_position(np.full(100, 1 << 18)) == 32
    assert units_per_position(np.full(100, 100)) == 32
    assert units_per_position(np.full(5, 100)) == 5
    assert units_per_position(np.full(5, 1 << 30)) == 1


def sources(*counts: int) -> list[str]:
    return [name for name, count in zip("abc", counts, strict=False) for _ in range(count)]


def test_a_mixture_holds_the_wanted_shares_of_tokens_at_every_position() -> None:
    names = sources(300, 40, 7)
    bytes = np.array([1000] * 300 + [2000] * 40 + [500] * 7)
    weights = {"a": 5.0, "b": 3.0, "c": 2.0}
    rates = {"a": 0.2, "b": 0.5, "c": 0.4}  # tokens of a unit: 200, 1000, 200
    order = mixture(names, bytes, weights, rates, seed=3)
    tokens: Counter[str] = Counter()
    for position in range(400):
        for unit, _ in order.visits(position):
            tokens[names[unit]] += round(bytes[unit] * rates[names[unit]])
        if position > 40:
            total = tokens.total()
            for name, share in (("a", 0.5), ("b", 0.3), ("c", 0.2)):
                assert tokens[name] / total == pytest.approx(share, rel=0.01)


def test_a_mixture_reads_each_source_evenly_and_each_pass_in_another_order() -> None:
    names = sources(10, 3)
    order = mixture(names, np.full(13, 100), {"a": 1, "b": 1}, {"a": 1, "b": 1}, seed=0)
    visits = [visit for place in range(40) for visit in order.visits(place)]
    for source, count in (("a", 10), ("b", 3)):
        own = [visit for visit in visits if names[visit.unit] == source]
        passes = [own[i : i + count] for i in range(0, len(own) - count, count)]
        for number, one in enumerate(passes):
            assert sorted(one) == sorted({Visit(v.unit, number) for v in one})
            assert len({v.unit for v in one}) == count
        orders = {tuple(visit.unit for visit in one) for one in passes}
        assert len(orders) == (6 if count == 3 else len(passes))


def test_passes_of_a_mixture_are_told_by_source() -> None:
    order = mixture(sources(8, 2), np.full(10, 100), {"a": 1, "b": 1}, {"a": 1, "b": 1}, seed=0)
    assert order.passes(4) == {"a": 20 / 8, "b": 20 / 2}  # 10 units a position, half of each

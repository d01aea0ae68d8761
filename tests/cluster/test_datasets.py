"""Numbered work comes back in order; a shuffle brings all payloads of a bucket together, once."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.datasets import by_key, each, joined, shuffle
from llm.errors import DataError

pytestmark = pytest.mark.ray


def square(number: int) -> int:
    return number * number


def refuse(number: int) -> int:
    if number == 3:
        raise DataError("the third is bad")
    return number


def digits(number: int) -> Iterator[list[tuple[int, bytes]]]:
    """Number n gives its payload to bucket n % 3 and, in a second batch, to bucket 5."""
    yield [(number % 3, bytes([number]))]
    yield [(5, bytes([number]))]


def nothing(number: int) -> Iterator[list[tuple[int, bytes]]]:
    return iter([])


def together(bucket: int, payloads: list[bytes]) -> tuple[int, bytes]:
    return bucket, b"".join(sorted(payloads))


def test_values_come_in_the_order_of_numbers(ray_cluster: None) -> None:
    assert list(each(20, square)) == [n * n for n in range(20)]


def test_a_users_mistake_is_raised_as_it_is(ray_cluster: None) -> None:
    with pytest.raises(DataError, match="the third is bad"):
        list(each(10, refuse))


@pytest.mark.parametrize("buckets", [1, 7])
def test_a_shuffle_gathers_each_bucket_once(ray_cluster: None, buckets: int) -> None:
    found = dict(shuffle(9, buckets, digits, together))
    assert found == {
        0: (0, bytes([0, 3, 6])),
        1: (1, bytes([1, 4, 7])),
        2: (2, bytes([2, 5, 8])),
        5: (5, bytes(range(9))),
    }


def test_a_shuffle_of_nothing_gives_nothing(ray_cluster: None) -> None:
    assert list(shuffle(3, 4, nothing, together)) == []


@given(st.lists(st.integers(0, 2**64 - 1), max_size=50), st.integers(1, 9))
def test_entries_with_equal_keys_share_a_bucket(keys: list[int], buckets: int) -> None:
    entries = np.array([[key, number] for number, key in enumerate(keys)], np.uint64)
    entries = entries.reshape(-1, 2)
    found = {bucket: joined([payload], 2) for bucket, payload in by_key(entries, buckets)}
    assert all(0 <= bucket < buckets for bucket in found)
    rows = sorted((row for part in found.values() for row in part.tolist()), key=lambda r: r[1])
    assert rows == entries.tolist()
    homes: dict[int, set[int]] = {}
    for bucket, part in found.items():
        for key in part[:, 0].tolist():
            homes.setdefault(key, set()).add(bucket)
    assert all(len(home) == 1 for home in homes.values())

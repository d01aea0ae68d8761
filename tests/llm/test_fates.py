"""Who is dropped, and where shards are cut: worked by hand."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.fates import (
    CAP,
    EXACT,
    NEAR,
    TRAIN,
    VALIDATION,
    Cutter,
    Slice,
    above_cap,
    fates_of,
    find_above_cap,
    read_dropped,
    settle,
    write_dropped,
)
from llm.ledger import Amount, Ledger
from llm.parts import ROW_BITS, part_path, writing_part


def write_parts(folder: Path, *parts: list[tuple[str, bool]]) -> None:
    """Parts of (text, held out)."""
    for number, documents in enumerate(parts):
        with writing_part(part_path(folder, number), None) as writer:
            for text, held_out in documents:
                writer.add(f"s/{text}", "", text, held_out)


def put_down(folder: Path, fate: int, documents: list[int]) -> None:
    write_dropped(folder, fate, np.array(documents, np.int64), np.zeros(len(documents), np.int64))


NEXT = 1 << ROW_BITS
"""The first document of part 1."""


def test_fates_are_looked_up_by_number(tmp_path: Path) -> None:
    write_parts(tmp_path, [("a", False), ("b", True), ("c", False)], [("d", False), ("e", True)])
    put_down(tmp_path, EXACT, [NEXT + 1, 2])
    put_down(tmp_path, NEAR, [])
    assert fates_of(tmp_path, 0).tolist() == [TRAIN, VALIDATION, EXACT]
    assert fates_of(tmp_path, 1).tolist() == [TRAIN, EXACT]


def test_dropped_documents_stay_beside_those_that_are_kept_for_them(tmp_path: Path) -> None:
    write_dropped(tmp_path, NEAR, np.array([9, 4, 7]), np.array([1, 2, 3]))
    assert read_dropped(tmp_path, NEAR).tolist() == [[4, 7, 9], [2, 3, 1]]
    assert read_dropped(tmp_path, CAP).shape == (2, 0)


def test_a_cap_takes_documents_by_their_hashes() -> None:
    keys = np.array([30, 10, 20, 40], np.uint64)
    sizes = np.array([5, 6, 4, 1])
    assert above_cap(keys, sizes, 10).tolist() == [True, False, False, True]
    assert above_cap(keys, sizes, 15).tolist() == [False, False, False, True]
    assert above_cap(keys, sizes, 16).tolist() == [False] * 4


def test_a_cap_does_not_count_copies(tmp_path: Path) -> None:
    write_parts(tmp_path, [("aaaa", False), ("bbbb", False)], [("cccc", True)])
    put_down(tmp_path, EXACT, [1])
    assert find_above_cap(tmp_path, [0, 1], 8).tolist() == []
    assert len(find_above_cap(tmp_path, [0, 1], 7)) == 1
    assert find_above_cap(tmp_path, [], 7).tolist() == []


def test_shards_are_as_full_as_fits() -> None:
    cutter = Cutter("web", TRAIN, limit=10)
    fates = np.array([TRAIN, TRAIN, VALIDATION, TRAIN, EXACT, TRAIN], np.uint8)
    cutter.add(0, fates, np.array([4, 6, 99, 3, 99, 8]))
    cutter.add(1, np.array([TRAIN, TRAIN], np.uint8), np.array([2, 12]))
    assert [shard.name for shard in cutter.shards] == [
        f"train/web-0000{number}.parquet" for number in range(4)
    ]
    assert [shard.slices for shard in cutter.shards] == [
        [Slice(0, 0, 2)],  # 4 + 6
        [Slice(0, 3, 4)],  # 3, and 8 does not fit
        [Slice(0, 5, 6), Slice(1, 0, 1)],  # 8 + 2
        [Slice(1, 1, 2)],  # 12 alone
    ]
    assert [(s.documents, s.bytes) for s in cutter.shards] == [(2, 10), (1, 3), (2, 10), (1, 12)]


@given(st.lists(st.lists(st.integers(1, 30), max_size=20), max_size=6), st.integers(1, 40))
def test_shards_hold_all_documents_once_whatever_the_parts(
    parts: list[list[int]], limit: int
) -> None:
    cutter, whole = Cutter("web", TRAIN, limit), Cutter("web", TRAIN, limit)
    for number, sizes in enumerate(parts):
        cutter.add(number, np.zeros(len(sizes), np.uint8), np.array(sizes, np.int64))
    flat = [size for sizes in parts for size in sizes]
    whole.add(0, np.zeros(len(flat), np.uint8), np.array(flat, np.int64))
    assert [(s.documents, s.bytes) for s in cutter.shards] == [
        (s.documents, s.bytes) for s in whole.shards
    ]
    rows = [(s.part, r) for shard in cutter.shards for s in shard.slices for r in range(*s[1:])]
    assert rows == [(part, row) for part, sizes in enumerate(parts) for row in range(len(sizes))]
    assert all(shard.bytes <= limit or shard.documents == 1 for shard in cutter.shards)


def test_all_documents_of_the_parts_get_into_the_books(tmp_path: Path) -> None:
    write_parts(tmp_path, [("a", False), ("bb", True), ("ccc", False)], [("dddd", False)])
    put_down(tmp_path, EXACT, [2])
    put_down(tmp_path, CAP, [NEXT])
    ledger = Ledger(read=Amount(5, 20), removed=3)
    ledger.drop("language", 7)
    shards = list(settle(tmp_path, "web", [0, 1], 100, ledger))
    assert ledger.train == Amount(1, 1)
    assert ledger.validation == Amount(1, 2)
    assert ledger.dropped["exact duplicate"] == Amount(1, 3)
    assert ledger.dropped["cap"] == Amount(1, 4)
    assert [shard.name for shard in shards] == [
        "train/web-00000.parquet",
        "validation/web-00000.parquet",
    ]


def test_a_lost_document_is_noticed(tmp_path: Path) -> None:
    write_parts(tmp_path, [("a", False)])
    with pytest.raises(AssertionError):
        list(settle(tmp_path, "web", [0], 100, Ledger(read=Amount(2, 1))))

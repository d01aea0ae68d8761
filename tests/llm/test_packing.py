"""Packing, worked by hand."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llm.packing import PAD, count_rows, cuts, pack

EOS = 2


def test_packing_cuts_joined_documents_into_overlapping_rows() -> None:
    rows = pack([[10, 11, 12], [20]], EOS, context=3, first=2)
    assert rows.tolist() == [
        [EOS, 10, 11, PAD],  # the first row predicts two tokens, drawn elsewhere in each epoch
        [11, 12, EOS, 20],
        [20, EOS, PAD, PAD],
    ]


def test_packing_nothing_gives_no_row() -> None:
    assert pack([], EOS, context=3, first=3).shape == (0, 4)


@given(
    documents=st.lists(st.lists(st.integers(10, 99), max_size=20), min_size=1, max_size=8),
    context=st.integers(1, 9),
    data=st.data(),
)
def test_every_token_is_a_target_once_and_follows_its_predecessor(
    documents: list[list[int]], context: int, data: st.DataObject
) -> None:
    first = data.draw(st.integers(1, context))
    rows = pack(documents, EOS, context, first)
    joined = [EOS] + [token for ids in documents for token in [*ids, EOS]]
    pairs = [(a, b) for row in rows.tolist() for a, b in pairwise(row)]
    assert [pair for pair in pairs if pair[1] != PAD] == list(pairwise(joined))
    assert len(rows) == count_rows(len(joined) - 1, context, first)


def test_which_tokens_a_row_predicts_follows_from_lengths_alone() -> None:
    starts, ends = cuts(7, context=3, first=2)
    assert (starts.tolist(), ends.tolist()) == ([0, 2, 5], [2, 5, 7])
    documents = [np.array([10, 11, 12]), np.array([20, 21])]  # 7 targets
    rows = pack(documents, EOS, 3, 2)
    assert [int((row[1:] != PAD).sum()) for row in rows] == (ends - starts).tolist()

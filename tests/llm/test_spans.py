"""Corrupted spans: what is left and what is written make the text again."""

from itertools import groupby

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from llm.config import ModelConfig
from llm.data import Block
from llm.hidden import rows_of_embedding, sentinels, spans_of
from llm.packing import PAD
from llm.spans import Spans, corrupt, gaps_in, lost_tokens, restore
from llm.world import CPU

VOCAB, EOS = 100, 2


def test_an_example_worked_by_hand() -> None:
    text = np.array([10, 11, 12, 13, 14, 15, 16])
    lost = np.array([False, True, True, False, False, True, False])
    left, written = corrupt(text, lost, first=VOCAB)
    assert left.tolist() == [10, 100, 13, 14, 101, 16]
    assert written.tolist() == [100, 11, 12, 101, 15, 102]
    assert gaps_in(written.tolist(), VOCAB) == {0: [11, 12], 1: [15], 2: []}
    assert restore(left.tolist(), written.tolist(), VOCAB) == text.tolist()


@settings(deadline=None)
@given(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=300), st.integers(0, 2**31))
def test_what_is_left_and_what_is_written_make_the_text_again(text: list[int], seed: int) -> None:
    lost = lost_tokens(len(text), (seed,))
    left, written = corrupt(np.array(text), lost, VOCAB)
    assert restore(left.tolist(), written.tolist(), VOCAB) == text
    assert lost.sum() == spans_of(len(text))[0]
    marks = [token for token in written.tolist() if token >= VOCAB]
    assert marks == list(range(VOCAB, VOCAB + len(marks)))
    assert len(marks) <= sentinels(len(text))


def test_15_percent_go_in_spans_of_three_and_every_place_alike() -> None:
    lost = np.stack([lost_tokens(200, (seed,)) for seed in range(3000)])
    assert (lost.sum(1) == 30).all()
    # a share of 3,000 draws of 0.15 has a standard deviation of 0.0065
    assert abs(lost.mean(0) - 0.15).max() < 5 * 0.0065
    runs = [len(list(group)) for row in lost for is_lost, group in groupby(row) if is_lost]
    assert abs(np.mean(runs) - 3) < 0.1
    assert max(runs) > 8


def rows(count: int, context: int) -> Block:
    ids = np.random.default_rng(0).integers(3, VOCAB, (count, context + 1), dtype=np.int32)
    ids[-1, 5:] = PAD
    ids[-2, :] = PAD
    return Block(ids, np.zeros(count, np.int64), np.arange(count))


def test_spans_follow_from_the_seed_and_the_place_alone() -> None:
    whole = Spans(rows(6, 40), 1, EOS, VOCAB).pairs
    for row in range(6):
        alone = Spans(rows(6, 40)[row : row + 1], 1, EOS, VOCAB).pairs
        assert texts(alone.read) == [texts(whole.read)[row]]
        assert texts(alone.targets) == [texts(whole.targets)[row]]
    assert texts(Spans(rows(6, 40), 2, EOS, VOCAB).pairs.read) != texts(whole.read)


def texts(ids: np.ndarray) -> list[list[int]]:
    """Rows without what fills them up."""
    return [np.trim_zeros(np.maximum(row, 0), "b").tolist() for row in ids]


def test_pairs_hold_every_token_once_and_begin_with_an_end_of_text() -> None:
    block = rows(6, 40)
    pairs = Spans(block, 1, EOS, VOCAB).pairs
    for row in range(6):
        text = [int(id) for id in block.ids[row, 1:] if id != PAD]
        written = [int(id) for id in pairs.targets[row] if id != PAD]
        left = pairs.read[row][pairs.real[row]].tolist()
        if not text:
            assert (left, written) == ([EOS], [])
            continue
        assert restore(left, written, VOCAB) == text
        assert pairs.begun[row, : len(written)].tolist() == [EOS, *written[:-1]]
    assert pairs.count == Spans(block, 1, EOS, VOCAB).weight
    assert Spans(block, 1, EOS, VOCAB).arguments(CPU, 0)["ids"].max() < rows_of_embedding(
        ModelConfig(family="encoder_decoder", context=40), VOCAB
    )

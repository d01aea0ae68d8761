"""Masks as BERT draws them, from the seed and the place in the data alone."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llm.config import ModelConfig
from llm.data import Block
from llm.families import make_model
from llm.loss import head_loss
from llm.masking import Masked, documents_of, mask_row
from llm.packing import PAD
from llm.world import CPU

EOS, VOCAB = 2, 1000


def block(rows: int, context: int, seed: int = 0, first: int = 0) -> Block:
    """Rows of random text, an end of text in each."""
    ids = np.random.default_rng(seed).integers(3, VOCAB, (rows, context + 1), dtype=np.int32)
    ids[:, context // 2] = EOS
    return Block(ids, np.zeros(rows, np.int64), np.arange(first, first + rows))


def masked(block: Block, seed: int = 7) -> Masked:
    return Masked(block, seed, EOS, VOCAB)


def test_15_percent_are_chosen_of_which_80_10_10_are_masked_replaced_and_kept() -> None:
    portion = masked(block(400, 200))
    (shown, targets), text = portion.rows, portion.block.ids[:, 1:]
    chosen = targets != PAD
    assert (chosen.sum(1) == round(0.15 * 199)).all()
    assert not chosen[text == EOS].any()
    np.testing.assert_array_equal(targets[chosen], text[chosen])
    np.testing.assert_array_equal(shown[~chosen], text[~chosen])
    is_mask, is_same = shown[chosen] == VOCAB, shown[chosen] == text[chosen]
    # 12,000 draws: four standard deviations are 1.5% and 1.1%
    assert abs(is_mask.mean() - 0.8) < 0.015
    assert abs(is_same.mean() - 0.1) < 0.011
    others = shown[chosen & (shown != VOCAB) & (shown != text)]
    assert len(np.unique(others)) > 500
    assert abs(chosen.mean(0)[:90].mean() - 0.15) < 0.01  # no place is likelier than others


def test_masks_follow_from_the_seed_and_the_place_alone() -> None:
    whole = masked(block(8, 40)).rows
    for start, stop in ((0, 3), (3, 8)):
        again = masked(block(8, 40)[start:stop]).rows
        for one, two in zip(whole, again, strict=True):
            np.testing.assert_array_equal(one[start:stop], two)
    assert (masked(block(8, 40), seed=8).rows[1] != whole[1]).any()
    later = Block(block(8, 40).ids, np.ones(8, np.int64), np.arange(8))
    assert (masked(later).rows[1] != whole[1]).any()


@settings(deadline=None)
@given(st.lists(st.integers(PAD, 9), min_size=1, max_size=30), st.integers(0, 99))
def test_any_row_with_a_token_has_something_to_find_out(row: list[int], seed: int) -> None:
    ids = np.array(sorted(row, key=lambda id: id == PAD), np.int32)
    shown, targets = mask_row(ids, EOS, 10, (seed,))
    chosen = targets != PAD
    assert chosen.any() == (ids != PAD).any()
    assert shown.min() >= 0 and shown.max() <= 10
    np.testing.assert_array_equal(shown[~chosen], np.maximum(ids, 0)[~chosen])
    if ((ids != PAD) & (ids != EOS)).any():
        assert not (targets == EOS).any()


def test_padding_and_other_documents_are_not_seen() -> None:
    text = torch.tensor([[5, EOS, 6, 6, PAD, PAD]])
    assert documents_of(text[:, :4], None) is None
    together, apart = documents_of(text, None), documents_of(text, EOS)
    assert together is not None and together.tolist() == [[0, 0, 0, 0, 1, 1]]
    assert apart is not None and apart.tolist() == [[0, 0, 1, 1, 2, 2]]


def test_the_head_reads_only_what_was_chosen_and_the_loss_is_that_of_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    shape = ModelConfig(family="encoder", depth=1, width=16, heads=2, hidden=32, context=40)
    model = make_model(shape, VOCAB).eval()
    inputs = masked(block(4, 40)).arguments(CPU, 0)
    read: list[int] = []

    def noted(features: torch.Tensor, *rest: Any) -> torch.Tensor:
        read.append(len(features))
        return head_loss(features, *rest)

    monkeypatch.setattr("llm.model.head_loss", noted)
    loss = model(**inputs)
    assert sum(read) == masked(block(4, 40)).weight == 4 * round(0.15 * 39)
    logits = model(inputs["ids"]).flatten(0, 1)
    whole = torch.nn.functional.cross_entropy(
        logits, inputs["targets"].flatten(), ignore_index=PAD, reduction="sum"
    )
    torch.testing.assert_close(loss, whole)

"""Rows of conversations: all of each, once an epoch, none seen by another."""

from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llm.config import ModelConfig
from llm.data import Cursor
from llm.examples import CHAT, Chats
from llm.model import Transformer
from llm.packing import PAD, packed
from llm.ragged import Ragged, write_rows
from llm.sft_rows import SftRows
from llm.world import CPU, World

ALONE = World(0, 1, CPU)
BOS = 1
CONTEXT = 15


def chats(folder: Path, lengths: list[int]) -> Chats:
    """Conversations of BOS and random tokens; every second token counts, by a weight of its own."""
    random = np.random.default_rng(0)
    rows = []
    for length in lengths:
        ids = np.concatenate([[BOS], random.integers(2, 20, length - 1)]).astype(np.int32)
        weights = np.where(np.arange(length) % 2, random.uniform(0.5, 2, length), 0)
        rows.append({"ids": ids, "weights": weights.astype(np.float32)})
    write_rows(folder / "train", CHAT, rows)
    return Chats(Ragged([folder / "train"]))


@given(st.lists(st.integers(1, 16), max_size=80), st.randoms(use_true_random=False))
def test_packing_keeps_every_conversation_whole_and_once(lengths: list[int], random) -> None:
    order = list(range(len(lengths)))
    random.shuffle(order)
    rows = packed(lengths, order, 16)
    assert sorted(member for row in rows for member in row) == sorted(order)
    assert all(sum(lengths[member] for member in row) <= 16 for row in rows)


def test_packing_takes_the_row_with_the_least_room() -> None:
    """7 opens a row (3 left), 5 another (5 left); 3 fits best into the first, 5 into the second."""
    assert packed([7, 5, 3, 5], [0, 1, 2, 3], 10) == [(0, 2), (1, 3)]


def test_real_lengths_leave_little_empty() -> None:
    lengths = np.random.default_rng(0).integers(20, 400, 1000).tolist()
    rows = packed(lengths, range(1000), 512)
    assert sum(lengths) / (512 * len(rows)) > 0.97


def test_an_epoch_holds_every_token_once(tmp_path: Path) -> None:
    talks = chats(tmp_path, [5, 9, 16, 3, 7, 12, 4])
    rows = SftRows(talks, CONTEXT, 2, seed=3, separator=BOS)
    everything = Counter(np.concatenate([talks.ids(i) for i in range(7)]).tolist())
    for epoch in range(2):
        first, last = rows.before[epoch : epoch + 2]
        held = [rows.portion(row, 1).ids for row in range(first, last)]
        tokens = np.concatenate(held).ravel()
        assert Counter(tokens[tokens != PAD].tolist()) == everything
    assert rows.epoch(0) != rows.epoch(1)


def test_portions_go_on_from_a_cursor_and_end_with_padding(tmp_path: Path) -> None:
    rows = SftRows(chats(tmp_path, [16] * 5), CONTEXT, 1, seed=3, separator=BOS)
    first, second, third = islice(rows.portions(Cursor(), 2, 1, ALONE), 3)
    again = next(rows.portions(first.after, 2, 1, ALONE))
    assert np.array_equal(second.ids, again.ids)
    assert (third.tokens, second.tokens) == (16, 32)
    assert third.first == Cursor(0, 4)
    assert third.after == Cursor(1, 1)
    assert not (third.ids[1] != PAD).any()


@pytest.mark.parametrize("packing", [True, False])
def test_the_loss_of_a_row_is_that_of_its_conversations_alone(
    tmp_path: Path, packing: bool
) -> None:
    talks = chats(tmp_path, [5, 6, 4, 9, 3])
    torch.manual_seed(0)
    model = Transformer(ModelConfig(depth=2, width=32, heads=2, hidden=64, context=CONTEXT), 20)
    rows = SftRows(talks, CONTEXT, 1, seed=1, separator=BOS if packing else None)
    together = sum(
        model(**rows.portion(row, 1).arguments(CPU, 0)).item() for row in range(len(rows))
    )
    alone = 0.0
    for number in range(5):
        ids = torch.from_numpy(talks.ids(number).astype(np.int64))
        losses = torch.nn.functional.cross_entropy(
            model(ids[None, :-1])[0], ids[1:], reduction="none"
        )
        alone += (losses * torch.from_numpy(talks.weights(number)[1:])).sum().item()
    assert together == pytest.approx(alone, abs=1e-4)
    weight = sum(rows.portion(row, 1).weight for row in range(len(rows)))
    assert weight == pytest.approx(sum(float(talks.weights(i)[1:].sum()) for i in range(5)))
    assert len(rows) == (2 if packing else 5)


def test_rows_that_only_fill_up_a_batch_teach_nothing(tmp_path: Path) -> None:
    rows = SftRows(chats(tmp_path, [9, 9]), CONTEXT, 1, seed=1, separator=BOS)
    empty = rows.portion(len(rows), 2)
    model = Transformer(ModelConfig(depth=1, width=16, heads=1, hidden=16, context=CONTEXT), 20)
    loss = model(**empty.arguments(CPU, 0))
    assert (loss.item(), empty.weight, empty.tokens) == (0.0, 0.0, 0)
    loss.backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())

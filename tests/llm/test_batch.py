"""Rows as a model takes them, worked by hand; documents that do not see each other."""

from typing import Any

import numpy as np
import pytest
import torch

from llm.attention import document_mask, places_in
from llm.batch import make_batch
from llm.config import ModelConfig
from llm.model import Transformer
from llm.packing import PAD, pack
from llm.world import CPU

EOS = 2


def test_inputs_are_shifted_against_targets_and_padding_is_no_input() -> None:
    inputs, targets, documents = make_batch(np.array([[2, 5, 6, PAD]], np.int32), CPU)
    assert inputs.tolist() == [[2, 5, 6]]
    assert targets.tolist() == [[5, 6, PAD]]
    assert documents is None


def test_a_separator_belongs_to_the_document_behind_it() -> None:
    rows = np.array([[7, EOS, 5, EOS, 6, 6, EOS]], np.int32)
    documents = make_batch(rows, CPU, separator=EOS).documents
    assert documents is not None
    assert documents.tolist() == [[0, 1, 1, 2, 2, 2]]
    assert places_in(documents).tolist() == [[0, 0, 1, 0, 1, 2]]
    seen = document_mask(documents)[0, 0].long()
    assert seen.sum(dim=1).tolist() == [1, 1, 2, 1, 2, 3]


def test_rows_are_cut_into_parts_that_hold_the_same_tokens() -> None:
    rows = np.array([[0, 1, 2, 3, 4], [5, 6, 7, 8, PAD]], np.int32)
    inputs, targets, _ = make_batch(rows, CPU, parts=2)
    assert inputs.tolist() == [[0, 1], [2, 3], [5, 6], [7, 8]]
    assert targets.tolist() == [[1, 2], [3, 4], [6, 7], [8, PAD]]


@pytest.mark.parametrize("window", [0, 5])
@pytest.mark.parametrize("positions", ["rotary", "learned", "sinusoidal", "alibi"])
def test_a_packed_document_is_read_as_if_it_were_alone(positions: Any, window: int) -> None:
    torch.manual_seed(0)
    shape = {"depth": 2, "width": 32, "heads": 2, "hidden": 64, "context": 24}
    config = ModelConfig(**shape, positions=positions, window=window)  # type: ignore[arg-type]
    model = Transformer(config, vocab_size=50).eval()
    texts = [[10, 11, 12, 13], [20], [30, 31, 32, 33, 34, 35, 36]]
    [row] = pack(texts, EOS, context=24, first=24)
    inputs, _, documents = make_batch(row[None], CPU, separator=EOS)
    with torch.no_grad():
        together = model(inputs, documents=documents)[0]
        start = 0
        for text in texts:
            alone = model(torch.tensor([[EOS, *text]]))[0]
            torch.testing.assert_close(
                together[start : start + len(alone)], alone, atol=1e-5, rtol=1e-5
            )
            start += len(alone)


def test_without_separator_documents_see_each_other() -> None:
    torch.manual_seed(0)
    config = ModelConfig(depth=1, width=32, heads=2, hidden=64, context=8)
    model = Transformer(config, vocab_size=50).eval()
    row = pack([[10, 11], [20, 21]], EOS, context=8, first=8)
    with torch.no_grad():
        apart = model(make_batch(row, CPU).inputs, documents=make_batch(row, CPU, EOS).documents)
        together = model(make_batch(row, CPU).inputs)
    assert torch.allclose(apart[:, :3], together[:, :3], atol=1e-5)
    assert not torch.allclose(apart[:, 4], together[:, 4], atol=1e-3)

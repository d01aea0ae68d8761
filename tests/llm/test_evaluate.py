"""Bits per byte, worked by hand on a model that guesses."""

import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from llm.config import ModelConfig
from llm.evaluate import evaluate
from llm.held_out import HeldOut
from llm.model import Transformer
from llm.packing import PAD
from llm.world import CPU, World

EOS = 2
ALONE = World(0, 1, CPU)


def guesser(vocab: int) -> Transformer:
    """Gives every token the same probability."""
    shape = ModelConfig(depth=1, width=8, heads=1, hidden=8, context=4, dropout=0.5)
    model = Transformer(shape, vocab)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return model


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_a_guesser_needs_log2_v_bits_for_every_token_that_spells_text(batch: int) -> None:
    rows = np.array([[EOS, 5, 6, 7, EOS], [EOS, 5, EOS, PAD, PAD], [EOS, 9, 9, 9, 9]], np.int32)
    text = HeldOut(rows, bytes=16)  # 8 tokens of text, 2 ends of text
    model = guesser(32).train()
    score = evaluate(model, text, EOS, ALONE, batch, nullcontext)
    assert score.loss == pytest.approx(math.log(32))
    assert score.bpb == pytest.approx(8 * 5 / 16)
    assert model.training

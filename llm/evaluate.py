"""How well a model predicts held-out text, in a unit that no tokenizer can bend: bits per byte.

Bits per byte = summed loss of the text's tokens / ln 2 / UTF-8 bytes of the text. End-of-text
tokens stand for no byte and are left out of it; `loss` is nats per token, with them.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from llm.data import PAD, HeldOut
from llm.model import Transformer
from llm.world import World


@dataclass(frozen=True)
class Score:
    """What a validation found. loss: nats per token; bpb: bits per byte of text."""

    loss: float
    bpb: float


def split_rows(rows: np.ndarray, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows (B, C + 1) as inputs (B, C) and targets (B, C) int64; PAD becomes an input of 0."""
    ids = torch.from_numpy(rows.astype(np.int64)).to(device)
    return ids[:, :-1].clamp(min=0), ids[:, 1:].contiguous()


@torch.no_grad()
def evaluate(
    model: Transformer,
    text: HeldOut,
    eos: int,
    world: World,
    batch: int,
    autocast: Callable[[], AbstractContextManager[object]],
) -> Score:
    """Score `model` on held-out text, its rows shared out over all processes."""
    was_training = model.training
    model.eval()
    total = tokens = text_total = 0.0
    for start in range(world.rank * batch, len(text.rows), world.size * batch):
        inputs, targets = split_rows(text.rows[start : start + batch], world.device)
        with autocast():
            logits = model(inputs)
        losses = F.cross_entropy(
            logits.float().flatten(0, 1), targets.flatten(), ignore_index=PAD, reduction="none"
        ).double()
        total += losses.sum().item()
        text_total += losses[(targets != eos).flatten()].sum().item()
        tokens += (targets != PAD).sum().item()
    model.train(was_training)
    total, tokens, text_total = world.sum(total, tokens, text_total)
    return Score(loss=total / tokens, bpb=text_total / math.log(2) / text.bytes)

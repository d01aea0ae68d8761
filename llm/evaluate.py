"""How well a model predicts held-out text, in a unit that no tokenizer can bend: bits per byte.

Bits per byte = summed loss of the text's tokens / ln 2 / UTF-8 bytes of the text. End-of-text
tokens stand for no byte and are left out of it; `loss` is nats per token, with them.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from llm.batch import make_batch
from llm.held_out import HeldOut
from llm.model import Transformer
from llm.packing import PAD
from llm.world import World


@dataclass(frozen=True)
class Score:
    """What a validation found. loss: nats per token; bpb: bits per byte of text."""

    loss: float
    bpb: float


@torch.no_grad()
def evaluate(
    model: Transformer,
    text: HeldOut,
    eos: int,
    world: World,
    batch: int,
    autocast: Callable[[], AbstractContextManager[object]],
    separator: int | None = None,
) -> Score:
    """Score `model` on held-out text, its rows shared out over all processes.

    With a `separator` no token sees another document's, as in training.
    """
    total = tokens = text_total = 0.0
    with evaluating(model):
        for start in range(world.rank * batch, len(text.rows), world.size * batch):
            rows = text.rows[start : start + batch]
            inputs, targets, documents = make_batch(rows, world.device, separator)
            with autocast():
                logits = model(inputs, documents=documents)
            losses = F.cross_entropy(
                logits.float().flatten(0, 1), targets.flatten(), ignore_index=PAD, reduction="none"
            ).double()
            total += losses.sum().item()
            text_total += losses[(targets != eos).flatten()].sum().item()
            tokens += (targets != PAD).sum().item()
    total, tokens, text_total = world.sum(total, tokens, text_total)
    return Score(loss=total / tokens, bpb=text_total / math.log(2) / text.bytes)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, the model drops nothing out; behind it, it is in the mode that it was in."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)

"""An average of the weights over the steps: steadier than the weights of any one (Polyak 1990).

    average += (1 - decay) (weights - average),  decay = min(decay, (1 + t) / (10 + t))

after update t, from 0; the second term lets a short training forget its beginning (the rule of
TensorFlow's ExponentialMovingAverage). The average lies in the optimizer's state beside the
moments, so checkpoints keep it, and processes share it out, as they do those: 4 bytes a parameter.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.optim import Optimizer

from llm.pieces import piece_of

SLOT = "average"


@torch.no_grad()
def average(optimizer: Optimizer, decay: float, step: int) -> None:
    """Take in the weights after update `step`; those that have never been updated stay out."""
    now = min(decay, (1 + step) / (10 + step))
    for parameter, state in optimizer.state.items():
        if SLOT in state:
            piece_of(state[SLOT]).rows.lerp_(piece_of(parameter).rows, 1 - now)
        elif state:
            state[SLOT] = parameter.detach().clone()


@contextmanager
def averaged(optimizer: Optimizer) -> Iterator[None]:
    """Inside, the model has the averages for weights; without averages nothing changes."""
    exchange(optimizer)
    try:
        yield
    finally:
        exchange(optimizer)


def exchange(optimizer: Optimizer) -> None:
    """Weights and averages change places, bit by bit; in place, as others hold on to them."""
    for parameter, state in optimizer.state.items():
        if SLOT in state:
            weights, averages = piece_of(parameter).rows, piece_of(state[SLOT]).rows
            kept = weights.clone()
            weights.copy_(averages)
            averages.copy_(kept)

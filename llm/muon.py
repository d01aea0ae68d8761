"""Muon: the moment of a matrix, made orthogonal, is the update (Jordan et al. 2024).

A gradient's few large singular values drown the many small ones; with all of them near 1 every
direction is learned.
It comes to the loss of AdamW at the best of three rates in 300 updates in place of 400 (3 layers of
width 128, bytes of Python's docs), and holds one moment in place of two. It is for matrices that
products are made with: embeddings, heads and vectors learn by AdamW (Jordan et al.). Queries, keys
and values are three matrices in one tensor, and experts are many.

Scaled by 0.2 sqrt(the larger side) an update's entries are of the size of AdamW's, whose rates and
decay can be taken over (Liu et al. 2025, "Muon is scalable", 2.2). torch.optim.Muon does the same
to two-dimensional tensors; it cannot take them apart, nor share them out. A test compares.

What it costs: 30 min(m, n)^2 max(m, n) FLOPs an update and matrix at most, whatever the batch; of
shared weights every process gathers each matrix, does all of that, and keeps its own rows.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from llm.parallel import whole
from llm.pieces import piece_of

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of x -> a x + b x^3 + c x^5, which drives singular values towards 1, small ones fastest; they end
between 0.7 and 1.2 (Jordan et al.)."""

ROUNDS = 5

TINY = 1e-7
"""Guard against division by zero."""


class Muon(Optimizer):
    """Groups have `blocks`: for each parameter the rows of the matrices that lie in it."""

    def __init__(self, groups: list[dict], lr: float, momentum: float, dtype: torch.dtype) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": 0.0})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update, in all processes together if the weights are shared out."""
        for group in self.param_groups:
            for parameter, blocks in zip(group["params"], group["blocks"], strict=True):
                if parameter.grad is not None:
                    self._update(parameter, blocks, group)

    def _update(self, parameter: nn.Parameter, blocks: list[int], group: dict) -> None:
        lr, keep, gradient = group["lr"], group["momentum"], parameter.grad
        assert gradient is not None
        state = self.state[parameter]
        if "moment" not in state:
            state["moment"] = torch.zeros_like(parameter)
        state["moment"].lerp_(gradient, 1 - keep)
        ahead = whole(gradient.lerp(state["moment"], keep))  # Nesterov's
        update = torch.cat([direction(one, self.dtype) for one in ahead.split(blocks, -2)], -2)
        mine = piece_of(parameter)
        mine.rows.mul_(1 - lr * group["weight_decay"])
        mine.rows.add_(update[mine.first : mine.stop], alpha=-lr)


def direction(moment: Tensor, dtype: torch.dtype) -> Tensor:
    """(..., m, n) -> the nearest orthogonal matrix, roughly, with entries of size 0.2."""
    size = 0.2 * math.sqrt(max(moment.shape[-2:]))
    return size * orthogonal(moment.to(dtype)).to(moment.dtype)


def orthogonal(matrix: Tensor) -> Tensor:
    """(..., m, n): all singular values near 1, by Newton-Schulz iterations, in its precision."""
    if matrix.size(-2) > matrix.size(-1):
        return orthogonal(matrix.mT).mT
    a, b, c = COEFFICIENTS
    x = matrix / matrix.norm(dim=(-2, -1), keepdim=True).clamp(min=TINY)
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def blocks_of(name: str, model: nn.Module) -> list[int]:
    """Rows of the matrices in a parameter: queries, keys and values, or two of a memory."""
    rows = model.get_parameter(name).size(-2)
    if name.endswith("qkv.weight"):
        mixed = model.get_parameter(name.removesuffix("qkv.weight") + "out.weight")
        queries = mixed.size(1)  # as many as values of all heads go out
        return [queries, (rows - queries) // 2, (rows - queries) // 2]
    return [rows // 2, rows // 2] if name.endswith("memory.weight") else [rows]

"""A mixture of experts: many MLPs in a layer, of which each token is sent to a few.

A router gives every expert a probability; the most probable ones compute, and what they make is
added up in the shares of their probabilities (Shazeer et al. 2017; normalised over the chosen ones
as in Mixtral, Jiang et al. 2024). Tokens are sorted by expert and each expert multiplies its own in
one product, however many they are: none is dropped, and who has none costs nothing. Rows are moved
by gathering alone, there and back, so that sums have one order on every device.

Left alone a router sends all to few. So a training adds a price: E times the sum over experts of
(share of the choices) x (mean probability), which is least, k, when all are even (Switch, Fedus et
al. 2022, eq. 4). It is taken per row of a batch, as in DeepSeek-V3 (2024, eq. 17), not over a
micro batch: so it does not depend on how a batch is cut into micro batches and workers.

B batch, T sequence, N tokens, D width, F hidden features of an expert, E experts, k per token.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm.activations import ACTIVATIONS
from llm.config import GATED, ModelConfig


class Routing(NamedTuple):
    """Who was sent where by a layer."""

    probabilities: Tensor
    """(B, T, E) fp32"""
    chosen: Tensor
    """(B, T, k) experts, the most probable first."""


class Experts(nn.Module):
    """An MLP of many, used like any other: (..., D) -> (..., D)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        count, width, hidden = config.experts, config.width, config.hidden
        self.each = config.experts_per_token
        self.activation = ACTIVATIONS[config.mlp]
        self.router = nn.Linear(width, count, bias=False)
        self.gate = Stacked(count, width, hidden) if config.mlp in GATED else None
        self.up = Stacked(count, width, hidden)
        self.out = Stacked(count, hidden, width)
        self.watched = False
        self.routing: Routing | None = None

    def forward(self, x: Tensor) -> Tensor:
        probabilities = self.router(x).softmax(-1, dtype=torch.float32)  # (..., E)
        shares, chosen = probabilities.topk(self.each)  # (..., k)
        if self.watched:
            self.routing = Routing(probabilities, chosen)
        made = self.compute(x.flatten(0, -2), chosen.flatten(0, -2))  # (N, k, D)
        shares = (shares / shares.sum(-1, keepdim=True)).flatten(0, -2)
        return (made * shares[..., None]).sum(1).view(x.shape)

    def compute(self, x: Tensor, chosen: Tensor) -> Tensor:
        """What each token's experts make of it: (N, D), (N, k) -> (N, k, D)."""
        flat = chosen.flatten()
        order = flat.argsort(stable=True)  # (N k,)
        ends = torch.bincount(flat, minlength=self.router.out_features).cumsum(0)
        x = Sorted.apply(multiplied(x), order, order.argsort(), self.each)
        inner = self.up(x, ends)
        if self.gate is None:
            inner = self.activation(inner)
        else:
            inner = self.activation(self.gate(x, ends)) * inner
        made = Sorted.apply(self.out(inner, ends), order.argsort(), order, 1)
        return made.unflatten(0, chosen.shape)


class Stacked(nn.Module):
    """A linear map for every expert."""

    def __init__(self, count: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, outputs, inputs))

    def forward(self, x: Tensor, ends: Tensor) -> Tensor:
        """Rows (N k, inputs), grouped by expert, each group ending before its `ends`."""
        weight = self.weight.to(x.dtype).transpose(1, 2)
        return F.grouped_mm(x, weight, offs=ends.int())


def multiplied(x: Tensor) -> Tensor:
    """In the precision of products: autocast does not know of grouped ones."""
    device = x.device.type
    return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x


class Sorted(torch.autograd.Function):
    """Row i becomes what row order[i] // copies was; inverse: where each copy of a row went.

    The way back gathers, too; autograd's would add rows up in any order.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, inverse: Tensor, copies: int) -> Tensor:
        ctx.save_for_backward(inverse)
        ctx.copies = copies
        return x.index_select(0, order // copies if copies > 1 else order)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (inverse,) = ctx.saved_tensors
        rows = gradient.index_select(0, inverse)
        if ctx.copies > 1:
            rows = rows.unflatten(0, (-1, ctx.copies)).sum(1)
        return rows, None, None, None


@contextmanager
def watched(model: nn.Module) -> Iterator[list[Experts]]:
    """Inside, layers of experts remember how their last tokens were routed."""
    layers = [module for module in model.modules() if isinstance(module, Experts)]
    try:
        for layer in layers:
            layer.watched = True
        yield layers
    finally:
        for layer in layers:
            layer.watched, layer.routing = False, None


def balance_loss(layers: list[Experts], counted: Tensor) -> Tensor:
    """The price of uneven experts, mean over layers, sum over the counted tokens, (B, T) bool."""
    routings = [layer.routing for layer in layers if layer.routing is not None]
    assert len(routings) == len(layers) > 0
    return torch.stack([unevenness(routing, counted) for routing in routings]).mean()


def unevenness(routing: Routing, counted: Tensor) -> Tensor:
    """Of one layer: over rows, counted tokens x E x sum of shares x mean probabilities."""
    weights = counted.to(routing.probabilities.dtype)  # (B, T)
    mass = (routing.probabilities * weights[..., None]).sum(1)  # (B, E)
    choices = routing.chosen.flatten(1)  # (B, T k)
    each = weights.repeat_interleave(routing.chosen.size(2), 1)
    taken = torch.zeros_like(mass).scatter_add(1, choices, each)
    tokens = weights.sum(1).clamp(min=1)
    return (mass.size(1) * (taken * mass).sum(1) / tokens).sum()

"""The MLP of a layer as it is computed for writing: products laid out, what lies between in a pass.

Hidden features are filled up to a multiple of `GRID` with ones that are always 0. So vectors of
torch never end in the middle of a row: it computes what does not fill a vector in another way, and
a text is not to depend on how many are beside it. For the same reason rows go through a
non-linearity of torch in portions that it does not share out among threads, and what a token's
experts make is added up in the order of their shares, whoever else they work for.

N tokens, D width, F hidden features, k experts per token.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from llm.activations import Activation
from llm.between import make_gate
from llm.experts import Experts
from llm.mlp import GatedMlp, Mlp
from llm.products import NativeProduct, Product

GRID = 64
"""Twice the numbers of torch's longest vectors, as many as it computes at once."""

SHARED_OUT = 16_384
"""Numbers from which on torch may compute an element-wise function in several threads."""


class LayOut(Protocol):
    """Weights (outputs, inputs) and additive terms as a product."""

    def __call__(
        self, weight: Tensor, bias: Tensor | None = None, *, exact: bool = False
    ) -> Product:
        """exact: not in 8 bits."""
        ...


def lay_out_mlp(mlp: Mlp | GatedMlp | Experts, lay_out: LayOut, dtype: torch.dtype) -> Product:
    """(N, D) -> (N, D) in the precision of products, `dtype`."""
    if isinstance(mlp, Experts):
        return Mixture(mlp, lay_out, dtype)
    into, out = [mlp.up], mlp.out
    if isinstance(mlp, GatedMlp):
        into = [mlp.gate, mlp.up]
    bias = None if mlp.up.bias is None else torch.cat([filled(one.bias, 0) for one in into])
    first = lay_out(torch.cat([filled(one.weight, 0) for one in into]), bias)
    second = lay_out(filled(out.weight, 1), out.bias)
    between = make_between(mlp.activation, isinstance(mlp, GatedMlp), mlp.up.weight, dtype)
    return lambda x: second(between(first(x)))


class Mixture:
    """Experts, of which each token goes to a few."""

    def __init__(self, experts: Experts, lay_out: LayOut, dtype: torch.dtype) -> None:
        self.each = experts.each
        self.router = lay_out(experts.router.weight, exact=True)
        into = [one.weight for one in (experts.gate, experts.up) if one is not None]
        self.first = [
            lay_out(torch.cat([filled(weight[at], 0) for weight in into]))
            for at in range(len(into[0]))
        ]
        self.second = [lay_out(filled(weight, 1)) for weight in experts.out.weight]
        self.between = make_between(experts.activation, len(into) == 2, into[0][0], dtype)
        self.least = 1 if isinstance(self.second[0], NativeProduct) else 2

    def __call__(self, x: Tensor) -> Tensor:
        """(N, D) -> (N, D)."""
        shares, chosen = self.router(x).softmax(-1, dtype=torch.float32).topk(self.each)  # (N, k)
        shares = shares / shares.sum(-1, keepdim=True)
        order = chosen.flatten().argsort(stable=True)  # (N k,)
        counts = chosen.flatten().bincount(minlength=len(self.first)).tolist()
        sent = x[order // self.each].split(counts)
        made = torch.cat([self.expert(at, rows) for at, rows in enumerate(sent) if len(rows)])
        made = made[order.argsort()].unflatten(0, chosen.shape)  # (N, k, D)
        total = made[:, 0] * shares[:, :1]
        for at in range(1, self.each):
            total = total + made[:, at] * shares[:, at, None]
        return total.to(x.dtype)

    def expert(self, at: int, rows: Tensor) -> Tensor:
        """What one makes of the tokens that are sent to it."""
        count = len(rows)
        rows = rows if count >= self.least else rows.repeat(self.least, 1)
        return self.second[at](self.between(self.first[at](rows)))[:count]


def filled(x: Tensor, dim: int) -> Tensor:
    """Zeros at the end of a dimension, up to the grid."""
    more = -x.size(dim) % GRID
    return F.pad(x, [0, 0] * (x.dim() - 1 - dim) + [0, more])


def make_between(
    activation: Activation, gated: bool, into: Tensor, dtype: torch.dtype
) -> Callable[[Tensor], Tensor]:
    """From what goes into the hidden features, (N, F or 2 F), to what comes out, (N, F).

    into: (hidden features, D), the weights that lead there.
    """
    if not gated:
        return in_portions(activation)
    gate = None
    if activation is F.silu:
        gate = make_gate(-(-len(into) // GRID) * GRID, into.device, dtype)
    return gate or partial(by_torch, in_portions(activation))


def by_torch(activation: Activation, both: Tensor) -> Tensor:
    """Gate and value side by side, (N, 2 F) -> activation of the gate times the value, (N, F)."""
    first, second = both.chunk(2, -1)
    return activation(first) * second


def in_portions(activation: Activation) -> Activation:
    """The same for (N, F), some rows at a time."""

    def apply(x: Tensor) -> Tensor:
        rows = max(1, (SHARED_OUT - 1) // x.size(1))
        if x.device.type != "cpu" or len(x) <= rows:
            return activation(x)
        return torch.cat([activation(part) for part in x.split(rows)])

    return apply

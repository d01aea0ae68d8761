"""The MLP of a layer as it is computed for writing: products laid out, what lies between in a pass.

Hidden features are filled up to a multiple of `GRID` with ones that are always 0. So vectors of
torch never end in the middle of a row: it computes what does not fill a vector in another way, and
a text is not to depend on how many are beside it. For the same reason rows go through a
non-linearity of torch in portions that it does not share out among threads.

N tokens, D width, F hidden features.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from llm.between import make_gate
from llm.mlp import Activation, GatedMlp, Mlp
from llm.products import Product

GRID = 64
"""Twice the numbers of torch's longest vectors, as many as it computes at once."""

SHARED_OUT = 16_384
"""Numbers from which on torch may compute an element-wise function in several threads."""

LayOut = Callable[[Tensor, Tensor | None], Product]
"""Weights (N, K) and biases to a product."""


def lay_out_mlp(mlp: Mlp | GatedMlp, lay_out: LayOut, dtype: torch.dtype) -> Product:
    """(N, D) -> (N, D) in the precision of products."""
    weights, biases = [mlp.up.weight], [mlp.up.bias]
    if isinstance(mlp, GatedMlp):
        weights, biases = [mlp.gate.weight, *weights], [mlp.gate.bias, *biases]
    into = torch.cat([filled(weight, 0) for weight in weights])
    bias = None if mlp.up.bias is None else torch.cat([filled(one, 0) for one in biases])
    first, out = lay_out(into, bias), lay_out(filled(mlp.out.weight, 1), mlp.out.bias)
    between = make_between(mlp, len(into) // len(weights), dtype)
    return lambda x: out(between(first(x)))


def filled(x: Tensor, dim: int) -> Tensor:
    """Zeros at the end of a dimension, up to the grid."""
    more = -x.size(dim) % GRID
    return F.pad(x, [0, 0] * (x.dim() - 1 - dim) + [0, more])


def make_between(mlp: Mlp | GatedMlp, hidden: int, dtype: torch.dtype) -> Activation:
    """From what goes into the hidden features, (N, F or 2 F), to what comes out, (N, F)."""
    activation = mlp.activation
    if not isinstance(mlp, GatedMlp):
        return in_portions(activation)
    if activation is F.silu:
        gate = make_gate(hidden, mlp.up.weight.device, dtype)
        if gate is not None:
            return gate
    return partial(gated, in_portions(activation))


def gated(activation: Activation, both: Tensor) -> Tensor:
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

"""Causal attention there and back: ours in C, products in the open, torch's fused kernel.

    OMP_NUM_THREADS=1 python -m tests.bench attention

Shapes of llm/causal.py's users; milliseconds of the processor, the best of some turns.
"""

import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from llm.attention import attend_by_products
from llm.causal import attend_causally

TURNS = 8
SHAPES = [(12, 4, 64, 32), (16, 2, 256, 64), (8, 6, 256, 64), (4, 12, 512, 64), (2, 12, 1024, 64)]
SHAPES += [(1, 12, 2048, 64), (4, 8, 256, 128)]
"""Texts, heads, tokens, features of a head."""


def in_the_open(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return attend_by_products(query, key, value, 0.0, None)


def fused(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, is_causal=True)


WAYS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "in C": attend_causally,
    "products": in_the_open,
    "torch, fused": fused,
}


def main() -> None:
    """A table for each precision, with a row for each shape."""
    torch.set_num_threads(1)
    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        title = f"attention there and back, {precision}, ms of one core, best of {TURNS}"
        table = Table(title=title)
        table.add_column("texts x heads x tokens x features")
        for name in WAYS:
            table.add_column(name, justify="right")
        for shape in SHAPES:
            best = times(dtype, *shape)
            table.add_row(" x ".join(map(str, shape)), *(f"{best[name]:.1f}" for name in WAYS))
        Console().print(table)


def times(
    dtype: torch.dtype, texts: int, heads: int, tokens: int, features: int
) -> dict[str, float]:
    """The ways in turns."""
    qkv = torch.randn(texts, tokens, 3 * heads, features, dtype=dtype, requires_grad=True)
    grad = torch.randn(texts, tokens, heads, features, dtype=dtype).transpose(1, 2)
    parts = [part.transpose(1, 2) for part in qkv.split(heads, dim=2)]
    best = dict.fromkeys(WAYS, float("inf"))
    for _ in range(TURNS):
        for name, way in WAYS.items():
            leaves = [part.detach().requires_grad_() for part in parts]
            start = time.process_time()
            way(leaves[0], leaves[1], leaves[2]).backward(grad)
            best[name] = min(best[name], 1000 * (time.process_time() - start))
    return best


if __name__ == "__main__":
    main()

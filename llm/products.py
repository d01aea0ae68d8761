"""Linear layers whose weights never change: laid out once, in the way they are multiplied fastest.

Processors that add up products of bf16 or of bytes in pairs or fours (AVX512 BF16, VNNI) do so in C
(bf16.c, int8.c), which reads weights as fast as memory gives them: 85M weights, one thread of a
Zen 4, milliseconds in C and by oneDNN: 1 row 6.6 and 11.8, 8 rows 13.7 and 21.1, 32 rows 30.3 and
34.5, 128 rows 109 and 115; int8 3.2, 5.0, 17.2 and 66. Elsewhere oneDNN's packed weights are used,
also where it has matrix tiles (AMX) for bf16, and other devices have F.linear.

int8: a weight is a whole number from -127 to 127 times a scale of its output, and in C a row of
inputs becomes whole numbers times a scale of its own (dynamic quantisation).

M rows, K inputs, N outputs.
"""

import ctypes
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from llm.causal import TILES
from llm.native import library
from llm.world import Precision

Product = Callable[[Tensor], Tensor]
"""x (M, K) -> x W^T + b (M, N)."""

BLOCK = 32
"""Outputs that are worked out at once; as in bf16.c and int8.c."""


class NativeProduct:
    """In C. Each row of the result is the same whatever rows are computed beside it."""

    def __init__(
        self, loaded: ctypes.CDLL, laid_out: Tensor, constants: tuple[Tensor | None, ...], size: int
    ) -> None:
        self.multiply = loaded.multiply
        self.laid_out, self.constants, self.size = laid_out, constants, size
        self.given = [None if each is None else each.data_ptr() for each in constants]
        self.multiply.argtypes = [ctypes.c_void_p] * (5 + len(self.given)) + [ctypes.c_int64] * 4
        self.multiply.restype = None

    def __call__(self, x: Tensor) -> Tensor:
        x = x.contiguous()
        rows, inputs = x.shape
        outputs = len(self.laid_out) * BLOCK
        y = torch.empty(rows, outputs, dtype=torch.bfloat16)
        work = torch.empty(rows * inputs + 4 * rows + 64, dtype=torch.uint8)
        steps = work.data_ptr()
        self.multiply(
            x.data_ptr(),
            self.laid_out.data_ptr(),
            *self.given,
            y.data_ptr(),
            steps + 4 * rows,
            steps,
            rows,
            inputs,
            outputs,
            torch.get_num_threads(),
        )
        return y if outputs == self.size else y[:, : self.size]


def lay_out(weight: Tensor, bias: Tensor | None, precision: Precision | Literal["int8"]) -> Product:
    """A product with weights (N, K) as they are now."""
    weight = weight.detach()
    bias = None if bias is None else bias.detach()
    if weight.device.type == "cpu" and precision != "fp32":
        native = lay_out_native(weight, bias, precision)
        if native is not None:
            return native
    if precision == "int8":
        whole, scale = quantized(weight)
        return partial(multiply_int8, whole=whole, scale=scale.bfloat16(), bias=bias)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    # .to may return the parameter itself, which goes on being trained
    weight = weight.to(dtype, copy=True)
    bias = None if bias is None else bias.to(dtype, copy=True)
    if weight.device.type != "cpu":
        return partial(F.linear, weight=weight, bias=bias)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    multiply = torch.ops.mkldnn._linear_pointwise.default
    return lambda x: multiply(x, packed, bias, "none", [], "")


def lay_out_native(
    weight: Tensor, bias: Tensor | None, precision: Literal["bf16", "int8"]
) -> NativeProduct | None:
    """The same in C, where that can be had."""
    if precision == "bf16" and TILES:
        return None
    together = 4 if precision == "int8" else 2
    loaded = library(f"{precision}.c", ()) if weight.size(1) % together == 0 else None
    if loaded is None:
        return None
    outputs = len(weight)
    more = -outputs % BLOCK
    bias = None if bias is None else F.pad(bias.float(), (0, more)).clone()
    if precision == "bf16":
        return NativeProduct(loaded, in_blocks(weight.bfloat16(), more), (bias,), outputs)
    whole, scale = quantized(weight)
    offsets = F.pad(whole.sum(1, dtype=torch.int32) * 128, (0, more))
    constants = (F.pad(scale, (0, more)), offsets, bias)
    return NativeProduct(loaded, in_blocks(whole, more), constants, outputs)


def in_blocks(weight: Tensor, more: int) -> Tensor:
    """(N, K), and `more` outputs of nothing -> (N / BLOCK, K', BLOCK): K in groups of 32 bits."""
    groups = weight.contiguous().view(torch.int32)
    groups = F.pad(groups, (0, 0, 0, more)) if more else groups
    return groups.unflatten(0, (-1, BLOCK)).transpose(1, 2).contiguous()


def quantized(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers (N, K), and what one is worth (N,)."""
    scale = weight.float().abs().amax(1).clamp(min=1e-12) / 127
    return (weight.float() / scale[:, None]).round().to(torch.int8), scale


def multiply_int8(x: Tensor, whole: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """By torch, inputs as they are."""
    y = torch._weight_int8pack_mm(x, whole, scale)
    return y if bias is None else (y + bias).to(y.dtype)

"""What stands between the products of a layer: norms with the sum before them, the gate of SwiGLU.

torch takes about ten calls for a norm and its casts, which in small models cost as much as the
products. In C (between.c) each is one pass over the rows; elsewhere torch does it.

N tokens, D width, F hidden features.
"""

import ctypes
from collections.abc import Callable

import torch
from torch import Tensor, nn

from llm.native import LANES, library

Norm = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]]
"""The residual stream, (N, D) fp32, and what is to be added to it; their sum, and that normalised
in the precision of products. The stream may be changed in place."""


def make_norm(norm: nn.Module, dtype: torch.dtype) -> Norm:
    """As `norm` does it."""
    weight = getattr(norm, "weight", None)
    loaded = library("between.c", ()) if usable(weight, dtype) else None
    if loaded is not None and isinstance(norm, nn.RMSNorm) and weight is not None:
        return native_norm(loaded, weight.detach().float().clone(), norm.eps or 0.0)

    def add_and_normalize(x: Tensor, added: Tensor | None) -> tuple[Tensor, Tensor]:
        x = x if added is None else x + added
        return x, norm(x).to(dtype)

    return add_and_normalize


def usable(weight: Tensor | None, dtype: torch.dtype) -> bool:
    """Whether C knows what to do with it."""
    if weight is None or dtype != torch.bfloat16:
        return False
    return weight.device.type == "cpu" and len(weight) % LANES == 0


def native_norm(loaded: ctypes.CDLL, weight: Tensor, epsilon: float) -> Norm:
    """In C."""
    normalize = loaded.normalize
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    normalize.argtypes = [pointer] * 4 + [ctypes.c_float] + [number] * 3
    normalize.restype = None

    def add_and_normalize(x: Tensor, added: Tensor | None) -> tuple[Tensor, Tensor]:
        x = x.contiguous()
        added = None if added is None else added.contiguous()
        rows, width = x.shape
        y = torch.empty(rows, width, dtype=torch.bfloat16)
        normalize(
            x.data_ptr(),
            None if added is None else added.data_ptr(),
            weight.data_ptr(),
            y.data_ptr(),
            epsilon,
            rows,
            width,
            torch.get_num_threads(),
        )
        return x, y

    return add_and_normalize


def make_gate(
    hidden: int, device: torch.device, dtype: torch.dtype
) -> Callable[[Tensor], Tensor] | None:
    """Gate and value side by side, (N, 2 F) -> SiLU of the gate times the value, (N, F).

    In C; None where that cannot be had.
    """
    fits = device.type == "cpu" and dtype == torch.bfloat16 and hidden % LANES == 0
    loaded = library("between.c", ()) if fits else None
    if loaded is None:
        return None
    native = loaded.gate
    native.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_int64] * 3
    native.restype = None

    def gate(both: Tensor) -> Tensor:
        both = both.contiguous()
        y = torch.empty(len(both), hidden, dtype=dtype)
        native(both.data_ptr(), y.data_ptr(), len(both), hidden, torch.get_num_threads())
        return y

    return gate

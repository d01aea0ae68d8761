"""Causal attention of a training in C (causal.c): in fp32, and in bf16 without matrix tiles.

torch's fused kernel for CPUs works out much of what nobody sees, and its bf16 is made for matrix
tiles (AMX); products in the open store all scores. Milliseconds there and back, one thread of a Zen
4, 64 features a head, here / by products / fused (`python -m tests.bench attention`):

    8 x 6 heads, 256 tokens     bf16  13 /  24 /  45    fp32  22 /   48 /  39
    4 x 12 heads, 512 tokens          40 /  83 / 153          72 /  257 / 151
    12 heads, 2048 tokens            136 / 537 / 322         249 / 1017 / 368

Compiled code calls it as one operator and knows its gradient, so layers around it stay whole.

B texts, H heads, K heads of keys and values, T tokens, E features of a head.
"""

import ctypes
from functools import cache

import torch
from torch import Tensor

from llm.native import LANES, VALUES, library

MOST_FEATURES = 256
"""Of a head; more would not stay near the processor."""

TILES = torch.cpu._is_amx_tile_supported()
"""Whether this processor has AMX, for which torch's fused kernel is made."""


def takes(dtype: torch.dtype, device: torch.device, features: int) -> bool:
    """Whether `attend_causally` is there for heads of so many features, and the faster way."""
    if device.type != "cpu" or (dtype == torch.bfloat16 and TILES):
        return False
    return dtype in VALUES and available(features, dtype)


@torch.compiler.assume_constant_result
def available(features: int, dtype: torch.dtype = torch.bfloat16) -> bool:
    """Whether this machine has the functions for heads of so many features."""
    fits = features % LANES == 0 and features <= MOST_FEATURES
    return fits and native(features, dtype) is not None


@cache
def native(features: int, dtype: torch.dtype) -> ctypes.CDLL | None:
    """The functions for heads of so many features; None where they cannot be had."""
    loaded = library("causal.c", (f"FEATURES={features}", *VALUES[dtype]))
    if loaded is None:
        return None
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    loaded.attend_forward.argtypes = [pointer] * 10 + [number] * 5
    loaded.attend_backward.argtypes = [pointer] * 18 + [number] * 5
    loaded.attend_forward.restype = loaded.attend_backward.restype = None
    return loaded


def attend_causally(
    query: Tensor, key: Tensor, value: Tensor, starts: Tensor | None = None
) -> Tensor:
    """Each query sees its own key and all earlier ones, or those from a start on: (B, H, T, E).

    query: (B, H, T, E); key, value: (B, K, T, E), each for H / K neighbouring heads of queries.
    starts: (B or 1, T) int32, the first key that each query sees; none is before its predecessor's.
    """
    mixed: Tensor = attend_forward(query, key, value, starts)[0]
    return mixed


@torch.library.custom_op("humpty::attend_forward", mutates_args=())
def attend_forward(
    query: Tensor, key: Tensor, value: Tensor, starts: Tensor | None
) -> tuple[Tensor, Tensor]:
    """What queries find, and the logarithms of the sums of their scores' powers, (B, H, T) fp32."""
    query, key, value = lined(query), lined(key), lined(value)
    mixed, logs = like(query), query.new_empty(query.shape[:3], dtype=torch.float32)
    loaded = native(query.size(-1), query.dtype)
    assert loaded is not None
    given = (query, key, value, mixed)
    loaded.attend_forward(
        *(each.data_ptr() for each in (*given, logs)),
        place_of(starts := for_each(starts, query)),
        *map(steps_of, given),
        *sizes(query, key),
    )
    return mixed, logs


@torch.library.custom_op("humpty::attend_backward", mutates_args=())
def attend_backward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    starts: Tensor | None,
    mixed: Tensor,
    logs: Tensor,
    grad: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of query, key and value."""
    query, key, value, mixed, grad = map(lined, (query, key, value, mixed, grad))
    logs = logs.contiguous()
    found = like(query), like(key), like(value)
    loaded = native(query.size(-1), query.dtype)
    assert loaded is not None
    given = (query, key, value, mixed, grad, *found)
    loaded.attend_backward(
        *(each.data_ptr() for each in (*given[:4], logs)),
        place_of(starts := for_each(starts, query)),
        *(each.data_ptr() for each in given[4:]),
        *map(steps_of, given),
        *sizes(query, key),
    )
    return found


@attend_forward.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, starts: Tensor | None) -> tuple[Tensor, Tensor]:
    return like(query), query.new_empty(query.shape[:3], dtype=torch.float32)


@attend_backward.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, *_: object) -> tuple[Tensor, Tensor, Tensor]:
    return like(query), like(key), like(value)


def keep(ctx, inputs: tuple[Tensor | None, ...], output: tuple[Tensor, ...]) -> None:  # type: ignore[no-untyped-def]
    """What the backward pass reads."""
    ctx.save_for_backward(*inputs, *output)


def differentiate(ctx, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[no-untyped-def]
    """By the operator's own backward pass; nobody asks for the gradient of the logarithms."""
    return (*attend_backward(*ctx.saved_tensors, grad), None)


attend_forward.register_autograd(differentiate, setup_context=keep)


def like(x: Tensor) -> Tensor:
    """Empty, heads side by side in memory, as the products around attention want them."""
    texts, heads, tokens, features = x.shape
    return x.new_empty(texts, tokens, heads, features).transpose(1, 2)


def lined(x: Tensor) -> Tensor:
    """With the features of a head side by side."""
    return x if x.stride(-1) == 1 else x.contiguous()


def for_each(starts: Tensor | None, query: Tensor) -> Tensor | None:
    """A row for each text."""
    if starts is None:
        return None
    assert starts.dtype == torch.int32
    return starts.expand(query.size(0), -1).contiguous()


def place_of(x: Tensor | None) -> int | None:
    """Where it lies in memory."""
    return None if x is None else x.data_ptr()


def steps_of(x: Tensor) -> ctypes.Array[ctypes.c_int64]:
    """How far apart texts, heads and tokens are."""
    return (ctypes.c_int64 * 3)(*x.stride()[:3])


def sizes(query: Tensor, key: Tensor) -> tuple[int, ...]:
    """Texts, heads, heads of keys and values, tokens, threads."""
    return (*query.shape[:2], key.size(1), query.size(2), torch.get_num_threads())

"""Attention to lines of keys and values in C (attend.c).

It reads keys and values once, as they lie, of every text as many as it has, in the precision of
products, with the rotation on the way: what torch needs a dozen calls and fp32 memory for
(llm/pool.py, which is used where there is no compiler, on other devices, and for heads that are no
multiple of 16 features). 97M parameters, 32 texts of 100 tokens, one thread: a step takes 57 ms in
place of 85.

Every query is worked out by itself in a fixed order, so what a token finds does not depend on what
is computed beside it, nor on whether its text was read or written: to the last bit.

N tokens, H heads, K heads of keys and values, E features of a head, P tokens of a context, rounded
up.
"""

import ctypes
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from llm.config import ModelConfig
from llm.native import LANES, library
from llm.pool import Run, on_grid
from llm.sight import slopes_of

GROUP = 32
"""Tokens whose keys lie side by side; as in attend.c."""
TOGETHER = 4
"""Tokens of a prompt that look at its keys at once; as in attend.c."""

Attend = Callable[..., None]


def attention(dtype: torch.dtype, features: int) -> Attend | None:
    """The function for heads of so many features, or None where it cannot be had."""
    if features % LANES or dtype not in (torch.float32, torch.bfloat16):
        return None
    values = (f"BF16={int(dtype == torch.bfloat16)}", f"FEATURES={features}")
    loaded = library("attend.c", values)
    if loaded is None:
        return None
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    loaded.attend.argtypes = [pointer] * 12 + [number] * 7 + [ctypes.c_float]
    loaded.attend.restype = None
    attend: Attend = loaded.attend
    return attend


class NativePool:
    """A key-value cache of `count` lines, as `llm.pool.Pool` is one."""

    def __init__(
        self,
        attend: Attend,
        config: ModelConfig,
        count: int,
        dtype: torch.dtype,
        turns: Tensor | None,
    ) -> None:
        self.native, self.turns = attend, turns
        self.config, self.features = config, config.width // config.heads
        self.slopes = slopes_of(config)
        self.room = on_grid(config.context)
        shape = (config.depth, 2, count, config.kv_heads, self.room, self.features)
        self.memory = torch.zeros(shape, dtype=dtype)
        self.bases = [[part.data_ptr() for part in layer] for layer in self.memory]
        self.scores = torch.empty(0)

    def copy(self, source: int, target: int, tokens: int) -> None:
        """The first tokens of a line become those of another one."""
        whole = -(-tokens // GROUP) * GROUP
        self.memory[:, :, target, :, :whole] = self.memory[:, :, source, :, :whole]

    def expect(self, writing: Sequence[tuple[int, int]], reading: Sequence[Run]) -> Tensor:
        """The next tokens: one for each (line, place), then the runs'; the places of all: (N,)."""
        lines = [line for line, _ in writing] + [r.line for r in reading for _ in range(r.tokens)]
        places = [place for _, place in writing]
        items = [(at, 1) for at in range(len(writing))]
        for run in reading:
            first, stop = len(places), len(places) + run.tokens
            items += [(at, min(TOGETHER, stop - at)) for at in range(first, stop, TOGETHER)]
            places += range(run.start, run.start + run.tokens)
        self.lines, self.places = torch.tensor(lines), torch.tensor(places)
        self.items = torch.tensor(items).T.contiguous()
        self.queries = torch.empty(len(lines), self.config.width)
        self.threads = torch.get_num_threads()
        if len(self.scores) != self.threads:
            self.scores = torch.empty(self.threads, TOGETHER, self.room)
        return self.places

    def attend(self, layer: int, qkv: Tensor, norms: Tensor | None) -> Tensor:
        """Normalises and turns new keys, stores them and values, lets queries look.

        qkv: (N, (H + 2 K) E); norms: weights for queries and keys, (2, E) fp32; gives (N, D).
        """
        assert qkv.dtype == self.memory.dtype
        qkv = qkv.contiguous()  # which a product in C is not if its outputs fill no block
        mixed = torch.empty(len(qkv), self.config.width, dtype=qkv.dtype)
        keys, values = self.bases[layer]
        self.native(
            qkv.data_ptr(),
            mixed.data_ptr(),
            keys,
            values,
            self.lines.data_ptr(),
            self.places.data_ptr(),
            None if self.turns is None else self.turns.data_ptr(),
            None if norms is None else norms.data_ptr(),
            None if self.slopes is None else self.slopes.data_ptr(),
            self.items.data_ptr(),
            self.queries.data_ptr(),
            self.scores.data_ptr(),
            len(self.places),
            self.config.heads,
            self.config.kv_heads,
            self.room,
            self.config.window or self.room,
            self.items.size(1),
            self.threads,
            self.config.norm_eps,
        )
        return mixed

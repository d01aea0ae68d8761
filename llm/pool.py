"""Keys and values of texts that come and go at any step: a line of memory for each.

Every line has room for a whole context, so a text never moves while it grows, and what a finished
text left behind can be read on by the next one. A step brings N new tokens of two kinds: one token
each of texts that are being written, and runs of tokens of prompts that are being read. The former
are compared with the memory as it lies, lines side by side in one product; a text that is much
longer than its neighbours, or lines between them that nobody writes, would only be filler there, so
they are cut into segments where that is cheaper (`segments`).

What a token finds does not depend on the tokens that are computed beside it, to the last bit: a
text stays the same whoever else writes. MKL's products round differently for 1, 2, 3 and more
rows, for columns at the ragged end of a matrix, and for some sums of 256 terms and more. So all
sizes are multiples of `GRID` (one row at a time is the same for any); prompts are read in blocks
that begin and end on it, at least `ROWS` rows each, whatever portions they come in. A test watches
over this; it was found with torch 2.13 on a processor with AVX512.

On a processor keys and values are fp32, which takes half the time of torch's fused kernel on as
many bf16 ones (see llm/slots.py); the memory is claimed from the system as it is filled.

H heads, K heads of keys and values, E features of a head, P tokens of a context, S tokens of the
longest text of a segment, the last two rounded up.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from llm.config import ModelConfig
from llm.sight import Sight, look

GRID = 64
"""Tokens."""

ROWS = 4

FILLER = 48_000
"""Features of keys that may be multiplied for nothing before another product is cheaper."""


class Run(NamedTuple):
    """New tokens of a line, the first of them at `start`."""

    line: int
    start: int
    tokens: int


class Segment(NamedTuple):
    """Neighbouring lines, from `first` to before `last`, that are compared in one product."""

    first: int
    last: int
    longest: int
    """Tokens of the longest of its texts, the new one included, rounded up."""
    begin: int
    """Of its texts in the order of all."""
    end: int


class Batch(NamedTuple):
    """Queries from `begin` to before `end` that look at some lines."""

    begin: int
    end: int
    lines: slice
    longest: int
    added: Tensor
    """To their scores; as in llm.sight.look."""
    chosen: Tensor | None = None
    """Which lines have queries, unless all have."""


class Pool:
    """A key-value cache of `count` lines, and attention to it."""

    def __init__(
        self, config: ModelConfig, count: int, *, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.heads, self.features = config.heads, config.width // config.heads
        self.sight, shared = Sight(config, device), config.kv_heads
        room = on_grid(config.context)
        shape = (config.depth, 2, count, shared, room, self.features)
        self.memory = torch.zeros(shape, device=device, dtype=dtype)
        starts = torch.arange(2 * count * shared) * room
        starts = starts.view(2, count, shared).transpose(0, 1)
        self.starts = starts.flatten(1)  # (lines, 2 K): where keys and values of each head begin
        self.filler = FILLER // config.width

    def copy(self, source: int, target: int, tokens: int) -> None:
        """The first tokens of a line become those of another one."""
        self.memory[:, :, target, :, :tokens] = self.memory[:, :, source, :, :tokens]

    def expect(self, writing: Sequence[tuple[int, int]], reading: Sequence[Run]) -> Tensor:
        """The next tokens: one for each (line, place), lines ascending, then the runs'.

        Returns the places of all: (N,).
        """
        lines = [line for line, _ in writing] + [r.line for r in reading for _ in range(r.tokens)]
        places = [place for _, place in writing]
        places += [place for r in reading for place in range(r.start, r.start + r.tokens)]
        where = torch.tensor(places)
        device = self.memory.device
        self.ends = (self.starts[lines] + where[:, None]).flatten().to(device)
        lengths = [(line, on_grid(place + 1)) for line, place in writing]
        self.writing = [
            self._side_by_side(segment, writing[segment.begin : segment.end])
            for segment in segments(lengths, self.filler)
        ]
        self.reading, begin = [], len(writing)
        for run in reading:
            for block in blocks(run):
                self.reading.append(self._block(begin, block))
                begin += block.tokens
        return where.to(device)

    def _side_by_side(self, segment: Segment, writing: Sequence[tuple[int, int]]) -> Batch:
        """A token of each text looks at all of it, and not behind."""
        first, count = segment.first, segment.last - segment.first
        lines = [line - first for line, _ in writing]
        last = torch.zeros(count, dtype=torch.int64)
        last[lines] = torch.tensor([place for _, place in writing])
        added = self.sight.of_texts(last, segment.longest, self.memory.dtype)
        chosen = torch.tensor(lines).to(added.device) if count > len(writing) else None
        every = slice(first, segment.last)
        return Batch(segment.begin, segment.end, every, segment.longest, added, chosen)

    def _block(self, begin: int, block: Run) -> Batch:
        """Each token of a block looks at those before it."""
        longest = on_grid(block.start + block.tokens)
        last = torch.arange(block.start, block.start + max(block.tokens, ROWS))
        added = self.sight.of_tokens(last, longest, self.memory.dtype)
        line = slice(block.line, block.line + 1)
        return Batch(begin, begin + block.tokens, line, longest, added)

    def attend(self, layer: int, qkv: Tensor) -> Tensor:
        """Stores keys and values of the new tokens, lets their queries look: -> (N, H, E)."""
        memory = self.memory[layer]  # (2, lines, K, P, E)
        query, fresh = qkv[:, : self.heads], qkv[:, self.heads :].reshape(-1, self.features)
        memory.view(-1, self.features).index_copy_(0, self.ends, fresh)
        parts = [self._write(memory, query[b.begin : b.end], b) for b in self.writing]
        parts += [self._read(memory, query[b.begin : b.end], b) for b in self.reading]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _write(self, memory: Tensor, query: Tensor, batch: Batch) -> Tensor:
        """One query for each line: (texts, H, E)."""
        if batch.chosen is not None:
            lines = batch.lines.stop - batch.lines.start
            every = query.new_zeros(lines, *query.shape[1:])
            query = every.index_copy_(0, batch.chosen, query)
        mixed = self._look(memory, query[:, :, None], batch)[:, :, 0]
        return mixed if batch.chosen is None else mixed[batch.chosen]

    def _read(self, memory: Tensor, query: Tensor, batch: Batch) -> Tensor:
        """Many queries for one line: (rows, H, E)."""
        rows = len(query)
        if rows < ROWS:
            query = torch.cat((query, query.new_zeros(ROWS - rows, *query.shape[1:])))
        return self._look(memory, query.transpose(0, 1)[None], batch)[0].transpose(0, 1)[:rows]

    def _look(self, memory: Tensor, query: Tensor, batch: Batch) -> Tensor:
        """(lines, H, rows, E) -> (lines, H, rows, E)."""
        keys, values = memory[:, batch.lines, :, : batch.longest].unbind(0)
        return look(query, keys, values, batch.added)


def on_grid(tokens: int) -> int:
    """Rounded up to whole blocks."""
    return -(-tokens // GRID) * GRID


def blocks(run: Run) -> list[Run]:
    """A run cut where blocks begin."""
    stop = run.start + run.tokens
    edges = [run.start, *range(on_grid(run.start + 1), stop, GRID), stop]
    return [Run(run.line, start, end - start) for start, end in pairwise(edges)]


def segments(writing: Sequence[tuple[int, int]], filler: int) -> list[Segment]:
    """Lines and lengths of texts, lines ascending, as segments without much filler between them.

    A text joins the segment before it unless that would add more than `filler` tokens that are
    multiplied for nothing: of lines in between, of itself, or of those that it outgrows.
    """
    found: list[Segment] = []
    for at, (line, length) in enumerate(writing):
        if found:
            begun = found[-1]
            longest = max(begun.longest, length)
            before = (begun.last - begun.first) * begun.longest
            if (line + 1 - begun.first) * longest - before - length <= filler:
                found[-1] = begun._replace(last=line + 1, longest=longest, end=at + 1)
                continue
        found.append(Segment(line, line + 1, length, at, at + 1))
    return found

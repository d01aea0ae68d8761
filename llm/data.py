"""From shards to training sequences in an order that is a pure function of the seed.

1. A corpus is a list of units (about 1 MiB of a shard each). Epoch e takes them in the permutation
   drawn from (seed, e), eight to a position, so that a batch sees more than one book; the positions
   of all epochs in a row make one endless numbering.
2. A unit gives rows: its training documents in a drawn order, tokenised, each ended by the
   end-of-text token, cut into rows of context + 1 tokens. The first cut is drawn too, so that the
   borders fall elsewhere in every epoch. A position gives its units' rows in a drawn order.
3. Rows never cross units. So a `Cursor` of two numbers says exactly where a run stands, and
   continuing costs the tokenisation of one position, however far in, with any number of workers.

The price: about one and a half partly filled rows a unit (filled up with PAD, which is no target;
no token is dropped), some 0.3% of the rows at 1 MiB and a context of 512.

Shapes: R rows, Q rows of a block, C context.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from llm.config import DataConfig
from llm.documents import is_held_out, read_unit
from llm.errors import DataError
from llm.shards import Unit
from llm.tokenizer import Tokenizer

PAD = -1

MIXED_UNITS = 8
"""Units whose rows are shuffled together. With one, a run over two novels went through them in
turns, and the loss on the first rose while it read the second."""

SPREAD_UNITS = 16
"""Held-out text comes from this many units at least, if there are as many."""


@dataclass(frozen=True, order=True)
class Cursor:
    """Where the next sequence is: row `row` of a position in the endless order."""

    position: int = 0
    row: int = 0


@dataclass(frozen=True)
class Block:
    """Consecutive sequences, trained on in one forward pass, and where each of them stands.

    ids: (Q, C + 1) int32, PAD behind the end of a short row; position, row: (Q,) int64.
    """

    ids: np.ndarray
    position: np.ndarray
    row: np.ndarray

    @property
    def first(self) -> Cursor:
        """Where its first sequence stands."""
        return Cursor(int(self.position[0]), int(self.row[0]))

    @property
    def after(self) -> Cursor:
        """The cursor behind its last sequence."""
        return Cursor(int(self.position[-1]), int(self.row[-1]) + 1)

    def __getitem__(self, part: slice) -> "Block":
        return Block(self.ids[part], self.position[part], self.row[part])


def draw_order(count: int, *key: int) -> np.ndarray:
    """The permutation of range(count) that belongs to `key`.

    Sorted raw PCG64 output: numpy promises this stream for all versions, which it does not for
    `Generator.permutation`.
    """
    keys = np.random.PCG64(list(key)).random_raw(count)
    return np.argsort(keys, kind="stable")


@lru_cache(maxsize=2)
def epoch_order(units: int, seed: int, epoch: int) -> np.ndarray:
    """In which order an epoch visits the units; the two epochs at hand are remembered."""
    return draw_order(units, seed, epoch)


def pack(
    documents: Sequence[Sequence[int] | np.ndarray], eos: int, context: int, first: int
) -> np.ndarray:
    """Cut documents, joined and each ended by `eos`, into rows of context + 1 tokens: (R, C + 1).

    Every token is a target exactly once, the very first being predicted from an `eos`; a row's
    last token is the next row's first input. The first row holds `first` targets (1..context).
    """
    parts = [np.array([eos], np.int32)]
    for ids in documents:
        parts += [np.asarray(ids, np.int32), parts[0]]
    tokens = np.concatenate(parts)
    last = len(tokens) - 1
    if last == 0:
        return np.empty((0, context + 1), np.int32)
    starts = np.concatenate([[0], np.arange(first, last, context)])
    ends = np.append(starts[1:], last)
    index = starts[:, None] + np.arange(context + 1)  # (R, C + 1)
    return np.where(index <= ends[:, None], tokens[np.minimum(index, last)], np.int32(PAD))


@dataclass(frozen=True)
class Sequences:
    """All training sequences of a corpus, addressed by position in the endless order."""

    units: tuple[Unit, ...]
    data: DataConfig
    tokenizer: Tokenizer
    context: int
    seed: int

    @property
    def positions(self) -> int:
        """Positions of one epoch."""
        return -(-len(self.units) // MIXED_UNITS)

    def rows(self, cursor: Cursor) -> Block:
        """The rows of a position from the cursor's on, always the same; perhaps none."""
        epoch, index = divmod(cursor.position, self.positions)
        order = epoch_order(len(self.units), self.seed, epoch)
        mixed = order[index * MIXED_UNITS : (index + 1) * MIXED_UNITS]
        ids = np.concatenate([self.unit_rows(int(unit), epoch) for unit in mixed])
        ids = ids[draw_order(len(ids), self.seed, epoch, index, 2)]
        block = Block(ids, np.full(len(ids), cursor.position), np.arange(len(ids)))
        return block[cursor.row :]

    def unit_rows(self, unit: int, epoch: int) -> np.ndarray:
        """The rows of a unit in an epoch, as its documents lie: (R, C + 1)."""
        documents = self.training_documents(self.units[unit])
        key = (self.seed, epoch, unit)
        shuffled = [documents[i] for i in draw_order(len(documents), *key, 0)]
        first = 1 + int(np.random.PCG64([*key, 1]).random_raw() % self.context)
        return pack(self.tokenizer.encode_arrays(shuffled), self.tokenizer.eos, self.context, first)

    def training_documents(self, unit: Unit) -> list[str]:
        """A unit's documents that are not held out for validation."""
        fraction = self.data.validation.fraction
        return [text for text in read_unit(unit, self.data) if not is_held_out(text, fraction)]

    def blocks(self, cursor: Cursor, size: int) -> Iterator[Block]:
        """Endless blocks of `size` sequences from `cursor` on."""
        waiting = self.rows(cursor)
        while True:
            full = len(waiting.row) // size * size
            for start in range(0, full, size):
                yield waiting[start : start + size]
            cursor = Cursor(cursor.position + 1)
            waiting = join(waiting[full:], self.rows(cursor))


def join(one: Block, two: Block) -> Block:
    """The sequences of one block, then those of the other."""
    return Block(
        np.concatenate([one.ids, two.ids]),
        np.concatenate([one.position, two.position]),
        np.concatenate([one.row, two.row]),
    )


def require_training_text(sequences: Sequences) -> None:
    """Refuse a corpus that would give no sequence at all; reads up to the first document."""
    for unit in sequences.units:
        if sequences.training_documents(unit):
            return
    data = sequences.data
    raise DataError(
        f"data.shards: {', '.join(data.shards)}: no document is left to train on "
        f"(data.validation.fraction is {data.validation.fraction}, data.documents is "
        f"{data.documents}); add text, hold out less, or cut it into smaller documents"
    )


@dataclass(frozen=True)
class HeldOut:
    """Text that measures the model. rows: (R, C + 1) int32; bytes: UTF-8 length of its text."""

    rows: np.ndarray
    bytes: int


def held_out(
    units: Sequence[Unit], data: DataConfig, tokenizer: Tokenizer, context: int
) -> HeldOut | None:
    """Whole held-out documents from all over the corpus until `validation.tokens` is reached.

    None if nothing is held out. `units` are those of validation.shards if there are such.
    """
    wanted = data.validation.tokens
    share = -(-wanted // min(max(1, len(units)), SPREAD_UNITS))
    taken, spare = Pile(wanted), Pile(wanted)
    for index in draw_order(len(units), 0):
        from_here = Pile(share)
        for text in held_out_documents(units[index], data):
            full = from_here.full
            ids = tokenizer.encode(text)
            (spare if full else taken).add(text, ids)
            from_here.add(text, ids)
            if taken.full or (full and spare.full):
                break
        if taken.full:
            break
    for spared in zip(spare.texts, spare.ids, strict=True):
        taken.add(*spared)
    if not taken.ids:
        return None
    length = sum(len(text.encode()) for text in taken.texts)
    return HeldOut(pack(taken.ids, tokenizer.eos, context, context), length)


def held_out_documents(unit: Unit, data: DataConfig) -> Iterator[str]:
    """A unit's documents that measure the model: all of a validation shard, else its share."""
    for text in read_unit(unit, data):
        if data.validation.shards or is_held_out(text, data.validation.fraction):
            yield text


class Pile:
    """Documents up to the one that reaches `limit` tokens, ends of text included."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.tokens = 0
        self.texts: list[str] = []
        self.ids: list[Sequence[int]] = []

    @property
    def full(self) -> bool:
        """Whether nothing more goes on it."""
        return self.tokens >= self.limit

    def add(self, text: str, ids: Sequence[int]) -> None:
        """Put a document on it, if it is not full."""
        if not self.full:
            self.texts.append(text)
            self.ids.append(ids)
            self.tokens += len(ids) + 1

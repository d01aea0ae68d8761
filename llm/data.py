"""From units to training sequences in an order that is a pure function of the seed.

1. A corpus is a list of units (about 256 KiB of a shard each). `llm.order` says which of them each
   position reads, about 8 MiB; the positions of all epochs in a row make one endless numbering.
2. The documents of a position's units come in a drawn order, each ended by the end-of-text token,
   and are cut into rows of context + 1 tokens (`llm.packing`), which come in a drawn order again.
3. Rows never cross positions. So a `Cursor` of two numbers says exactly where a run stands, and
   continuing costs the tokenisation of one position, however far in, with any number of workers.

The price: about one partly filled row in 8 MiB (filled up with PAD, which is no target; no token is
dropped). Where the end of the text is known, `padding` rows of PAD fill up the last batch.

Shapes: R rows, Q rows of a block, C context.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from llm.config import DataConfig
from llm.documents import is_held_out, read_unit
from llm.errors import DataError
from llm.order import Order, Visit
from llm.packing import PAD, pack
from llm.shards import Unit
from llm.tokenizer import Tokenizer
from llm.units import Units


@dataclass(frozen=True, order=True)
class Cursor:
    """Where the next sequence is: row `row` of a position in the endless order."""

    position: int = 0
    row: int = 0


@dataclass(frozen=True)
class Block:
    """Consecutive sequences, and where each of them stands.

    ids: (Q, C + 1) int32, PAD behind the end of a short row; position, row: (Q,) int64.
    """

    ids: np.ndarray
    position: np.ndarray
    row: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

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


class Text(Protocol):
    """Where the tokens of a unit's training documents come from."""

    def documents(self, unit: int) -> list[np.ndarray]:
        """Tokens of each document, in the order of the file; without end-of-text."""


@dataclass(frozen=True)
class TokenisedText:
    """Documents read from shards and tokenised when they are asked for."""

    units: Units
    data: DataConfig
    tokenizer: Tokenizer

    def documents(self, unit: int) -> list[np.ndarray]:
        """Tokens of each training document of a unit."""
        return self.tokenizer.encode_arrays(training_documents(self.units[unit], self.data))


def training_documents(unit: Unit, data: DataConfig) -> list[str]:
    """A unit's documents that are not held out for validation."""
    fraction = data.validation.fraction
    if not fraction:
        return list(read_unit(unit, data))
    return [text for text in read_unit(unit, data) if not is_held_out(text, fraction)]


class Drawn(NamedTuple):
    """A document in its place: training document `number` of a visited unit, counted from 0."""

    visit: Visit
    number: int
    ids: np.ndarray


@dataclass(frozen=True)
class Sequences:
    """All training sequences of a corpus, addressed by position in the endless order."""

    text: Text
    order: Order
    eos: int
    context: int
    seed: int
    end: int | None = None
    """The position behind the last one; None: there is none."""
    padding: int = 0
    """Rows without a target that stand at `end`."""

    def rows(self, cursor: Cursor) -> Block:
        """The rows of a position from the cursor's on, always the same; perhaps none."""
        position = cursor.position
        return self.arranged(position, self.drawn(position))[cursor.row :]

    def arranged(self, position: int, drawn: list[Drawn]) -> Block:
        """The rows of a position's documents, in the order in which they are trained on."""
        if position == self.end:
            ids = np.full((self.padding, self.context + 1), PAD, np.int32)
        else:
            documents = [one.ids for one in drawn]
            ids = pack(documents, self.eos, self.context, self.first_cut(position))
        ids = ids[self.row_order(position, len(ids))]
        return Block(ids, np.full(len(ids), position), np.arange(len(ids)))

    def drawn(self, position: int) -> list[Drawn]:
        """The documents of a position in the order in which they are joined."""
        if self.end is not None and position >= self.end:
            return []
        documents = [
            Drawn(visit, number, ids)
            for visit in self.order.visits(position)
            for number, ids in enumerate(self.text.documents(visit.unit))
        ]
        return [documents[i] for i in draw_order(len(documents), self.seed, position, 0)]

    def first_cut(self, position: int) -> int:
        """Targets of the first row of a position."""
        return first_cut(self.seed, position, self.context)

    def row_order(self, position: int, rows: int) -> np.ndarray:
        """Which row of a position, as its documents lie, comes first, second ..."""
        return draw_order(rows, self.seed, position, 2)

    def passes(self, cursor: Cursor) -> dict[str, float]:
        """How often each source has been gone through up to a cursor."""
        position = cursor.position
        before, after = self.order.passes(position), self.order.passes(position + 1)
        behind = self.end is not None and position >= self.end
        share = 0.0 if behind else cursor.row / max(1, len(self.rows(Cursor(position))))
        return {name: before[name] + share * (after[name] - before[name]) for name in before}

    def blocks(self, cursor: Cursor, size: int) -> Iterator[Block]:
        """Blocks of `size` sequences from `cursor` on, endless if the order is."""
        waiting = self.rows(cursor)
        while self.end is None or cursor.position <= self.end:
            full = len(waiting) // size * size
            for start in range(0, full, size):
                yield waiting[start : start + size]
            cursor = Cursor(cursor.position + 1)
            waiting = join(waiting[full:], self.rows(cursor))
        assert not len(waiting), "padding does not fill up the last batch"


def first_cut(seed: int, position: int, context: int) -> int:
    """Targets of the first row of a position, 1 to context."""
    return 1 + int(np.random.PCG64([seed, position, 1]).random_raw() % context)


def join(one: Block, two: Block) -> Block:
    """The sequences of one block, then those of the other."""
    return Block(
        np.concatenate([one.ids, two.ids]),
        np.concatenate([one.position, two.position]),
        np.concatenate([one.row, two.row]),
    )


def require_training_text(units: Units, data: DataConfig) -> None:
    """Refuse a corpus that would give no sequence at all; reads up to the first document."""
    for unit in units:
        if training_documents(unit, data):
            return
    raise DataError(
        f"data.shards: {', '.join(data.shards)}: no document is left to train on "
        f"(data.validation.fraction is {data.validation.fraction}, data.documents is "
        f"{data.documents}); add text, hold out less, or cut it into smaller documents"
    )

"""Conversations as rows of one length: packed, several in a row, or each padded to one.

Every epoch draws the conversations in an order of its own and puts each into that of the open rows
in which it leaves the least room (best fit; at most `OPEN` rows are open). Then the rows come in a
drawn order again, since rows that are closed late are emptier. So rows are a function of (seed,
epoch) and of the conversations' lengths; on 1,000 instructions of 20 to 400 tokens 2.5% of
a row of 512 stays empty. Tokens do not see other conversations in their row.

Q rows of a portion, C context.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
import torch

from llm.batch import make_batch
from llm.data import Cursor, draw_order
from llm.epochs import own_starts
from llm.examples import Chats
from llm.packing import PAD, Members, packed, rounded
from llm.step_log import checksum
from llm.world import World


@dataclass(frozen=True)
class SftPortion:
    """Rows of conversations. ids: (Q, C + 1) int32; weights: (Q, C) float32, those of targets."""

    ids: np.ndarray
    weights: np.ndarray
    first: Cursor
    after: Cursor
    separator: int | None

    @property
    def tokens(self) -> int:
        """Tokens of conversations."""
        return int((self.ids != PAD).sum())

    @property
    def weight(self) -> float:
        """That of all its targets."""
        return float(self.weights.sum(dtype=np.float64))

    def __len__(self) -> int:
        return len(self.ids)

    def checksum(self, place: int) -> int:
        """Of its token ids, PAD included."""
        return checksum(self.ids, place)

    def arguments(self, device: torch.device, step: int) -> dict[str, Any]:
        """What `Transformer.forward` makes a loss of; columns that no row uses are cut off."""
        used = rounded(int((self.ids != PAD).sum(1).max(initial=1))) + 1
        inputs, targets, documents = make_batch(self.ids[:, :used], device, self.separator)
        weights = torch.from_numpy(self.weights[:, : used - 1]).to(device)
        return {"ids": inputs, "targets": targets, "documents": documents, "weights": weights}


class SftRows:
    """All rows of all epochs. With a `separator`, which begins conversations, they are packed."""

    def __init__(
        self, chats: Chats, context: int, epochs: int, seed: int, separator: int | None
    ) -> None:
        self.chats, self.context, self.epochs, self.seed = chats, context, epochs, seed
        self.separator = separator
        self._epoch: tuple[int, list[Members]] = (-1, [])

    @cached_property
    def before(self) -> list[int]:
        """Rows before each epoch, and in all."""
        counts = (len(self.epoch(number)) for number in range(self.epochs))
        return [0, *accumulate(counts)]

    def __len__(self) -> int:
        return self.before[-1]

    @property
    def used(self) -> float:
        """Share of the rows' tokens that are conversations'."""
        tokens = self.epochs * int(self.chats.lengths.sum())
        return tokens / max(1, len(self) * (self.context + 1))

    def epoch(self, number: int) -> list[Members]:
        """The rows of an epoch, in order; those of the last one asked for are kept."""
        if self._epoch[0] != number:
            lengths = self.chats.lengths.tolist()
            order = draw_order(len(lengths), self.seed, number, 0).tolist()
            rows = (
                [(one,) for one in order]
                if self.separator is None
                else packed(lengths, order, self.context + 1)
            )
            drawn = draw_order(len(rows), self.seed, number, 1)
            self._epoch = number, [rows[i] for i in drawn]
        return self._epoch[1]

    def portions(self, cursor: Cursor, size: int, slots: int, world: World) -> Iterator[SftPortion]:
        """This process's portions of `size` rows from a cursor on; rows of PAD fill up the end."""
        first = self.before[cursor.position] + cursor.row
        for start in own_starts(first, size, slots, world):
            yield self.portion(start, size)

    def portion(self, start: int, size: int) -> SftPortion:
        """Rows `start` to `start + size - 1`, counted over all epochs."""
        ids = np.full((size, self.context + 1), PAD, np.int32)
        weights = np.zeros((size, self.context), np.float32)
        for row in range(size):
            at = self.cursor(start + row)
            if at.position < self.epochs:
                self._fill(ids[row], weights[row], self.epoch(at.position)[at.row])
        return SftPortion(
            ids, weights, self.cursor(start), self.cursor(start + size), self.separator
        )

    def _fill(self, ids: np.ndarray, weights: np.ndarray, members: Members) -> None:
        """Put conversations into a row; a token's weight stands where it is predicted."""
        at = 0
        for member in members:
            tokens, own = self.chats.ids(member), self.chats.weights(member)
            ids[at : at + len(tokens)] = tokens
            weights[at : at + len(tokens) - 1] = own[1:]
            at += len(tokens)

    def cursor(self, row: int) -> Cursor:
        """Epoch and place in it of a row counted over all epochs; behind the last: (epochs, n)."""
        epoch = bisect_right(self.before, row) - 1
        return Cursor(epoch, row - self.before[epoch])

"""Whole passes over things that can be counted, each in an order of its own, drawn from the seed.

The n-th draw is a pure function of (seed, n), so a run goes on anywhere, with any number of
processes. What fills up the last batch is told by None.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from llm.data import Cursor, draw_order
from llm.world import World


@lru_cache(maxsize=4)
def order_of(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order of one pass, worked out once."""
    return draw_order(count, seed, epoch)


@dataclass(frozen=True)
class Draw:
    """`epochs` passes over range(count)."""

    count: int
    epochs: int
    seed: int

    def __len__(self) -> int:
        return self.count * self.epochs

    def item(self, number: int) -> int | None:
        """The number-th draw; None behind the last."""
        if number >= len(self):
            return None
        epoch, place = divmod(number, self.count)
        return int(order_of(self.count, self.seed, epoch)[place])

    def cursor(self, number: int) -> Cursor:
        """Where a draw stands: its epoch, and its place in it."""
        return Cursor(*divmod(number, self.count))

    def number(self, cursor: Cursor) -> int:
        """The inverse of `cursor`; one behind the last of an epoch is the first of the next."""
        return cursor.position * self.count + cursor.row


def own_starts(first: int, size: int, slots: int, world: World) -> Iterator[int]:
    """Numbers of the first items of this process's portions of `size`, endlessly.

    `first` is the number of the first item of a step; slot i belongs to process i mod size.
    """
    portion = 0
    while True:
        if portion % slots % world.size == world.rank:
            yield first + portion * size
        portion += 1

"""Which units are read when: a pure function of the position, asked in O(1), kept nowhere.

A position is the portion of text that is shuffled together, about 8 MiB. `Epochs` goes through all
units in an order of its own in every epoch. `Mixture` reads several sources at once, each at its
own pace and through epochs of its own, so that every position holds them in the wanted proportion.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from llm.permutation import Permutation

POSITION_BYTES = 8 << 20
MOST_UNITS = 32
"""Units of a position at most. With few, a run over two novels went through them in turns, and the
loss on the first rose while it read the second."""

ONE = 1 << 40
"""Paces are fixed-point numbers, so that a position a million epochs away is still exact."""


class Visit(NamedTuple):
    """A unit, and how often its source has been gone through before."""

    unit: int
    epoch: int


def units_per_position(bytes: np.ndarray) -> int:
    """How many units make about 8 MiB, for units of these sizes."""
    mean = max(1.0, float(bytes.mean()))
    return max(1, min(MOST_UNITS, len(bytes), round(POSITION_BYTES / mean)))


@dataclass(frozen=True)
class Epochs:
    """All of `count` units once in every epoch, `per_position` at a time."""

    count: int
    per_position: int
    seed: int

    @property
    def positions(self) -> int:
        """Positions of one epoch."""
        return -(-self.count // self.per_position)

    def visits(self, position: int) -> list[Visit]:
        """The units of a position; the last one of an epoch may have fewer."""
        epoch, index = divmod(position, self.positions)
        first = index * self.per_position
        places = np.arange(first, min(first + self.per_position, self.count))
        units = Permutation(self.count, (self.seed, epoch))(places)
        return [Visit(int(unit), epoch) for unit in units]

    def passes(self, positions: int) -> dict[str, float]:
        """How often the text has been gone through after so many positions."""
        whole, rest = divmod(positions, self.positions)
        return {"text": whole + min(1.0, rest * self.per_position / self.count)}


@dataclass(frozen=True)
class Source:
    """The units `first` to `first + count - 1`, and how many are read per position, times ONE."""

    name: str
    first: int
    count: int
    pace: int

    def reached(self, position: int) -> int:
        """Visits before a position, rounded to whole ones."""
        return (position * self.pace + ONE // 2) // ONE


@dataclass(frozen=True)
class Mixture:
    """Several sources, interleaved; at any position each is within a unit of its share."""

    sources: tuple[Source, ...]
    seed: int

    @property
    def positions(self) -> int:
        """Positions in which the source that lasts longest is gone through once."""
        return max(-(-one.count * ONE // max(1, one.pace)) for one in self.sources)

    def visits(self, position: int) -> list[Visit]:
        """The units of a position."""
        return [
            visit
            for number, source in enumerate(self.sources)
            for visit in self._visits_of(number, source, position)
        ]

    def _visits_of(self, number: int, source: Source, position: int) -> list[Visit]:
        places = range(source.reached(position), source.reached(position + 1))
        return [
            Visit(source.first + self._unit(number, source, *divmod(place, source.count)), epoch)
            for place in places
            for epoch in [place // source.count]
        ]

    def _unit(self, number: int, source: Source, epoch: int, index: int) -> int:
        order = Permutation(source.count, (self.seed, number, epoch))
        return int(order(np.array([index]))[0])

    def passes(self, positions: int) -> dict[str, float]:
        """How often each source has been gone through after so many positions."""
        return {one.name: one.reached(positions) / one.count for one in self.sources}


Order = Epochs | Mixture


def mixture(
    names: Sequence[str],
    bytes: np.ndarray,
    weights: Mapping[str, float],
    tokens_per_byte: Mapping[str, float],
    seed: int,
) -> Mixture:
    """The mixture in which each source's share of tokens is its weight.

    names: (units,) the source of every unit, each source's in one run; bytes: (units,).
    A source with share w and t tokens per unit is read at a pace proportional to w / t.
    """
    total = units_per_position(bytes)
    spans = {name: (names.index(name), names.count(name)) for name in dict.fromkeys(names)}
    tokens = {
        name: tokens_per_byte[name] * float(bytes[first : first + count].mean())
        for name, (first, count) in spans.items()
    }
    paces = {name: weights[name] / tokens[name] for name in spans}
    scale = max(total, len(spans)) / sum(paces.values())
    sources = (
        Source(name, *spans[name], round(pace * scale * ONE)) for name, pace in paces.items()
    )
    return Mixture(tuple(sources), seed)

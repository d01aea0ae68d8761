"""Which documents the rows of a position hold: it follows from their lengths alone."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from llm.data import Drawn, Sequences
from llm.packing import cuts


@dataclass(frozen=True)
class Layout:
    """Which documents the rows of a position hold, from their lengths alone."""

    drawn: list[Drawn]
    ends: np.ndarray
    """(documents,) the last target of each."""
    starts: np.ndarray
    stops: np.ndarray
    order: np.ndarray
    """Which row of the cut comes first, second ..."""

    @classmethod
    def of(cls, sequences: Sequences, position: int, drawn: list[Drawn]) -> "Layout":
        """The layout of the documents drawn for a position."""
        ends = np.cumsum([len(one.ids) + 1 for one in drawn], dtype=np.int64)
        total = int(ends[-1]) if drawn else 0
        starts, stops = cuts(total, sequences.context, sequences.first_cut(position))
        return cls(drawn, ends, starts, stops, sequences.row_order(position, len(starts)))

    def documents_in(self, row: int) -> Iterator[tuple[Drawn, int]]:
        """The documents whose tokens are targets of a row, and how many of them."""
        return ((self.drawn[index], tokens) for index, tokens in self.pieces_in(row))

    def pieces_in(self, row: int) -> Iterator[tuple[int, int]]:
        """The same with the number of the document in the position."""
        begin, stop = int(self.starts[self.order[row]]), int(self.stops[self.order[row]])
        index = int(np.searchsorted(self.ends, begin, side="right"))
        while begin < stop:
            upto = min(stop, int(self.ends[index]))
            yield index, upto - begin
            begin, index = upto, index + 1

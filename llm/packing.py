"""Documents to rows of equal length: joined, each ended by end-of-text, and cut; or kept whole.

Every token is a target exactly once; a row's last token is the next row's first input. Which
document a row holds follows from the lengths alone, so nothing need be written down for it.

R rows, C context.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

PAD = -1
"""Behind the end of a short row: no input, no target."""


LENGTH_STEP = 16

OPEN = 64
"""Rows that `packed` still looks at."""

Members = tuple[int, ...]
"""Numbers of the texts in a row."""


def rounded(length: int) -> int:
    """A length up to a multiple of 16, for batches of texts of many lengths.

    On CPU every new shape makes oneDNN prepare and keep its kernels: 40 steps of a 4M model took
    1,134 MB with lengths of 20 to 200, and 703 MB with multiples of 32.
    """
    return -(-length // LENGTH_STEP) * LENGTH_STEP


def pack(
    documents: Sequence[Sequence[int] | np.ndarray], eos: int, context: int, first: int
) -> np.ndarray:
    """Cut documents, joined and each ended by `eos`, into rows of context + 1 tokens: (R, C + 1).

    The very first token is predicted from an `eos`. The first row holds `first` targets
    (1..context), so that the borders between rows fall elsewhere every time.
    """
    tokens = joined(documents, eos)
    last = len(tokens) - 1
    rows = np.full((count_rows(last, context, first), context + 1), PAD, np.int32)
    if len(rows):
        begin = tokens[: first + 1]
        rows[0, : len(begin)] = begin
    if len(rows) > 1:
        behind = np.full(context, PAD, np.int32)  # the last row may end anywhere
        windows = sliding_window_view(np.concatenate([tokens, behind]), context + 1)
        rows[1:] = windows[first:last:context]
    return rows


def joined(documents: Sequence[Sequence[int] | np.ndarray], eos: int) -> np.ndarray:
    """An `eos`, and then every document with one behind it: int32."""
    lengths = np.fromiter(map(len, documents), np.int64, len(documents))
    ends = np.cumsum(lengths + 1)
    tokens = np.full(1 + int(ends[-1] if len(ends) else 0), eos, np.int32)
    for ids, end, length in zip(documents, ends.tolist(), lengths.tolist(), strict=True):
        tokens[end - length : end] = ids
    return tokens


def cuts(targets: int, context: int, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of `targets` targets: row r predicts tokens starts[r] + 1 to ends[r], counted from 0."""
    if targets == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    starts = np.concatenate([[0], np.arange(first, targets, context)]).astype(np.int64)
    return starts, np.append(starts[1:], targets)


def count_rows(targets: int, context: int, first: int) -> int:
    """How many rows `pack` makes of so many targets."""
    if targets == 0:
        return 0
    return 1 + max(0, -(-(targets - first) // context))


def packed(lengths: Sequence[int], order: Sequence[int], room: int) -> list[Members]:
    """Rows of at most `room` tokens that hold all texts of such lengths, taken in `order`.

    Each goes where it leaves the least room: best fit.
    """
    rows: list[list[int]] = []
    spaces: list[tuple[int, int]] = []  # (room left, row) of open rows, the fullest first
    for number in order:
        length = lengths[number]
        at = bisect_left(spaces, (length, -1))
        if at < len(spaces):
            left, row = spaces.pop(at)
        else:
            left, row = room, len(rows)
            rows.append([])
        rows[row].append(number)
        insort(spaces, (left - length, row))
        if len(spaces) > OPEN:
            spaces.pop(0)
    return [tuple(row) for row in rows]

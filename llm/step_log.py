"""Which sequences every step was trained on, one line a step in order.tsv.

    step  first  after  tokens  checksum        17  3:120  3:136  8190  00d41f7a3c

`first` and `after` are cursors: the step took all rows from one up to the other. The checksum is
made of the token ids of every row and of its place in the batch, so it does not depend on how many
workers there were nor on their micro batches. Two runs that saw the same data in the same order
have the same file, byte for byte; `llm.audit` proves it against the corpus.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llm.data import Cursor
from llm.errors import ArtifactError
from llm.files import Appender, write_atomic

NAME = "order.tsv"
BITS = 40
"""Of a checksum: sums over workers stay exact in double precision."""


@dataclass(frozen=True)
class Span:
    """What one step used: rows from `first` up to `after`, so many targets, their checksum."""

    first: Cursor
    after: Cursor
    tokens: int
    checksum: int

    def line(self, step: int) -> str:
        """As it stands in the log."""
        first, after = (f"{c.position}:{c.row}" for c in (self.first, self.after))
        return f"{step}\t{first}\t{after}\t{self.tokens}\t{self.checksum:010x}\n"


def checksum(ids: np.ndarray, place: int) -> int:
    """Of rows (Q, C + 1) of which the first is the `place`-th of its batch; sums add up."""
    return sum(
        zlib.crc32(row) * (2 * (place + index) + 1)
        for index, row in enumerate(np.ascontiguousarray(ids, np.int32))
    ) % (1 << BITS)


class StepLog:
    """Appends lines, if it has a path: `rewind`, `add`; who saves a checkpoint flushes first."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.file: Appender | None = None
        self.waiting: list[str] = []

    def rewind(self, step: int) -> None:
        """Keep what was trained up to `step`, of which the checkpoint knows."""
        if not self.path:
            return
        self.waiting.clear()
        lines = self.path.read_text().splitlines(keepends=True) if self.path.exists() else []
        kept = [line for line in lines if line.endswith("\n") and int(line.split()[0]) <= step]
        write_atomic(self.path, "".join(kept))
        self.file = Appender(self.path)

    def add(self, step: int, span: Span) -> None:
        """Note a step."""
        if self.path:
            self.waiting.append(span.line(step))

    def flush(self) -> None:
        """Force what was noted to disk."""
        if not self.path:
            return
        assert self.file, "rewind first"
        self.file.add("".join(self.waiting))
        self.file.sync()
        self.waiting.clear()


def read_spans(folder: Path) -> Iterator[tuple[int, Span]]:
    """The steps of a run, in order."""
    path = folder / NAME
    if not path.exists():
        raise ArtifactError(
            f"{path}: is not there; give the folder of a pretrain artifact that has trained"
        )
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            step, first, after, tokens, digest = line.split("\t")
            span = Span(cursor(first), cursor(after), int(tokens), int(digest, 16))
        except ValueError as error:
            raise ArtifactError(
                f"{path}, line {number}: is not a line of step, first, after, tokens, checksum"
            ) from error
        yield int(step), span


def cursor(text: str) -> Cursor:
    """`3:120` as a cursor."""
    position, _, row = text.partition(":")
    return Cursor(int(position), int(row))

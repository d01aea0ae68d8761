"""Proof, from the corpus and the step log alone, of what a run was trained on.

`audit` draws the whole stream once more, as `llm.data` defines it, and holds it against order.tsv:
every step must have taken exactly the rows that follow those of the step before, with the very
tokens (checksums), so nothing was left out and nothing repeated. It counts, meanwhile, how often
every unit was gone through, and that all documents of a unit lie in the rows, each token once.

It costs the tokenisation of what was read, some 5 to 20 MB/s on one core; with kept tokens less.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from llm.data import Cursor, Drawn, Sequences
from llm.errors import ArtifactError
from llm.packing import PAD
from llm.step_log import BITS, Span, checksum, read_spans
from llm.task import PretrainTask, read_task, sequences_of, source_of
from llm.units import Units, units_of

Say = Callable[[str], None]


@dataclass
class Audit:
    """What was proved: so many steps took so many sequences, and each text was read so often."""

    steps: int = 0
    sequences: int = 0
    tokens: int = 0
    documents: int = 0
    """Readings of documents in positions that were read to their end."""
    units: int = 0
    """Of the corpus."""
    whole_epochs: int = 0
    """Epochs in which every unit was read, each once."""
    shares: dict[str, int] = field(default_factory=dict)
    """Tokens by source, in positions that were read to their end."""


class Row(NamedTuple):
    """One sequence of the stream."""

    cursor: Cursor
    ids: np.ndarray


def audit(folder: Path, say: Say) -> Audit:
    """Prove a pretrain artifact's step log; ArtifactError names the first step that is wrong."""
    task = read_audited(folder)
    sequences, units = sequences_of(task), units_of(task.data)
    result = Audit(units=len(units))
    readings: Counter[tuple[int, int]] = Counter()
    stream = Redrawn(sequences, task.model.context, result, readings, units)
    for step, span in read_spans(folder):
        if step != result.steps + 1:
            raise ArtifactError(f"{folder}: after step {result.steps} the log goes on at {step}")
        require_equal(folder, step, span, stream.next_batch(task.train.batch))
        result.steps = step
        if step % 1000 == 0:
            say(f"step {step}: proved")
    if not result.steps:
        raise ArtifactError(f"{folder}: no step is logged yet; train first")
    repeated = [key for key, times in readings.items() if times > 1]
    if repeated:
        raise ArtifactError(f"{folder}: units read twice in an epoch: {repeated[:3]}")
    epochs = Counter(epoch for _, epoch in readings)
    result.whole_epochs = sum(1 for times in epochs.values() if times == len(units))
    return result


def read_audited(folder: Path) -> PretrainTask:
    """The task of an artifact."""
    path = folder / "task.json"
    if not path.exists():
        raise ArtifactError(f"{folder}: has no task.json; give the folder of a pretrain artifact")
    return read_task(path)


class Redrawn:
    """The stream once more, batch by batch, counting what it reads."""

    def __init__(
        self,
        sequences: Sequences,
        context: int,
        result: Audit,
        readings: Counter[tuple[int, int]],
        units: Units,
    ) -> None:
        self.sequences = sequences
        self.context = context
        self.result = result
        self.readings = readings
        self.units = units
        self.rows = self._rows()

    def next_batch(self, size: int) -> Span:
        """The span of the next `size` rows."""
        rows = [row for _, row in zip(range(size), self.rows, strict=False)]
        if not rows:
            raise ArtifactError("the log has more steps than the text has batches")
        ids = np.stack([row.ids for row in rows])
        last = rows[-1].cursor
        span = Span(
            rows[0].cursor,
            Cursor(last.position, last.row + 1),
            int((ids[:, 1:] != PAD).sum()),
            checksum(ids, 0) % (1 << BITS),
        )
        self.result.sequences += len(rows)
        self.result.tokens += span.tokens
        return span

    def _rows(self) -> Iterator[Row]:
        position, end = 0, self.sequences.end
        while end is None or position <= end:
            drawn = self.sequences.drawn(position)
            block = self.sequences.arranged(position, drawn)
            for row, ids in enumerate(block.ids):
                yield Row(Cursor(position, row), ids)
            self._count(position, drawn, block.ids)
            position += 1

    def _count(self, position: int, drawn: list[Drawn], ids: np.ndarray) -> None:
        """Note a position whose rows have all been taken, each token of it once."""
        held, wanted = int((ids[:, 1:] != PAD).sum()), sum(len(one.ids) + 1 for one in drawn)
        assert held == wanted, f"position {position}: {held} targets of {wanted}"
        self.result.documents += len(drawn)
        for one in drawn:
            name = source_of(self.units[one.visit.unit].path) or "text"
            self.result.shares[name] = self.result.shares.get(name, 0) + len(one.ids) + 1
        self.readings.update(self.sequences.order.visits(position) if drawn else [])


def require_equal(folder: Path, step: int, logged: Span, drawn: Span) -> None:
    """That a step took what the order says."""
    if logged != drawn:
        raise ArtifactError(
            f"{folder}: step {step} took other data than its place in the order has:\n"
            f"logged   {logged.line(step)}expected {drawn.line(step)}"
            "The text, the tokenizer or the log has changed since the run"
        )

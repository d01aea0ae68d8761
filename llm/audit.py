"""Proof, from the corpus and the step log alone, of what a run was trained on.

`audit` draws the whole stream once more, as `llm.data` defines it, and holds it against order.tsv:
every step must have taken exactly the rows that follow those of the step before, with the very
tokens (checksums), so nothing was left out and nothing repeated. It counts, meanwhile, how often
every unit was gone through, that all documents of a unit lie in the rows, each token once, and that
a whole pass has as many documents as the corpus' ledger.

It costs the tokenisation of what was read, some 5 to 20 MB/s on one core; with kept tokens less.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from llm.data import Cursor, Drawn, Sequences
from llm.errors import ArtifactError
from llm.layout import Layout
from llm.order import Mixture
from llm.packing import PAD
from llm.step_log import Span, checksum, read_spans
from llm.task import PretrainTask, read_task, sequences_of, source_of
from llm.units import Units, units_of

Say = Callable[[str], None]


class Pass(NamedTuple):
    """One time through a source, numbered from 0, and how much of it was read."""

    source: str
    epoch: int
    documents: int
    """Of which every token was learned, once."""
    tokens: int
    whole: bool
    """These are all documents of the source."""


@dataclass(frozen=True)
class Audit:
    """What was proved."""

    steps: int
    sequences: int
    tokens: int
    passes: tuple[Pass, ...]

    def tokens_of(self, source: str) -> int:
        """Tokens of a source in all its passes."""
        return sum(one.tokens for one in self.passes if one.source == source)


def audit(folder: Path, say: Say) -> Audit:
    """Prove a pretrain artifact's step log; ArtifactError names the first step that is wrong."""
    task = read_audited(folder)
    stream = Redrawn(sequences_of(task), units_of(task.data))
    steps = sequences = tokens = 0
    for step, logged in read_spans(folder):
        if step != steps + 1:
            raise ArtifactError(f"{folder}: after step {steps} the log goes on at {step}")
        drawn, rows = stream.next_batch(task.train.batch)
        require_equal(folder, step, logged, drawn)
        steps, sequences, tokens = step, sequences + rows, tokens + drawn.tokens
        if step % 1000 == 0:
            say(f"step {step}: proved")
    if not steps:
        raise ArtifactError(f"{folder}: no step is logged yet; train first")
    passes = tuple(stream.passes())
    require_whole(passes, corpus_record(Path(task.data.shards[0])))
    return Audit(steps, sequences, tokens, passes)


def read_audited(folder: Path) -> PretrainTask:
    """The task of an artifact."""
    path = folder / "task.json"
    if not path.exists():
        raise ArtifactError(f"{folder}: has no task.json; give the folder of a pretrain artifact")
    return read_task(path)


@dataclass
class Count:
    """What was read in one pass over a source."""

    units: set[int] = field(default_factory=set)
    """Those of positions that were read to their end."""
    documents: int = 0
    tokens: int = 0


class Redrawn:
    """The stream once more, batch by batch, counting what it reads."""

    def __init__(self, sequences: Sequences, units: Units) -> None:
        self.sequences = sequences
        by_file = [source_of(path) if mixed(sequences) else "text" for path in units.paths]
        self.sources = [by_file[file] for file in units.file]
        self.counts: defaultdict[tuple[str, int], Count] = defaultdict(Count)
        self.position, self.taken, self.drawn = 0, 0, list[Drawn]()
        self.rows = self._rows()

    def next_batch(self, size: int) -> tuple[Span, int]:
        """What the next step has to take: `size` rows, and how many there are."""
        rows = list(islice(self.rows, size))
        if not rows:
            raise ArtifactError("the log has more steps than the text has batches")
        ids = np.stack([ids for _, ids in rows])
        last = rows[-1][0]
        after = Cursor(last.position, last.row + 1)
        tokens = int((ids[:, 1:] != PAD).sum())
        return Span(rows[0][0], after, tokens, checksum(ids, 0)), len(rows)

    def _rows(self) -> Iterator[tuple[Cursor, np.ndarray]]:
        end = self.sequences.end
        while end is None or self.position <= end:
            self.drawn = self.sequences.drawn(self.position)
            block = self.sequences.arranged(self.position, self.drawn)
            for row, ids in enumerate(block.ids):
                self.taken = row + 1
                yield Cursor(self.position, row), ids
            self._close(block.ids)
            self.position, self.taken = self.position + 1, 0

    def _close(self, ids: np.ndarray) -> None:
        """Note a position whose rows have all been taken."""
        held, wanted = int((ids[:, 1:] != PAD).sum()), sum(len(one.ids) + 1 for one in self.drawn)
        assert held == wanted, f"position {self.position} holds {held} targets of {wanted}"
        behind = self.sequences.end is not None and self.position >= self.sequences.end
        for unit, epoch in [] if behind else self.sequences.order.visits(self.position):
            units = self.counts[self.sources[unit], epoch].units
            if unit in units:
                raise ArtifactError(f"unit {unit} is read twice in pass {epoch}")
            units.add(unit)
        for one in self.drawn:
            self._note(one, len(one.ids) + 1)

    def _note(self, one: Drawn, tokens: int) -> None:
        """Count tokens of a document, and the document if these are all it has."""
        count = self.counts[self.sources[one.visit.unit], one.visit.epoch]
        count.tokens += tokens
        count.documents += tokens == len(one.ids) + 1

    def passes(self) -> list[Pass]:
        """All passes, the position that was broken off included; ask for them once."""
        layout = Layout.of(self.sequences, self.position, self.drawn if self.taken else [])
        found: Counter[int] = Counter()
        for row in range(min(self.taken, len(layout.order))):
            found.update(dict(layout.pieces_in(row)))
        for index, tokens in found.items():
            self._note(self.drawn[index], tokens)
        sizes = Counter(self.sources)
        return [
            Pass(source, epoch, one.documents, one.tokens, len(one.units) == sizes[source])
            for (source, epoch), one in sorted(self.counts.items())
        ]


def mixed(sequences: Sequences) -> bool:
    """Whether sources have passes of their own."""
    return isinstance(sequences.order, Mixture)


def require_equal(folder: Path, step: int, logged: Span, drawn: Span) -> None:
    """That a step took what the order says."""
    if logged != drawn:
        raise ArtifactError(
            f"{folder}: step {step} took other data than its place in the order has:\n"
            f"logged   {logged.line(step)}expected {drawn.line(step)}"
            "The text, the tokenizer or the log has changed since the run"
        )


def corpus_record(shards: Path) -> Path | None:
    """The record of the corpus stage that made the shards; None of text that came otherwise."""
    folder = shards.parent
    made = shards.name == "train" and (folder / "ledger.json").exists()
    return folder / "corpus.json" if made else None


def require_whole(passes: tuple[Pass, ...], ledger: Path | None) -> None:
    """That whole passes read as many documents as each other, and as the corpus' ledger has."""
    known = documents_in(ledger) if ledger else {}
    for one in passes:
        if one.whole:
            wanted = known.setdefault(one.source, one.documents)
            if one.documents != wanted:
                raise ArtifactError(
                    f"pass {one.epoch} over {one.source} read {one.documents} documents, not the "
                    f"{wanted} of {ledger or 'the pass before'}; the shards have changed"
                )


def documents_in(ledger: Path) -> dict[str, int]:
    """Training documents by source, and of all sources together as `text`."""
    sources = json.loads(ledger.read_text())["sources"]
    counts = {name: int(source["train"]["documents"]) for name, source in sources.items()}
    return {**counts, "text": sum(counts.values())}

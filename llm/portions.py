"""A portion of a source becomes a part: its documents, read, cleaned, judged and signed.

    Portion (about 32 MiB of files) -> read -> clean -> filter -> decontaminate -> sign -> part

All that can be decided about a document without looking at others is decided here; what is left
goes into the part's file (`llm.parts`), what happened to the rest into its ledger and samples. A
part that is there is not made again, so a stage that was broken off goes on where it was.

Documents are streamed: a portion's text is never held whole, however large its files are.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from llm.clean import Cleaner
from llm.contamination import Grams
from llm.corpus_config import CorpusConfig, SourceConfig
from llm.damage import Damage, fail
from llm.documents import is_held_out, read_documents
from llm.duplicates import Signer
from llm.files import write_json
from llm.filesystem import is_uri
from llm.filters import Filters
from llm.ledger import Ledger
from llm.parts import PartWriter, part_path, summary_path, writing_part
from llm.reading import Document
from llm.samples import Samples, difference, shown
from llm.shards import Unit

PORTION_BYTES = 32 << 20
"""Input that one task reads, as far as files can be cut."""

CONTAMINATED = "contaminated"
EMPTY = "empty"
FILTERED_LINES = "lines removed by filters"


@dataclass(frozen=True)
class Portion:
    """Some units of a source; documents' names leave out `root`, the folder of all its files."""

    source: str
    root: str
    units: tuple[Unit, ...]

    @property
    def bytes(self) -> int:
        """Size of the input."""
        return sum(unit.bytes for unit in self.units)


def short_name(source: str, root: str, path: str) -> str:
    """A file's name without the folder that all files of its source lie in: `wiki/2024/03.jsonl`.

    Bytes of a name that are not UTF-8 are spelled out: the name has to be written into files.
    """
    path = path.partition("?")[0] if is_uri(path) else path
    name = f"{source}/{path.removeprefix(root)}" if path.startswith(root) else path
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def portions_of(source: str, root: str, units: Iterable[Unit]) -> Iterator[Portion]:
    """Units in runs of at most PORTION_BYTES, in their order; a larger one stays alone."""
    run: list[Unit] = []
    size = 0
    for unit in units:
        if run and size + unit.bytes > PORTION_BYTES:
            yield Portion(source, root, tuple(run))
            run, size = [], 0
        run.append(unit)
        size += unit.bytes
    if run:
        yield Portion(source, root, tuple(run))


# -- one document ----------------------------------------------------------------------------------


class Judged(NamedTuple):
    """A document's clean text, what cleaning changed, and why it is dropped, if it is."""

    text: str
    changes: dict[str, int]
    reason: str | None


@dataclass(frozen=True)
class Rules:
    """All that is decided about a document without looking at others."""

    cleaner: Cleaner
    filters: Filters
    grams: Grams | None

    def judge(self, text: str) -> Judged:
        """Clean a text and pass judgement on it."""
        clean, changes = self.cleaner(text)
        if not clean or clean.isspace():
            return Judged(clean, changes, EMPTY)
        left, reason = self.filters.judge(clean)
        if reason is None and self.grams is not None and self.grams.hits(left):
            reason = CONTAMINATED
        if left != clean:
            removed = len(clean.splitlines()) - len(left.splitlines())
            changes = changes | {FILTERED_LINES: removed}
        return Judged(left, changes, reason)

    def change(self, step: str, text: str) -> tuple[str, str]:
        """A text before and after one of the changes that `judge` tells of."""
        for name, function in self.cleaner.steps:
            before, (text, _) = text, function(text)
            if name == step:
                return before, text
        assert step == FILTERED_LINES
        return text, self.filters.judge(text).text


# -- one portion -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Books:
    """A portion's ledger and samples."""

    ledger: Ledger
    samples: Samples


@dataclass(frozen=True)
class PartMaker:
    """Makes parts in a folder; picklable, since Ray sends it to where the CPUs are."""

    config: CorpusConfig
    rules: Rules
    seed: int
    folder: Path

    def make(self, portion: Portion, number: int) -> dict[str, Any]:
        """The portion's summary, after its part has been made, unless it was already."""
        summary = summary_path(self.folder, number)
        if not summary.exists():
            books = Books(Ledger(), Samples(self.seed))
            near = self.config.dedup.near
            path = part_path(self.folder, number)
            with writing_part(path, Signer(near) if near else None) as writer:
                for id, url, text in self.kept(portion, books):
                    writer.add(id, url, text, is_held_out(text, self.config.validation))
            write_json(summary, summarised(writer, books))
        return json.loads(summary.read_bytes())

    def kept(self, portion: Portion, books: Books) -> Iterator[tuple[str, str, str]]:
        """Ids, urls and clean texts that pass all rules; what happens goes into the books."""
        source = self.config.sources[portion.source]
        for id, document in self.documents(portion, source, books.ledger):
            judged = self.rules.judge(document.text)
            self.enter(books, id, document.text, judged)
            if judged.reason is None:
                yield id, document.url, judged.text

    def enter(self, books: Books, id: str, raw: str, judged: Judged) -> None:
        """Write a document that was read into the ledger, and offer it as a sample."""
        before, after = len(raw.encode()), len(judged.text.encode())
        books.ledger.read.add(before)
        books.ledger.removed += before - after
        books.ledger.clean(judged.changes)
        for step in judged.changes:
            books.samples.offer("changed", step, id, partial(self.shown_change, step, raw))
        if judged.reason is not None:
            books.ledger.drop(judged.reason, after)
            books.samples.offer("dropped", judged.reason, id, partial(shown, judged.text or raw))

    def shown_change(self, step: str, raw: str) -> tuple[str, str]:
        """Excerpts from before and after a step of cleaning."""
        return difference(*self.rules.change(step, raw))

    def documents(
        self, portion: Portion, source: SourceConfig, ledger: Ledger
    ) -> Iterator[tuple[str, Document]]:
        """All readable documents with their ids; what cannot be read is counted, or an error."""
        largest = self.config.largest_document
        for unit in portion.units:
            name = short_name(portion.source, portion.root, unit.path)
            bad = partial(self.bad, ledger=ledger, file=name)
            for document in read_documents(unit, source, bad, largest):
                yield f"{name}#{document.place}", document

    def bad(self, damage: Damage, ledger: Ledger, file: str) -> None:
        """Stop at a damage or count it, as the spec says."""
        if self.config.bad_files == "fail":
            fail(damage)
        ledger.damage(damage, file)


def summarised(writer: PartWriter, books: Books) -> dict[str, Any]:
    """What is known of a part without opening it."""
    return {
        "rows": writer.rows,
        "ledger": books.ledger.to_json(),
        "samples": books.samples.to_json(),
    }

"""Which steps saw a document, and which documents a step saw.

Nothing is written down for it: documents and rows are drawn once more from the corpus, for those
positions only that matter. Naming a document's unit takes reading the corpus' ids up to it.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from llm.audit import read_audited
from llm.config import DataConfig
from llm.corpus_config import SourceConfig
from llm.data import Cursor, Sequences
from llm.documents import is_held_out, read_documents
from llm.errors import ArtifactError
from llm.layout import Layout
from llm.shards import Unit
from llm.step_log import Span, read_spans
from llm.task import sequences_of
from llm.tokenizer_file import read_tokenizer
from llm.units import Units, units_of


class Sighting(NamedTuple):
    """A step that saw a document, and how many of its tokens it learned to write."""

    step: int
    epoch: int
    tokens: int


class Part(NamedTuple):
    """A piece of a sequence that comes from one document."""

    sequence: int
    document: str
    text: str


def steps_of(folder: Path, document: str) -> list[Sighting]:
    """Every step that saw a document; ArtifactError if the corpus has none of that name."""
    task = read_audited(folder)
    sequences, units = sequences_of(task), units_of(task.data)
    unit, number = find_document(units, task.data, document)
    spans = list(read_spans(folder))
    last = spans[-1][1].after.position if spans else -1
    return [
        Sighting(step, epoch, tokens)
        for position in range(last + 1)
        for epoch in [v.epoch for v in sequences.order.visits(position) if v.unit == unit]
        for step, tokens in seen_in(sequences, spans, position, unit, number, epoch)
    ]


def seen_in(
    sequences: Sequences,
    spans: list[tuple[int, Span]],
    position: int,
    unit: int,
    number: int,
    epoch: int,
) -> Iterator[tuple[int, int]]:
    """The steps, and tokens in each, in which a position showed a document."""
    layout = Layout.of(sequences, position, sequences.drawn(position))
    found: Counter[int] = Counter()
    for row in range(len(layout.order)):
        for drawn, tokens in layout.documents_in(row):
            if (drawn.visit, drawn.number) == ((unit, epoch), number):
                place = Cursor(position, row)
                found.update({s: tokens for s, span in spans if span.first <= place < span.after})
    yield from sorted(found.items())


def step_content(folder: Path, step: int) -> list[Part]:
    """What was in a step, decoded, piece by piece."""
    task = read_audited(folder)
    spans = dict(read_spans(folder))
    if step not in spans:
        raise ArtifactError(f"{folder}: step {step} is not logged; there are 1 to {max(spans)}")
    sequences, units, span = sequences_of(task), units_of(task.data), spans[step]
    tokenizer = read_tokenizer(task.tokenizer)
    names: dict[int, list[str]] = {}
    parts: list[Part] = []
    for position in range(span.first.position, span.after.position + 1):
        layout = Layout.of(sequences, position, sequences.drawn(position))
        block = sequences.arranged(position, layout.drawn)
        for row, ids in enumerate(block.ids[: len(layout.order)]):
            if not span.first <= Cursor(position, row) < span.after:
                continue
            sequence, begin = len({part.sequence for part in parts}), 1
            for drawn, tokens in layout.documents_in(row):
                unit = drawn.visit.unit
                names.setdefault(unit, document_names(units[unit], task.data))
                text = tokenizer.decode(ids[begin : begin + tokens].tolist())
                parts.append(Part(sequence, names[unit][drawn.number], text))
                begin += tokens
    return parts


def find_document(units: Units, data: DataConfig, document: str) -> tuple[int, int]:
    """The unit of a document, and its number among the unit's training documents."""
    for index, unit in enumerate(units):
        if may_hold(unit, document):
            names = document_names(unit, data)
            if document in names:
                return index, names.index(document)
    raise ArtifactError(
        f"no document is called {document!r}; names are the column `id` of a corpus, elsewhere "
        f"FILE#PLACE such as {document_names(units[0], data)[:1]}"
    )


def may_hold(unit: Unit, document: str) -> bool:
    """Whether a document may be in a unit, by its path, if its name has one."""
    return unit.format == "parquet" or document.startswith(unit.path + "#")


def document_names(unit: Unit, data: DataConfig) -> list[str]:
    """The names of a unit's training documents: of a corpus its ids, else FILE#PLACE."""
    config: DataConfig | SourceConfig = data
    if is_corpus(unit):
        config = SourceConfig(shards=data.shards, format=data.format, text=data.text, id="id")
    return [
        one.place if is_corpus(unit) else f"{unit.path}#{one.place}"
        for one in read_documents(unit, config)
        if not is_held_out(one.text, data.validation.fraction)
    ]


def is_corpus(unit: Unit) -> bool:
    """Whether a unit is of a shard that has a column `id`."""
    if unit.format != "parquet":
        return False
    import pyarrow.parquet as pq

    from llm.filesystem import open_file

    with open_file(unit.path) as file:
        return "id" in pq.read_schema(file).names

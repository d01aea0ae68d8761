"""A slice of a spec's own data, as files of its own, so that a rehearsal reads little.

What cannot be read here is replaced by Python's documentation, which every machine has.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from jobs.feedback import lines_of
from jobs.spec import Spec
from jobs.stages import FEEDBACK, PYDOC
from llm.align_config import ChatDataConfig, RowsConfig
from llm.config import TextConfig
from llm.damage import Damage
from llm.documents import read_unit
from llm.errors import DataError
from llm.files import write_atomic
from llm.pydoc_pairs import write_pydoc_chats, write_pydoc_pairs
from llm.pydoc_source import pydoc_documents
from llm.rows import read_rows, row_units
from llm.shards import list_shards, list_units

TEXT = 200_000
"""Characters of each text."""

DOCUMENT = 2_000
"""Characters of a document at most; of longer ones several are made."""

ROWS = 128
"""Of each data set."""

T = TypeVar("T", bound=TextConfig)
R = TypeVar("R", bound=RowsConfig)


class Slices:
    """Cuts slices into a folder.

    `replaced` has the shards in whose place is something else, `characters` all that occur.
    """

    def __init__(self, folder: Path, spec: Spec) -> None:
        self.folder, self.spec = folder, spec
        self.replaced: list[str] = []
        self.characters: set[str] = set()
        self.count = 0

    def text(self, config: T) -> T:
        """The same text, but little of it."""
        try:
            documents = pieces(documents_of(config))
        except (DataError, OSError):
            documents = []
        if not documents:
            self.replaced.append(", ".join(config.shards))
            documents = pieces(text for _, text in pydoc_documents())
        self.characters.update(*documents)
        path = self._write({"text": text} for text in documents)
        return replace(
            config, shards=(path,), format="jsonl", text="text", encoding="utf-8", documents="file"
        )

    def rows(self, config: R) -> R:
        """The same data set, but few rows of it."""
        try:
            rows = list(islice(self._rows(config), ROWS))
        except (DataError, OSError):
            rows = []
        if rows:
            return replace(config, shards=(self._write(rows),), format="jsonl")
        self.replaced.append(", ".join(config.shards))
        return self._pydoc_rows(config)

    def _rows(self, config: Any) -> Iterator[Any]:
        if config.shards == (FEEDBACK,):
            yield from map(json.loads, lines_of(config, self.spec))
            return
        if config.shards == (PYDOC,):
            config = self._pydoc_rows(config)
        for unit in row_units(config):
            for row in read_rows(unit, config):
                yield row.value

    def _pydoc_rows(self, config: R) -> R:
        """Rows of Python's documentation that suit the kind of data set."""
        chats = isinstance(config, ChatDataConfig)
        path = self.folder / ("chats.jsonl" if chats else "pairs.jsonl")
        if not path.exists():
            (write_pydoc_chats if chats else write_pydoc_pairs)(self.folder)
        lines = path.read_text().splitlines()[:ROWS]
        schema: Any = "question_answer" if chats else "pairs"
        kept = self._write(map(json.loads, lines))
        return type(config)(shards=(kept,), format="jsonl", schema=schema)  # type: ignore[call-arg]

    def _write(self, rows: Iterable[Any]) -> str:
        self.count += 1
        path = self.folder / f"slice-{self.count}.jsonl"
        lines = (json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
        write_atomic(path, "".join(lines))
        return str(path)


def pieces(documents: Iterator[str]) -> list[str]:
    """The first documents, cut where they are long."""
    taken: list[str] = []
    size = 0
    while size < TEXT and (text := next(documents, None)) is not None:
        text = text[: TEXT - size]
        size += len(text)
        taken += [text[start : start + DOCUMENT] for start in range(0, len(text), DOCUMENT)]
    return taken


def documents_of(config: TextConfig) -> Iterator[str]:
    """The documents of a text, as far as they can be read."""
    if config.shards == (PYDOC,):
        yield from (text for _, text in pydoc_documents())
        return
    shards = list_shards(config.shards, config.format, passed_over)
    for unit in list_units(shards, encoding=config.encoding, bad=passed_over):
        yield from read_unit(unit, config)


def passed_over(_: Damage) -> None:
    """A rehearsal is not the time for it."""

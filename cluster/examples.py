"""Tokenised examples of an alignment, made once, on all CPUs (`llm.examples`).

A task reads some units of one data set and writes its rows in one step, so a run that fell goes on
with the files that are missing.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from cluster.datasets import each
from llm.align_config import ChatDataConfig, PreferenceDataConfig
from llm.chat import Template
from llm.conversations import question_of, read_conversations
from llm.documents import is_held_out
from llm.examples import (
    CHAT,
    COMPARISON,
    INDEX,
    PROMPT,
    Cut,
    chat_row,
    comparison_row,
    prompt_row,
)
from llm.files import write_json
from llm.ragged import write_rows
from llm.rankings import read_rankings
from llm.rows import row_units
from llm.shards import Unit
from llm.tokenizer_file import read_tokenizer

Say = Callable[[str], None]

GROUP_BYTES = 8 << 20
"""Text of one task."""

KINDS: dict[str, dict[str, Any]] = {"chat": CHAT, "comparison": COMPARISON, "prompt": PROMPT}


@dataclass(frozen=True)
class ExampleSource:
    """What examples are made of, and how long they may be."""

    kind: Literal["chat", "comparison", "prompt"]
    data: tuple[ChatDataConfig, ...] | tuple[PreferenceDataConfig, ...]
    tokenizer: str
    room: int
    """Tokens: the model's context, for prompts without that of the answer."""
    validation: float
    drop: bool = False
    """Leave out what is too long in place of cutting it."""


class Group(NamedTuple):
    """Some units of one data set."""

    data: int
    units: tuple[Unit, ...]


@dataclass(frozen=True)
class Writer:
    """What a task does: the rows of a group into two files, and its figures into a third."""

    source: ExampleSource
    groups: list[Group]
    folder: Path

    def write(self, number: int) -> None:
        """Write the files of one group, if they are not there; the figures last."""
        figures = self.folder / f"part-{number:05d}.json"
        if figures.exists():
            return
        rows: dict[str, list[Any]] = {"train": [], "validation": []}
        skipped: Counter[str] = Counter()
        cut = 0
        for question, made in self.rows(number, skipped):
            if made.row is None:
                skipped["too long" if made.cut else "nothing to learn"] += 1
                continue
            cut += made.cut
            held_out = is_held_out(question, self.source.validation)
            rows["validation" if held_out else "train"].append(made.row)
        for part, of_part in rows.items():
            path = self.folder / f"{part}-{number:05d}.safetensors"
            write_rows(path, KINDS[self.source.kind], of_part)
        counts = {part: len(of_part) for part, of_part in rows.items()}
        write_json(figures, {**counts, "cut": cut, "skipped": dict(skipped)})

    def rows(self, number: int, skipped: Counter[str]) -> Iterator[tuple[str, Cut]]:
        """The question that decides what is held out, and the row, of everything in a group."""
        group, source = self.groups[number], self.source
        data = source.data[group.data]
        template = Template(read_tokenizer(source.tokenizer))

        def skip(reason: str) -> None:
            skipped[reason] += 1

        for unit in group.units:
            if isinstance(data, PreferenceDataConfig):
                for ranking in read_rankings(unit, data, skip):
                    row = comparison_row(ranking, template, source.room, source.drop)
                    yield question_of(ranking.prompt), row
                continue
            for chat in read_conversations(unit, data, skip):
                if source.kind == "chat":
                    row = chat_row(chat, template, source.room, source.drop)
                else:
                    row = prompt_row(chat, template, source.room)
                yield question_of(chat), row


def make_examples(source: ExampleSource, folder: Path, say: Say) -> dict[str, Any]:
    """Fill `folder` with tokenised examples, unless it is whole; returns its index."""
    if (folder / INDEX).exists():
        return json.loads((folder / INDEX).read_text())
    folder.mkdir(parents=True, exist_ok=True)
    sets: tuple[ChatDataConfig | PreferenceDataConfig, ...] = source.data
    groups = [
        Group(number, units)
        for number, data in enumerate(sets)
        for units in grouped(row_units(data))
    ]
    writer = Writer(source, groups, folder)
    for done, _ in enumerate(each(len(groups), writer.write), start=1):
        say(f"tokenised {done}/{len(groups)} portions of the data")
    index = added(json.loads(path.read_text()) for path in sorted(folder.glob("part-*.json")))
    write_json(folder / INDEX, index)
    return index


def grouped(units: Iterable[Unit]) -> Iterator[tuple[Unit, ...]]:
    """Units in runs of about `GROUP_BYTES`."""
    waiting: list[Unit] = []
    size = 0
    for unit in units:
        waiting.append(unit)
        size += unit.bytes
        if size >= GROUP_BYTES:
            yield tuple(waiting)
            waiting, size = [], 0
    if waiting:
        yield tuple(waiting)


def added(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The figures of all parts together."""
    index: dict[str, Any] = {"train": 0, "validation": 0, "cut": 0}
    skipped: Counter[str] = Counter()
    for part in parts:
        skipped.update(part.pop("skipped"))
        for key, value in part.items():
            index[key] += value
    return {**index, "skipped": dict(skipped)}

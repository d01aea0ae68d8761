"""Strict YAML that remembers the line of every value.

PyYAML follows YAML 1.1, in which `no` is false, `3e-4` is text and the second of two equal keys
silently wins. Here plain scalars follow YAML 1.2 (see jobs.scalars), and refused are duplicate
keys, tags, several documents, and aliases that expand to more than a spec can need.

Values are built straight from PyYAML's parse events, so that every mistake that is not one of
syntax is noted and reading goes on: a user sees all of them at once. The parser is the pure Python
one, which behaves the same on every machine; a spec takes it about 10 ms.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import yaml

from jobs.scalars import plain_scalar
from llm.errors import SpecError

Keys = tuple[str | int, ...]
"""Path of a value in the spec: keys, and positions in lists."""

LARGEST_FILE = 1 << 20
MOST_VALUES = 10_000
DEEPEST = 50


@dataclass(frozen=True)
class Place:
    """Where a value was written: a line of the file, or the n-th override of the command line."""

    label: str
    line: int
    folder: Path
    """What a relative path written here is relative to."""
    override: bool = False

    def __str__(self) -> str:
        return self.label if self.override else f"{self.label}:{self.line}"


@dataclass(frozen=True)
class Problem:
    """One mistake of the user."""

    place: Place
    keys: Keys
    message: str

    def __str__(self) -> str:
        path = f"{dotted(self.keys)}: " if self.keys else ""
        return f"{self.place}: {path}{self.message}"


@dataclass(frozen=True)
class Source:
    """Plain values, where each of them was written, and what was wrong with them."""

    values: dict[str, Any]
    places: dict[Keys, Place]
    problems: tuple[Problem, ...] = ()

    def place(self, keys: Keys) -> Place:
        """Where a value was written, or else what it would be a part of."""
        while keys not in self.places:
            keys = keys[:-1]
        return self.places[keys]


def dotted(keys: Iterable[str | int]) -> str:
    """stages.generate.prompts.0"""
    return ".".join(map(str, keys))


def with_problems(source: Source, problems: Iterable[Problem]) -> Source:
    """The same values, with more known to be wrong."""
    return replace(source, problems=(*source.problems, *problems))


def report(problems: Iterable[Problem]) -> SpecError:
    """All problems as one error: those of the file by line, then those of the command line."""
    in_order = sorted(problems, key=lambda p: (p.place.override, p.place.line))
    return SpecError("\n".join(dict.fromkeys(map(str, in_order))))


def read(file: str) -> Source:
    """A YAML file; SpecError if there is nothing to go on."""
    return parsed(read_text(file), file)


def parsed(text: str, file: str) -> Source:
    """The same of a text that stands in a file, or is to stand there."""
    folder = Path(file).absolute().parent
    builder = Builder(text, lambda line: Place(file, line, folder))
    values = builder.document()
    if not isinstance(values, dict):
        found = "the file is empty" if values is None else f"found {kind_of(values)}"
        raise SpecError(f"{file}:1: a spec is a mapping of keys such as `name:`; {found}")
    return Source(values, builder.places, tuple(builder.problems))


def read_text(file: str) -> str:
    """The file's characters; SpecError if it cannot be a spec."""
    path = Path(file)
    if path.is_dir():
        raise SpecError(f"{file}: is a folder; give the YAML file itself")
    if not path.exists():
        raise SpecError(f"{file}: no such file; give the path of a YAML file")
    try:
        with open(path, "rb") as opened:
            content = opened.read(LARGEST_FILE + 1)
    except OSError as error:
        raise SpecError(f"{file}: cannot be read: {error.strerror}") from None
    if len(content) > LARGEST_FILE:
        raise SpecError(f"{file}: is larger than 1 MiB, so it cannot be a spec")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SpecError(f"{file}:{line}: is not UTF-8 text; save the file as UTF-8") from None


class Builder:
    """Makes plain values out of parse events; notes the place of each, and each mistake."""

    def __init__(self, text: str, place_at: Callable[[int], Place], root: Keys = ()) -> None:
        self.text = text
        self.place_at = place_at
        self.root = root
        self.places: dict[Keys, Place] = {root: place_at(1)}
        self.problems: list[Problem] = []
        self.anchors: dict[str, tuple[Any, int] | None] = {}  # value, size; None: still open
        self.size = 0

    def document(self) -> Any:
        """The value of the one document; SpecError where reading cannot go on."""
        events: Iterator[Any] = iter(())
        try:
            events = yaml.parse(self.text, Loader=yaml.SafeLoader)
            return self.only_document(events)
        except yaml.MarkedYAMLError as error:
            self.note(self.root, syntax_line(error), syntax_message(error))
        except yaml.reader.ReaderError as error:
            line = self.text.count("\n", 0, error.position) + 1
            self.note(self.root, line, f"character U+{int(error.character):04X} is not text")
        raise report(self.problems)

    def only_document(self, events: Iterator[Any]) -> Any:
        next(events)  # the stream starts
        if isinstance(next(events), yaml.StreamEndEvent):
            return None
        value = self.value(self.root, next(events), events)
        next(events)  # the document ends
        following = next(events)
        if isinstance(following, yaml.DocumentStartEvent):
            self.note(self.root, line_of(following), "a second document; a spec is one document")
        return value

    def value(self, keys: Keys, event: Any, events: Iterator[Any]) -> Any:
        """The value that starts with this event, and all that is in it."""
        line = line_of(event)
        self.places[keys] = self.place_at(line)
        if isinstance(event, yaml.AliasEvent):
            return self.alias(keys, event)
        if event.tag is not None:
            self.note(keys, line, f"tags such as {event.tag} are not allowed; write a plain value")
        self.grow(keys, line, 1)
        start = self.size
        if event.anchor:
            self.anchors[event.anchor] = None
        made = self.collection_or_scalar(keys, event, events)
        if event.anchor:
            self.anchors[event.anchor] = (made, self.size - start + 1)
        return made

    def collection_or_scalar(self, keys: Keys, event: Any, events: Iterator[Any]) -> Any:
        if isinstance(event, yaml.ScalarEvent):
            return self.scalar(keys, event)
        if len(keys) > DEEPEST:
            self.give_up(keys[:3], line_of(event), f"nested more than {DEEPEST} deep")
        if isinstance(event, yaml.SequenceStartEvent):
            return self.sequence(keys, events)
        return self.mapping(keys, events)

    def sequence(self, keys: Keys, events: Iterator[Any]) -> list[Any]:
        made: list[Any] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            made.append(self.value((*keys, len(made)), event, events))
        return made

    def mapping(self, keys: Keys, events: Iterator[Any]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            line = line_of(event)
            if not isinstance(event, yaml.ScalarEvent):
                self.give_up(keys, line, "a key must be a single word")
            path = (*keys, event.value)
            if event.value in made:
                first = self.places[path].line
                self.note(path, line, f"the key stands here again; it is already on line {first}")
                self.value(path, next(events), events)
                self.places[path] = self.place_at(first)
                continue
            made[event.value] = self.value(path, next(events), events)
            self.places[path] = self.place_at(line)  # a block's line is that of its key
        return made

    def scalar(self, keys: Keys, event: Any) -> Any:
        if event.style is not None:
            return event.value
        try:
            return plain_scalar(event.value)
        except ValueError as error:
            self.note(keys, line_of(event), str(error))
            return event.value

    def alias(self, keys: Keys, event: Any) -> Any:
        known = self.anchors.get(event.anchor)
        if known is None:
            where = "inside its own anchor" if event.anchor in self.anchors else "without an anchor"
            self.give_up(keys, line_of(event), f"the alias *{event.anchor} stands {where}")
        made, size = known
        self.grow(keys, line_of(event), size)
        return made

    def grow(self, keys: Keys, line: int, by: int) -> None:
        self.size += by
        if self.size > MOST_VALUES:
            self.give_up(keys, line, f"more than {MOST_VALUES} values, aliases expanded")

    def note(self, keys: Keys, line: int, message: str) -> None:
        self.problems.append(Problem(self.place_at(line), keys, message))

    def give_up(self, keys: Keys, line: int, message: str) -> NoReturn:
        self.note(keys, line, message)
        raise report(self.problems)


def line_of(event: Any) -> int:
    """The line on which an event starts, counted from 1."""
    return event.start_mark.line + 1


UNCLOSED = "found unexpected end of stream"
HINTS = {
    UNCLOSED: "a quote that is never closed",
    "expected ',' or ']'": "a list in brackets that lacks a comma or its ]",
    "expected ',' or '}'": "a mapping in braces that lacks a comma or its }",
    r"found character '\t'": "a tab; YAML is indented by spaces",
    "mapping values are not allowed here": "a second `:`; put text that has a colon in quotes",
    "could not find expected ':'": "a line that is neither `key: value` nor indented under one",
    "found character '%'": "text that starts with % must stand in quotes",
    "found character '@'": "text that starts with @ must stand in quotes",
    "found character '`'": "text that starts with ` must stand in quotes",
}


def syntax_line(error: yaml.MarkedYAMLError) -> int:
    """The line to look at: that of the fault, or where what was never closed begins."""
    unclosed = error.problem == UNCLOSED and error.context_mark
    mark = error.context_mark if unclosed else error.problem_mark
    assert mark, error
    return mark.line + 1


def syntax_message(error: yaml.MarkedYAMLError) -> str:
    """What is wrong with the syntax, in words that name the remedy where the cause is known."""
    problem = error.problem or "unknown error"
    for known, hint in HINTS.items():
        if problem.startswith(known):
            return f"not valid YAML: {hint}"
    context = f" ({error.context})" if error.context else ""
    return f"not valid YAML: {problem}{context}"


def kind_of(value: Any) -> str:
    """What a value is, in a user's words."""
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, list) else f"the value {value!r}"

"""The format in Markdown: every key of every record, what it takes, its default, its help.

`python -m jobs schema --format markdown` prints it; jobs/docs/reference.md is this, committed; a
test keeps the two equal. It is read off the same types as the JSON Schema.
"""

from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Any, get_args

import yaml

from jobs.shape import (
    Field,
    describe,
    fields_of,
    kinds_in,
    listed_in,
    named_in,
    record_in,
    records_in,
)
from jobs.spec import SpecFile
from jobs.stages import Stage

INTRODUCTION = """\
# Reference

Every key of a spec. This page is made by `python -m jobs schema --format markdown` from the same
records that check your file; editors read [schema.json](../schema.json), which says the same. A
value stands in the file (`stages:`, `pretrain:`, `optim:`, `lr: 3e-4`) or behind a command
(`stages.pretrain.optim.lr=3e-4`). `auto` is worked out by the plan, and `python -m jobs plan FILE`
shows what it comes to.
"""

TABLE = "| key | value | default | |\n|---|---|---|---|"


def text() -> str:
    """The page as it stands in the file."""
    return "\n".join(lines()) + "\n"


def lines() -> Iterator[str]:
    """The file, its stages by kind, then the records inside them by name."""
    stages = {record: kind_of(record) for record in get_args(Stage)}
    inside = {one for one in records_in(SpecFile) if one is not SpecFile} - stages.keys()
    yield INTRODUCTION
    yield "Stages: " + ", ".join(link(kind, kind) for kind in stages.values()) + ".\n"
    yield from section("The file", SpecFile)
    yield "## Stages\n"
    for record, kind in stages.items():
        yield from section(kind, record, level=3)
    yield "## What stands inside\n"
    for record in sorted(inside, key=lambda one: one.__name__):
        yield from section(record.__name__, record, level=3)


def kind_of(record: type) -> str:
    """The word behind `kind:`."""
    (kind,) = get_args(fields_of(record)["kind"].annotation)
    return str(kind)


def section(title: str, record: type, level: int = 2) -> Iterator[str]:
    """A heading, what it is, and its keys."""
    yield f"{'#' * level} {title}\n\n{one_line(record.__doc__ or '')}\n\n{TABLE}"
    defaults = defaults_of(record)
    for key, field in fields_of(record).items():
        yield row(f"`{key}`", value_of(field), defaults[key], one_line(field.help))
    yield ""


def defaults_of(record: type) -> dict[str, str]:
    """By key, what holds where nothing is written."""
    written = {}
    for key, field in zip(fields_of(record), own_first(record), strict=True):
        if field.default is not MISSING:
            written[key] = f"`{as_yaml(field.default)}`"
        elif field.default_factory is MISSING:
            written[key] = "needed"
        else:
            made = field.default_factory()
            written[key] = "`{}`" if made == {} else ""
    return written


def own_first(record: type) -> list[Any]:
    """The dataclass fields in the order of `fields_of`."""
    own = record.__annotations__
    return sorted(fields(record), key=lambda one: one.name not in own)


def value_of(field: Field) -> str:
    """What it takes: in words, or where the record is described."""
    annotation = field.annotation
    if kinds_in(annotation) or kinds_in(named_in(annotation)):
        return "names of yours, each [a stage](#stages)"
    for found, form in (
        (record_in(annotation), "{}"),
        (record_in(named_in(annotation)), "names of yours, each {}"),
        (listed_in(annotation), "a list of {}"),
    ):
        if found is not None:
            return form.format(link(found.__name__, found.__name__))
    return describe(annotation)


def link(words: str, heading: str) -> str:
    """To a heading of this page."""
    return f"[{words}](#{heading.lower()})"


def as_yaml(value: Any) -> str:
    """A default as a file would have it, on one line."""
    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(plain, default_flow_style=True).removesuffix("...\n").strip()


def one_line(words: str) -> str:
    """Text without line breaks."""
    return " ".join(words.split())


def row(*cells: str) -> str:
    """A row of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

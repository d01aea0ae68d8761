"""A spec of an older version rewritten, with comments and layout as they are.

The text is edited where values stand; nothing is dumped anew. The result has to pass the loader
before anybody sees it, and a file is replaced in one step or not at all.
"""

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
import yaml

from jobs.load import built
from jobs.versions import OLD, VERSION
from jobs.yaml_source import Keys, Place, parsed, read_text
from llm.errors import SpecError
from llm.files import write_atomic

Span = tuple[int, int]
"""First character of a value, and the one after its last."""


def print_migration(file: str, write: bool) -> None:
    """Show what would change in a file, or change it."""
    before = read_text(file)
    after = migrated(before, file)
    if after == before:
        typer.echo(f"{file} is of version {VERSION}, nothing to do")
        return
    typer.echo(unified(before, after, file), nl=False)
    if write:
        replace_file(Path(file), after)
        typer.echo(f"{file} is of version {VERSION} now")
    else:
        typer.echo(f"Next: python -m jobs migrate {file} --write")


def migrated(text: str, file: str) -> str:
    """The text as this version writes it; SpecError if that would not be a valid spec."""
    source, places = parsed(text, file), spans(text)
    edits = {
        places[keys]: replacement(text[slice(*places[keys])], now, source.place(keys))
        for old in OLD
        for keys, now in old.find(source.values)
    }
    edited = with_edits(text, edits)
    built(parsed(edited, file), file, ())  # edits keep lines, so a message has those of the file
    if not edits or "version" in source.values:
        return edited
    return with_version(edited)


def replacement(written: str, now: str, place: Place) -> str:
    """What takes the place of a value; SpecError if more than a value is written there."""
    if written.startswith(("&", "*")):
        raise SpecError(
            f"{place}: {written!r} has an anchor, which other places may use; write {now} by hand"
        )
    return now


def with_edits(text: str, edits: dict[Span, str]) -> str:
    """The text with new values, from the last to the first so that places stay where they are."""
    for (start, stop), now in sorted(edits.items(), reverse=True):
        text = text[:start] + now + text[stop:]
    return text


def with_version(text: str) -> str:
    """The text with `version` as its first key."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode), "the loader has taken it"
    start, said = root.start_mark.index, f"version: {VERSION}"
    if root.flow_style:
        return f"{text[: start + 1]}{said}, {text[start + 1 :].lstrip(' ')}"
    end = "\r\n" if "\r\n" in text else "\n"
    return f"{text[:start]}{said}{end}{' ' * root.start_mark.column}{text[start:]}"


def spans(text: str) -> dict[Keys, Span]:
    """Where the value of every path stands in a text that `parsed` has taken."""
    return dict(spans_in(yaml.compose(text, Loader=yaml.SafeLoader), ()))


def spans_in(node: Any, keys: Keys) -> Iterator[tuple[Keys, Span]]:
    """The same of a part of it; what an alias stands for is where its anchor is."""
    yield keys, (node.start_mark.index, node.end_mark.index)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from spans_in(value, (*keys, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield from spans_in(value, (*keys, number))


def unified(before: str, after: str, file: str) -> str:
    """What changes, as patch reads it."""
    old, new = (text.splitlines(keepends=True) for text in (before, after))
    return "".join(difflib.unified_diff(old, new, file, f"{file} (version {VERSION})"))


def replace_file(path: Path, text: str) -> None:
    """Put the text in place of a file, or of what a link leads to; its permissions stay."""
    path = path.resolve()
    mode, mark = path.stat().st_mode, path.read_bytes()[:3]
    encoding = "utf-8-sig" if mark == "\ufeff".encode() else "utf-8"
    write_atomic(path, text.encode(encoding))
    path.chmod(mode)

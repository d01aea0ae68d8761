"""Documents of jsonl units: the string under a key of each line's object.

Lines are parsed by pydantic's parser, which takes the bytes as they are: 700 MB/s of English where
`json.loads` makes 240, 180 of short Chinese rows where it makes 80 (one core, 2026). It refuses
half a surrogate pair anywhere in a row; such rows are left to `json`, as only the text matters.
"""

import json
from collections.abc import Iterator
from typing import Any

from pydantic_core import from_json

from llm.lines import Chunk, open_lines, whole_lines
from llm.read_text import decoded
from llm.reading import Document, Reading

Row = dict[str, Any]


def read_jsonl(reading: Reading) -> Iterator[Document]:
    """The unit's rows that have a text; empty lines are no rows."""
    unit = reading.unit
    with open_lines(unit.path, unit.start, unit.stop, reading.encoding) as lines:
        for line in whole_lines(lines, reading.longest_line, reading.too_long):
            if line.data.strip():
                row = row_of(reading, lines.codec, line)
                document = None if row is None else document_of(reading, line, row)
                if document is not None:
                    yield document


def row_of(reading: Reading, codec: str, line: Chunk) -> Row | None:
    """A line's object; None if it is none, which is reported."""
    try:
        data = line.data if codec == "utf-8" else line.data.decode(codec)
        row = from_json(data, allow_inf_nan=False)
    except ValueError:
        text = decoded(reading, codec, line)
        return None if text is None else row_by_json(reading, line, text)
    return object_of(reading, line, row)


def row_by_json(reading: Reading, line: Chunk, text: str) -> Row | None:
    """What the standard library makes of a line that the fast parser refuses."""
    try:
        row = json.loads(text, parse_constant=refused)
    except (ValueError, RecursionError) as error:
        what = f"is not JSON: {error}; expected one object a line"
        reading.report("invalid json", str(line.start), what, len(line.data))
        return None
    return object_of(reading, line, row)


def refused(constant: str) -> None:
    """NaN and Infinity are JavaScript, not JSON."""
    raise ValueError(f"{constant} is no JSON value")


def object_of(reading: Reading, line: Chunk, row: Any) -> Row | None:
    """A value that is an object."""
    if isinstance(row, dict):
        return row
    what = f"holds {named(row)}; expected an object such as {{...}}"
    reading.report("not an object", str(line.start), what, len(line.data))
    return None


def document_of(reading: Reading, line: Chunk, row: Row) -> Document | None:
    """The text of a row, with the name that its source gives it."""
    key, place = reading.config.text, str(line.start)
    text = row.get(key)
    if not isinstance(text, str):
        without_text(reading, line, row)
        return None
    if b"\\u" in line.data and not is_whole(text):
        what = f"has half a surrogate pair under {key!r}; expected pairs such as \\ud83d\\ude00"
        reading.report("invalid encoding", place, what, len(line.data))
        return None
    if reading.id is None:
        return Document(place, text)
    name = reading.name_of(row.get(reading.id), place, len(line.data))
    return None if name is None else Document(name, text)


def without_text(reading: Reading, line: Chunk, row: Row) -> None:
    """Report a row that has no string where its text should be."""
    key, place = reading.config.text, str(line.start)
    if key not in row:
        keys = ", ".join(map(repr, row)) or "none"
        what = f"has no key {key!r} (keys: {keys}); expected the text there; text: names its key"
        reading.report("no text", place, what, len(line.data))
    elif row[key] is None:
        reading.report("empty", place, f"has null under {key!r}", len(line.data))
    else:
        what = f"has {named(row[key])} under {key!r}; expected a string"
        reading.report("no text", place, what, len(line.data))


def is_whole(text: str) -> bool:
    """Whether there is no half of a surrogate pair in a text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def named(value: Any) -> str:
    """What JSON calls a value's type."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")

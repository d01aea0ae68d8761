"""Documents of csv files (RFC 4180, commas): a column by its name in the first row.

A quoted field may go over many lines, so a file is read from its start. After a row that is broken,
or that goes on beyond the largest document because its quote is never closed, the next line begins
a new row.
"""

import csv
import sys
from collections.abc import Iterator

from llm.lines import Chunk, Lines, open_lines, whole_lines
from llm.read_json import is_whole
from llm.reading import Document, Reading

HEADER = -1
"""Number of the first row; the others count from 0."""


class TooLong(Exception):
    """A row that has more bytes than a document."""


class Source:
    """The lines that the csv parser asks for, with the bytes it has got for the present row."""

    def __init__(self, reading: Reading, lines: Lines) -> None:
        self.longest, self.codec = reading.longest_line, lines.codec
        self.chunks = whole_lines(lines, self.longest, self.skip)
        self.waiting: Chunk | None = None
        self.skipped = 0
        self.bytes = 0

    def skip(self, start: int, size: int) -> None:
        """A line that is too long was passed over."""
        self.skipped += size

    def __iter__(self) -> "Source":
        return self

    def __next__(self) -> str:
        chunk = self.waiting or next(self.chunks, None)
        self.waiting = None
        if self.skipped:
            self.waiting, self.bytes, self.skipped = chunk, self.bytes + self.skipped, 0
            raise TooLong
        if chunk is None:
            raise StopIteration
        self.bytes += len(chunk.data)
        if self.longest is not None and self.bytes > self.longest:
            raise TooLong
        return chunk.data.decode(self.codec, "surrogateescape")


def read_csv(reading: Reading) -> Iterator[Document]:
    """The rows that have a text."""
    csv.field_size_limit(sys.maxsize)  # Source counts a row's bytes
    unit = reading.unit
    with open_lines(unit.path, unit.start, unit.stop, reading.encoding) as lines:
        source = Source(reading, lines)
        names: list[str] | None = None
        for number, row in rows_of(reading, source):
            if number == HEADER:
                names = row
            elif names is None:
                return reading.report("damaged file", "", "has no first row with column names")
            elif document := document_of(reading, names, row, number, source.bytes):
                yield document


def rows_of(reading: Reading, source: Source) -> Iterator[tuple[int, list[str]]]:
    """Rows with their numbers; empty lines are no rows."""
    reader, number = csv.reader(source, strict=True), HEADER
    while True:
        source.bytes = 0
        try:
            row = next(reader)
        except StopIteration:
            return
        except TooLong:
            what = f"goes on for {source.bytes} bytes; a document has {reading.largest} at most"
            reading.report("too large", str(number), what, source.bytes)
            number += 1
        except csv.Error as error:
            what = f"breaks the rules of csv: {error} (line {reader.line_num})"
            reading.report("damaged record", str(number), what, source.bytes)
            number += 1
        else:
            if row:
                yield number, row
                number += 1


def document_of(
    reading: Reading, names: list[str], row: list[str], number: int, size: int
) -> Document | None:
    """The text of a row; None if it has none, which is reported."""
    place, key = str(number), reading.config.text
    if len(row) != len(names):
        what = f"has {len(row)} fields; its first row names {len(names)} columns"
        reading.report("damaged record", place, what, size)
        return None
    if names.count(key) != 1:
        what = f"has not exactly one column {key!r}; its columns are {', '.join(names)}"
        reading.report("no text", place, f"{what}; set text: to one", size)
        return None
    text = row[names.index(key)]
    if not is_whole(text):
        what = f"has bytes that are not {reading.encoding.upper()}"
        reading.report("invalid encoding", place, f"{what}; say what it is with encoding:", size)
        return None
    if reading.id is None:
        return Document(place, text)
    value = row[names.index(reading.id)] if reading.id in names else None
    name = reading.name_of(value, place, size)
    return None if name is None else Document(name, text)

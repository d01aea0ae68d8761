"""Documents of txt units: lines without their ends, paragraphs without their last one, pieces."""

import io
from collections.abc import Iterable, Iterator

from llm.lines import (
    SKIPPED_BYTES,
    Chunk,
    Lines,
    open_lines,
    owned_parts,
    paragraphs_of,
    pieces_of,
    runs_of_lines,
)
from llm.reading import Document, Reading


def read_txt(reading: Reading) -> Iterator[Document]:
    """The unit's documents as `documents:` says; what is blank is none."""
    unit, kind = reading.unit, reading.config.documents
    with open_lines(unit.path, unit.start, unit.stop, reading.encoding) as lines:
        if kind == "line":
            yield from read_lines(reading, lines)
        elif kind == "paragraph":
            for paragraph in paragraphs_of(lines):
                yield from read_chunks(reading, lines, pieces_of(paragraph, lines.codec))
        elif reading.largest is not None:
            yield from read_file(reading, lines, reading.largest)
        else:
            yield from read_chunks(reading, lines, pieces_of(owned_parts(lines), lines.codec))


def read_file(reading: Reading, lines: Lines, largest: int) -> Iterator[Document]:
    """A whole file, which is the document of its first unit, if it is not too large."""
    if lines.start:
        return
    data = lines.file.read(largest + 1)
    if len(data) > largest:
        size = len(data) + sum(map(len, iter(lambda: lines.file.read(SKIPPED_BYTES), b"")))
        what = f"is a file of {size} bytes; a document has {largest} at most"
        reading.report("too large", "0", f"{what}; say documents: line or paragraph", size)
        return
    yield from read_chunks(reading, lines, [Chunk(0, lines.unmarked(data))])


def read_lines(reading: Reading, lines: Lines) -> Iterator[Document]:
    """Lines, decoded many at once; one by one where that fails, to find out which it is."""
    for start, data in runs_of_lines(lines, reading.longest_line, reading.too_long):
        try:
            text = (data if start else lines.unmarked(data)).decode(lines.codec)
        except UnicodeDecodeError:
            yield from read_chunks(reading, lines, lines.split(start, data))
            continue
        for row, line in zip(io.BytesIO(data), text.split("\n"), strict=False):
            if line and not line.isspace():
                yield Document(str(start), line.rstrip("\r"))
            start += len(row)


def read_chunks(reading: Reading, lines: Lines, chunks: Iterable[Chunk]) -> Iterator[Document]:
    """A document for each chunk."""
    whole = reading.config.documents == "file"
    for chunk in chunks:
        text = decoded(reading, lines.codec, chunk)
        if text and not text.isspace():
            yield Document(str(chunk.start), text if whole else text.rstrip("\r\n"))


def decoded(reading: Reading, codec: str, chunk: Chunk) -> str | None:
    """A chunk as text; None if it is none, which is reported."""
    try:
        return chunk.data.decode(codec)
    except UnicodeDecodeError as error:
        name = codec.upper()
        what = f"has bytes that are not {name} ({error.reason}); expected {name}"
        remedy = "convert it with iconv, or say what it is with encoding:"
        line = chunk.start + chunk.data.rfind(b"\n", 0, error.start) + 1
        reading.report("invalid encoding", str(line), f"{what}; {remedy}", len(chunk.data))
        return None

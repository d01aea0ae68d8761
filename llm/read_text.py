"""Documents of txt units: lines without their ends, paragraphs without their last one, pieces."""

from collections.abc import Iterator

from llm.lines import Chunk, Lines, open_lines, owned_parts, paragraphs_of, pieces_of, whole_lines
from llm.reading import Document, Reading


def read_txt(reading: Reading) -> Iterator[Document]:
    """The unit's documents as `documents:` says; what is blank is none."""
    unit = reading.unit
    with open_lines(unit.path, unit.start, unit.stop, reading.encoding) as lines:
        for chunk in chunks_of(reading, lines):
            text = decoded(reading, lines.codec, chunk)
            if text and not text.isspace():
                trimmed = text if reading.config.documents == "file" else text.rstrip("\r\n")
                yield Document(str(chunk.start), trimmed)


def chunks_of(reading: Reading, lines: Lines) -> Iterator[Chunk]:
    """The bytes of each document."""
    if reading.config.documents == "line":
        yield from whole_lines(lines, reading.longest_line, reading.too_long)
    elif reading.config.documents == "paragraph":
        for paragraph in paragraphs_of(lines):
            yield from pieces_of(paragraph, lines.codec)
    else:
        yield from pieces_of(owned_parts(lines), lines.codec)


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

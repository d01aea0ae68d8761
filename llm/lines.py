"""The lines of a unit of text, and the paragraphs and pieces that they make.

A line belongs to the unit in which its first byte lies, a paragraph to the unit in which the blank
line before it begins. So every unit finds its own documents by reading forward from its start, no
further than its end or the end of its last document; lines and paragraphs are the same however a
file is cut into units. Pieces are a unit's lines gathered up to 64 KiB, so these do depend on the
unit's size, which is a constant.

A line that is too long is passed over in portions, and a piece is never longer than 64 KiB,
however long its lines: that bounds the memory.
"""

import codecs
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import BinaryIO, NamedTuple

from llm.compression import algorithm_of, open_unpacked
from llm.encodings import has_plain_lines, mark_of, recoded

PIECE_BYTES = 64 << 10

SKIPPED_BYTES = 1 << 20
"""What is read at once of a line that is passed over."""


class Chunk(NamedTuple):
    """A line, or a part of one that is too long; `opens` says that a line begins with it."""

    start: int
    data: bytes
    opens: bool = True


@dataclass
class Lines:
    """The lines of a file that begin in [start, stop), open for reading."""

    file: io.BufferedReader
    start: int
    stop: float
    codec: str

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def unmarked(self, data: bytes) -> bytes:
        """A file's first line without the byte order mark that it may begin with."""
        return data.removeprefix(mark_of(self.codec))

    def split(self, start: int, data: bytes) -> Iterator[Chunk]:
        """The lines of a run of whole ones."""
        for line in io.BytesIO(data):
            yield Chunk(start, line if start else self.unmarked(line))
            start += len(line)

    def is_blank(self, chunk: Chunk) -> bool:
        """Whether this is a whole line of white space, of any script."""
        data = chunk.data
        if b"!" <= data[:1] <= b"~" or not (chunk.opens and data.endswith(b"\n")):
            return False  # the usual line begins with a character of ASCII
        return not data.strip() or data.decode(self.codec, "replace").isspace()


def open_lines(path: str, start: int, stop: int, encoding: str) -> Lines:
    """The lines that begin in a range of bytes of a file; of a file that cannot be cut, all.

    Such a file is one whose range is one of compressed bytes, or whose encoding has no plain line
    ends: then its text comes as UTF-8, and all of it belongs to the range that begins at 0.
    """
    file = open_unpacked(path)
    if not has_plain_lines(encoding):
        return Lines(recoded(file, encoding), start, 0 if start else float("inf"), "utf-8")
    return Lines(file, start, float("inf") if algorithm_of(path) else stop, encoding)


def whole_lines(
    lines: Lines, longest: int | None, too_long: Callable[[int, int], None]
) -> Iterator[Chunk]:
    """Lines one by one; `too_long` is told of the others: where they are and their size."""
    for start, data in runs_of_lines(lines, longest, too_long):
        yield from lines.split(start, data)


def runs_of_lines(
    lines: Lines, longest: int | None, too_long: Callable[[int, int], None]
) -> Iterator[tuple[int, bytes]]:
    """`whole_lines` in runs of about 64 KiB, each with its start; a byte order mark is left on."""
    start = first_line(lines)
    while start < lines.stop and (data := lines.file.read1(run_bytes(lines, start))):
        cut = data.rfind(b"\n") + 1
        if cut:
            yield start, data[:cut]
            start += cut
        if cut < len(data):
            line, skipped = rest_of_line(lines.file, data[cut:], longest)
            if skipped:
                too_long(start, len(line) + skipped)
            else:
                yield start, line
            start += len(line) + skipped


def run_bytes(lines: Lines, start: int) -> int:
    """What is read at once of the range from `start` on."""
    return int(min(PIECE_BYTES, lines.stop - start))


def rest_of_line(file: BinaryIO, line: bytes, longest: int | None) -> tuple[bytes, int]:
    """A line that has begun, and how many bytes of it were passed over if it is too long."""
    if longest is None:
        return line + file.readline(), 0
    line += file.readline(longest - len(line))
    return line, 0 if line.endswith(b"\n") or len(line) < longest else skip_line(file)


def skip_line(file: BinaryIO) -> int:
    """Go to the end of a line; the bytes passed over."""
    size = 0
    while data := file.readline(SKIPPED_BYTES):
        size += len(data)
        if data.endswith(b"\n"):
            break
    return size


def parts_of_lines(lines: Lines) -> Iterator[Chunk]:
    """All from the first line of the range to the end of the file, long lines in parts."""
    start, opens = first_line(lines), True
    if start >= lines.stop:
        return
    readline = lines.file.readline
    while data := readline(PIECE_BYTES - 3):  # the rest of a character goes before it
        yield Chunk(start, data if start else lines.unmarked(data), opens)
        start += len(data)
        opens = data.endswith(b"\n")


def first_line(lines: Lines) -> int:
    """Where the first line begins that begins in the range, with the file left there.

    Reads nothing outside the range but the byte before it, so that a line over many units costs
    each of them its own size only. If no line begins there, the end of the range.
    """
    if lines.start == 0:
        return 0
    at, last = lines.file.seek(lines.start - 1), int(lines.stop) - 1
    while at < last:
        data = lines.file.readline(min(PIECE_BYTES, last - at))
        at += len(data)
        if data.endswith(b"\n"):
            return at
        if not data:
            break
    return int(lines.stop)


def paragraphs_of(lines: Lines) -> Iterator[Iterator[Chunk]]:
    """The range's paragraphs, each to be read before the next."""
    for blank, group in groupby(paragraph_chunks(lines), lines.is_blank):
        if not blank:
            yield group


def paragraph_chunks(lines: Lines) -> Iterator[Chunk]:
    """What follows the range's first blank line, up to the first blank line behind the range.

    The first paragraph of a file follows no line and is its first unit's.
    """
    mine = lines.start == 0
    for chunk in parts_of_lines(lines):
        blank = lines.is_blank(chunk)
        if chunk.opens and chunk.start >= lines.stop and (blank or not mine):
            return
        mine = mine or blank
        if mine:
            yield chunk


def owned_parts(lines: Lines) -> Iterator[Chunk]:
    """Lines that begin in the range, long ones in parts."""
    for chunk in parts_of_lines(lines):
        if chunk.opens and chunk.start >= lines.stop:
            return
        yield chunk


def pieces_of(chunks: Iterable[Chunk], codec: str) -> Iterator[Chunk]:
    """Chunks gathered to at most 64 KiB; where a line is cut, it is between two characters."""
    start, piece = 0, b""
    for chunk in chunks:
        if piece and len(piece) + len(chunk.data) > PIECE_BYTES:
            cut = len(piece) - incomplete(piece, codec)
            yield Chunk(start, piece[:cut])
            start, piece = start + cut, piece[cut:]
        start = start if piece else chunk.start
        piece += chunk.data
    if piece:
        yield Chunk(start, piece)


def incomplete(data: bytes, codec: str) -> int:
    """Bytes at the end of `data` that are the beginning of a character."""
    decoder = codecs.getincrementaldecoder(codec)("replace")
    decoder.decode(data)
    pending, _ = decoder.getstate()
    return len(pending)


def line_number(path: str, offset: int, encoding: str) -> int:
    """Number of the line at an offset, from 1; reads the file up to there, since nobody counted."""
    number = 1
    with open_lines(path, 0, 0, encoding) as lines:
        while offset > 0 and (block := lines.file.read(min(offset, 1 << 20))):
            number += block.count(b"\n")
            offset -= len(block)
    return number

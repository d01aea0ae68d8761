"""The documents of one unit, in the order of the file.

A line belongs to the unit in which its first byte lies, a paragraph to the unit in which the blank
line before it begins. So every unit finds its own documents by reading forward from its start, no
further than its end or the end of its last document; lines and paragraphs are the same however a
file is cut into units. Documents of kind `file` are pieces of about 64 KiB: a unit's lines are
gathered up to that size, so these do depend on the unit's size, which is a constant.

Memory is bounded by a row or line; a piece is never longer than 64 KiB, however long its lines.
"""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import groupby
from typing import Any, BinaryIO, NamedTuple, cast

from llm.config import DataConfig
from llm.errors import DataError
from llm.filesystem import open_file
from llm.shards import Unit, is_gzip

PIECE_BYTES = 64 << 10

ROWS = 256
"""Rows of a parquet column that are in memory at once."""

BOM = b"\xef\xbb\xbf"


def read_unit(unit: Unit, data: DataConfig) -> Iterator[str]:
    """Documents in file order; those that are null or have nothing but white space are skipped."""
    read = {"parquet": read_parquet, "jsonl": read_jsonl, "txt": read_txt}[unit.format]
    try:
        yield from (text for text in read(unit, data) if text and not text.isspace())
    except (OSError, EOFError, zlib.error, ValueError) as error:  # ValueError: of fsspec's clients
        raise DataError(
            f"{unit.path}: cannot be read: {error}; the file may be damaged or incomplete"
        ) from error


def is_held_out(text: str, fraction: float) -> bool:
    """Whether a document is kept for validation: a fixed property of its text."""
    return position(text, b"held out", b"") < fraction


def is_sampled(text: str, share: float, seed: int) -> bool:
    """Whether a document is in a sample; independent of whether it is held out."""
    return position(text, b"sampled", seed.to_bytes(16, "little", signed=True)) < share


def position(text: str, purpose: bytes, salt: bytes) -> float:
    """Where in [0, 1) a text falls, uniformly; other purposes and salts are independent draws."""
    bits = blake2b(text.encode(), digest_size=8, person=purpose, salt=salt).digest()
    return (int.from_bytes(bits, "big") >> 11) / (1 << 53)


# -- text and jsonl --------------------------------------------------------------------------------


class Chunk(NamedTuple):
    """A line, or a part of one that is too long; `opens` says that a line begins with it."""

    start: int
    data: bytes
    opens: bool

    def is_blank(self) -> bool:
        """Whether this is a whole line of white space, of any script."""
        if not (self.opens and self.data.endswith(b"\n")):
            return False
        return not self.data.strip() or self.data.decode(errors="replace").isspace()


def read_jsonl(unit: Unit, data: DataConfig) -> Iterator[str]:
    """The string under key `data.text` of each line's object; null is skipped."""
    with open_text(unit) as file:
        for line in lines_of(file, unit):
            if line.data.strip():
                text = value_of(line, unit, data.text)
                if text is not None:
                    yield text


def read_txt(unit: Unit, data: DataConfig) -> Iterator[str]:
    """Lines without their ends, paragraphs without their last one, or pieces as they are."""
    with open_text(unit) as file:
        if data.documents == "line":
            for line in lines_of(file, unit):
                yield decoded(line, unit).rstrip("\r\n")
        elif data.documents == "paragraph":
            for paragraph in paragraphs_of(file, unit):
                yield from (decoded(piece, unit).rstrip("\r\n") for piece in pieces_of(paragraph))
        else:
            chunks = owned(chunks_of(file, unit, PIECE_BYTES - 3), unit)
            yield from (decoded(piece, unit) for piece in pieces_of(chunks))


def open_text(unit: Unit) -> BinaryIO:
    """The text of a file, decompressed; closing it closes the file below."""
    file = open_file(unit.path)
    if not is_gzip(unit.path):
        return file
    stream: Any = gzip.GzipFile(fileobj=file, mode="rb")
    stream.myfileobj = file  # what GzipFile closes with itself
    return cast(BinaryIO, stream)


def stop_of(unit: Unit) -> float:
    """Where a unit's lines end; a gzip'd file's range is one of compressed bytes, so nowhere."""
    return float("inf") if is_gzip(unit.path) else unit.stop


def lines_of(file: BinaryIO, unit: Unit) -> Iterator[Chunk]:
    """The whole lines that begin in the unit."""
    return owned(chunks_of(file, unit, -1), unit)


def owned(chunks: Iterator[Chunk], unit: Unit) -> Iterator[Chunk]:
    """Chunks up to the first line that begins behind the unit."""
    stop = stop_of(unit)
    for chunk in chunks:
        if chunk.opens and chunk.start >= stop:
            return
        yield chunk


def chunks_of(file: BinaryIO, unit: Unit, limit: int) -> Iterator[Chunk]:
    """Lines from the first that begins in the unit to the end of the file, in parts of `limit`."""
    start = first_line(file, unit)
    if start is None:
        return
    opens = True
    while data := file.readline(limit):
        yield Chunk(start, data if start else data.removeprefix(BOM), opens)
        start += len(data)
        opens = data.endswith(b"\n")


def first_line(file: BinaryIO, unit: Unit) -> int | None:
    """Where the first line begins that begins in the unit, with the file left there; or None.

    Reads nothing outside the unit but the byte before it, so that a line over many units costs
    each of them its own size only.
    """
    if unit.start == 0:
        return 0
    at = file.seek(unit.start - 1)
    while at < unit.stop - 1:
        data = file.readline(min(PIECE_BYTES, unit.stop - 1 - at))
        at += len(data)
        if data.endswith(b"\n"):
            return at
        if not data:
            return None
    return None


def paragraphs_of(file: BinaryIO, unit: Unit) -> Iterator[Iterator[Chunk]]:
    """The unit's paragraphs, each to be read before the next."""
    chunks = paragraph_chunks(chunks_of(file, unit, PIECE_BYTES - 3), unit)
    for blank, group in groupby(chunks, Chunk.is_blank):
        if not blank:
            yield group


def paragraph_chunks(chunks: Iterator[Chunk], unit: Unit) -> Iterator[Chunk]:
    """What follows the unit's first blank line, up to the first blank line behind the unit.

    The first paragraph of a file follows no line and is its first unit's.
    """
    stop, mine = stop_of(unit), unit.start == 0
    for chunk in chunks:
        blank = chunk.is_blank()
        if chunk.opens and chunk.start >= stop and (blank or not mine):
            return
        mine = mine or blank
        if mine:
            yield chunk


def pieces_of(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """Chunks gathered to at most 64 KiB; where a line is cut, it is between two characters."""
    start, piece = 0, b""
    for chunk in chunks:
        if piece and len(piece) + len(chunk.data) > PIECE_BYTES:
            cut = len(piece) - incomplete(piece)
            yield Chunk(start, piece[:cut], True)
            start, piece = start + cut, piece[cut:]
        start = start if piece else chunk.start
        piece += chunk.data
    if piece:
        yield Chunk(start, piece, True)


def incomplete(data: bytes) -> int:
    """Bytes at the end of `data` that are the beginning of a UTF-8 character, 0 to 3."""
    for count, byte in enumerate(reversed(data[-3:]), start=1):
        if byte >= 0xC0:
            return count if count < 2 + (byte >= 0xE0) + (byte >= 0xF0) else 0
        if byte < 0x80:
            return 0
    return 0


def value_of(line: Chunk, unit: Unit, key: str) -> str | None:
    """The string under `key` of a line's object."""
    text = decoded(line, unit)
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise broken(unit, line.start, f"is not JSON: {error}", "one object a line") from error
    if not isinstance(row, dict):
        raise broken(unit, line.start, f"holds {named(row)}", "an object such as {...}")
    if key not in row:
        keys = ", ".join(map(repr, row)) or "none"
        what = f"has no key {key!r} (keys: {keys})"
        raise broken(unit, line.start, what, "the text there; data.text names its key")
    return checked(row[key], line, unit, key)


def checked(value: Any, line: Chunk, unit: Unit, key: str) -> str | None:
    """A value that is a string of whole characters, or null."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise broken(unit, line.start, f"has {named(value)} under {key!r}", "a string")
    if b"\\u" in line.data:  # the only way half a surrogate pair gets into UTF-8
        try:
            value.encode()
        except UnicodeEncodeError as error:
            what = f"has half a surrogate pair under {key!r} ({error.reason})"
            raise broken(unit, line.start, what, r"pairs such as \ud83d\ude00") from error
    return value


def named(value: Any) -> str:
    """What JSON calls a value's type."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")


def decoded(chunk: Chunk, unit: Unit) -> str:
    """A chunk as text."""
    try:
        return chunk.data.decode()
    except UnicodeDecodeError as error:
        what = f"has bytes that are not UTF-8 ({error.reason})"
        raise broken(unit, chunk.start + error.start, what, "UTF-8; convert it: iconv") from error


def broken(unit: Unit, offset: int, what: str, expected: str) -> DataError:
    """The error for a line, found by an offset in the text."""
    return DataError(f"{unit.path}, line {line_number(unit, offset)}: {what}; expected {expected}")


def line_number(unit: Unit, offset: int) -> int:
    """Number of the line at an offset, from 1; reads the file up to there, since nobody counted."""
    number = 1
    with open_text(unit) as file:
        while offset > 0 and (block := file.read(min(offset, 1 << 20))):
            number += block.count(b"\n")
            offset -= len(block)
    return number


# -- parquet ---------------------------------------------------------------------------------------


def read_parquet(unit: Unit, data: DataConfig) -> Iterator[str]:
    """The column `data.text` of the unit's row groups; nulls are skipped."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open_file(unit.path) as file, pq.ParquetFile(file) as parquet:
            check_column(unit, parquet.schema_arrow, data.text)
            yield from column_texts(unit, parquet, data.text)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        groups = f"row groups {unit.start} to {unit.stop - 1}"
        what = f"column {data.text!r} cannot be read: {error}"
        raise DataError(f"{unit.path}, {groups}: {what}; the file is damaged") from error


def column_texts(unit: Unit, parquet: Any, column: str) -> Iterator[str]:
    """Texts of a column, a few hundred rows at a time."""
    groups = list(range(unit.start, unit.stop))
    for batch in parquet.iter_batches(ROWS, row_groups=groups, columns=[column]):
        yield from (text for text in batch.column(0).to_pylist() if text is not None)


def check_column(unit: Unit, schema: Any, column: str) -> None:
    """That there is exactly one such column and that it holds strings."""
    import pyarrow.types as types

    if schema.names.count(column) != 1:
        names = ", ".join(schema.names)
        raise DataError(
            f"{unit.path}: has not exactly one column {column!r}; its columns are {names}; "
            "set data.text to the one that holds the text"
        )
    kind = schema.field(column).type
    kind = kind.value_type if types.is_dictionary(kind) else kind
    if not (types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)):
        raise DataError(
            f"{unit.path}: column {column!r} holds {kind}; expected string; "
            "set data.text to a column of strings"
        )

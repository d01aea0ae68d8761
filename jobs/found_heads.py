"""What one file is, by its name and its first 64 KiB: format, encoding, the key of its text."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llm.compression import ALGORITHMS, name_of, open_unpacked
from llm.errors import DataError
from llm.filesystem import Found, open_file
from llm.guess_encoding import HEAD_BYTES, guessed
from llm.shards import Format, Shard, format_of

USUAL = ("text", "content", "body", "document", "article", "正文", "内容")
"""Keys under which people keep a document's text; else it is the one with the longest strings."""

ROWS = 100


@dataclass(frozen=True)
class Head:
    """A file, how it is to be read, or why it is not."""

    file: Found
    kind: Format | None
    key: str = "text"
    encoding: str = "utf-8"
    named: bool = True
    """Whether its name alone tells its format."""
    why: str = ""
    """Why it is no text."""
    data: bytes = b""


def suffix_of(path: str) -> str:
    """`.jsonl.gz`; empty if there is none."""
    name = name_of(path)
    packed = next((one for one in ALGORITHMS if name.endswith(one)), "")
    stem, dot, suffix = name.removesuffix(packed).rpartition(".")
    return (f".{suffix}" if dot and stem else "") + packed


def head_of(shard: Shard) -> Head:
    """What a file is."""
    file = Found(shard.path, shard.bytes, "")
    known = format_of(shard.path)
    try:
        if known == "parquet":
            return of_rows(file, known, parquet_rows(shard.path))
        if known in ("warc", "wet"):
            return Head(file, known)
        with open_unpacked(shard.path) as opened:
            data = opened.read(HEAD_BYTES)
    except (OSError, EOFError, ValueError, DataError) as error:
        return Head(file, None, why=f"cannot be read ({error})")
    return of_bytes(file, known, data)


def of_bytes(file: Found, known: Format | None, data: bytes) -> Head:
    """What a file that is no container is."""
    whole = len(data) < HEAD_BYTES
    encoding = guessed(data, whole)
    if encoding is None or is_binary(data, encoding):
        return Head(file, None, why="not text")
    text = data.decode(encoding, "ignore")
    if not text.strip("\ufeff \t\r\n"):
        return Head(file, None, why="nothing but white space")
    if known == "jsonl":
        return of_rows(file, known, json_rows(text, whole), encoding, data)
    if known == "csv":
        return of_rows(file, known, csv_rows(text), encoding, data)
    if known is None and text.lstrip("\ufeff \t\r\n")[:1] in ("{", "["):
        return Head(file, None, encoding=encoding, why="JSON, which is read as jsonl", data=data)
    return Head(file, "txt", encoding=encoding, named=known == "txt", data=data)


def is_binary(data: bytes, encoding: str) -> bool:
    """Whether control characters stand in bytes that are no UTF-16."""
    if encoding.startswith(("utf-16", "utf-32")):
        return False
    return sum(data.count(bytes([sign])) for sign in (*range(9), *range(14, 27))) * 100 > len(data)


def of_rows(
    file: Found,
    known: Format,
    rows: Iterator[dict[str, Any]],
    encoding: str = "utf-8",
    data: bytes = b"",
) -> Head:
    """A file of rows: the key of their text."""
    found = [row for row, _ in zip(rows, range(ROWS), strict=False)]
    if not found:
        return Head(file, None, why=f"no row of {known} in it", data=data)
    key = key_of(found)
    if key is None:
        keys = ", ".join(str(one) for one in list(found[0])[:6])
        return Head(file, None, encoding=encoding, why=f"no text under its keys {keys}", data=data)
    return Head(file, known, key, encoding, data=data)


def key_of(rows: list[dict[str, Any]]) -> str | None:
    """The key of a row's text: a usual one, or the one with the longest strings."""
    sizes: dict[str, int] = {}
    for row in rows:
        for key, value in row.items():
            if isinstance(key, str) and isinstance(value, str) and value.strip():
                sizes[key] = sizes.get(key, 0) + len(value)
    usual = next((key for key in USUAL if key in sizes), None)
    return usual or max(sizes, key=lambda key: sizes[key], default=None)


def json_rows(text: str, whole: bool) -> Iterator[dict[str, Any]]:
    """Objects of whole lines; what is none is passed over."""
    lines = text.removeprefix("\ufeff").split("\n")
    for line in lines if whole or len(lines) == 1 else lines[:-1]:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            yield row


def csv_rows(text: str) -> Iterator[dict[str, Any]]:
    """Rows by the names in the first."""
    try:
        yield from csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    except csv.Error:
        return


def parquet_rows(path: str) -> Iterator[dict[str, Any]]:
    """The first rows, with the columns that hold text; nothing of a file that is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open_file(path) as file, pq.ParquetFile(file) as parquet:
            schema = parquet.schema_arrow
            names = [one.name for one in schema if is_text(one.type)]
            for batch in parquet.iter_batches(ROWS, columns=names):
                yield from batch.to_pylist()
                return
    except (pa.ArrowException, OverflowError) as error:
        raise DataError(str(error).partition("\n")[0]) from error


def is_text(type: Any) -> bool:
    """Whether a column holds strings."""
    import pyarrow.types as types

    return bool(types.is_string(type) or types.is_large_string(type))

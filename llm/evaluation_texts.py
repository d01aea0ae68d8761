"""The texts of evaluation sets, which must not be in a corpus.

Every evaluation set has a schema of its own and a corpus need not know it: all strings of a file
count, at whatever depth, so questions, answers, choices and contexts alike. Of a txt file each
line does. A damaged file is an error: a set that is read in part would let the rest through.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from llm.compression import algorithm_of, name_of, open_unpacked
from llm.errors import DataError
from llm.filesystem import find, open_file

FIELD_BYTES = 1 << 30
"""csv's own limit of 128 KiB would refuse long contexts."""


def evaluation_texts(patterns: tuple[str, ...]) -> Iterator[str]:
    """All strings of all files that files, folders and globs stand for."""
    for path in sorted({file.path for pattern in patterns for file in find(pattern).files}):
        read = READERS.get(suffix_of(path))
        if read is None:
            known = ", ".join(READERS)
            raise DataError(
                f"decontaminate.shards: the name of {path} does not tell its format; known are "
                f"{known}, all but parquet also .gz and .zst; rename it or narrow the pattern"
            )
        try:
            yield from read(path)
        except (OSError, EOFError, ValueError, RecursionError, csv.Error) as error:
            raise DataError(
                f"decontaminate.shards: {path}: cannot be read: {error}; "
                "the file may be damaged or incomplete"
            ) from error


def suffix_of(path: str) -> str:
    """`.jsonl` of `set.jsonl.gz`."""
    parts = name_of(path).split(".")
    return "." + (parts[-2] if algorithm_of(path) and len(parts) > 1 else parts[-1])


def read_json(path: str) -> Iterator[str]:
    """One JSON value."""
    with open_unpacked(path) as file:
        yield from strings(json.load(file))


def read_jsonl(path: str) -> Iterator[str]:
    """A JSON value a line."""
    with open_unpacked(path) as file:
        for line in file:
            if line.strip():
                yield from strings(json.loads(line))


def read_lines(path: str) -> Iterator[str]:
    """Lines of text."""
    with open_unpacked(path) as file:
        yield from as_text(file)


def read_csv(path: str) -> Iterator[str]:
    """Fields of a table."""
    csv.field_size_limit(FIELD_BYTES)
    with open_unpacked(path) as file:
        for row in csv.reader(as_text(file)):
            yield from row


def read_parquet(path: str) -> Iterator[str]:
    """Values of a table."""
    import pyarrow.parquet as pq

    with open_file(path) as file, pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(256):
            yield from strings(batch.to_pylist())


READERS: dict[str, Callable[[str], Iterator[str]]] = {
    ".json": read_json,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".txt": read_lines,
    ".csv": read_csv,
    ".parquet": read_parquet,
}


def as_text(file: BinaryIO) -> io.TextIOWrapper:
    """A file of UTF-8, its byte order mark left out."""
    return io.TextIOWrapper(file, encoding="utf-8-sig", newline="")


def strings(value: Any) -> Iterator[str]:
    """All strings in a value, but for the keys of objects."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)

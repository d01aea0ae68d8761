"""The files of a part: the documents that one portion gave, waiting for what all others decide.

A part is a parquet file with a document's id, text and url, and with what decides its fate: the key
of exact copies, the keys of its bands, its size, and whether it is held out of training. Beside it
a JSON file, written last, says that it is whole. Across the corpus a document is known by its
number: that of its portion, shifted by 32 bits, plus its row.

Documents are written and read a row group at a time: about 512 KiB of text is in memory, or one
document if that is larger.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llm.duplicates import Signer, exact_key
from llm.files import replacing

GROUP_BYTES = 512 << 10
"""Text of a row group."""

BATCH = 1 << 16
"""Documents whose keys are read at once."""

ROW_BITS = 32

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("url", pa.string()),
        ("text", pa.string()),
        ("bytes", pa.int64()),
        ("held_out", pa.bool_()),
        ("key_high", pa.uint64()),
        ("key_low", pa.uint64()),
    ]
)


class Row(NamedTuple):
    """A document of a part."""

    id: str
    url: str
    text: str
    bytes: int
    held_out: bool
    key_high: int
    key_low: int


def part_path(folder: Path, number: int) -> Path:
    """The documents of a portion."""
    return folder / f"{number:06}.parquet"


def summary_path(folder: Path, number: int) -> Path:
    """What is known of them without opening the part; there once it is whole."""
    return folder / f"{number:06}.json"


@contextmanager
def writing(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """A parquet file to be written; equal rows give equal bytes."""
    with (
        replacing(path) as file,
        pq.ParquetWriter(
            file, schema, compression="zstd", use_dictionary=False, write_statistics=False
        ) as writer,
    ):
        yield writer


@contextmanager
def writing_part(path: Path, signer: Signer | None) -> Iterator["PartWriter"]:
    """A part to be written."""
    schema = SCHEMA
    if signer is not None:
        schema = schema.append(pa.field("bands", pa.binary(8 * signer.bands_count)))
    with writing(path, schema) as file:
        writer = PartWriter(file, signer)
        yield writer
        writer.flush()


class PartWriter:
    """Writes documents, a row group at a time."""

    def __init__(self, file: pq.ParquetWriter, signer: Signer | None) -> None:
        self.file, self.signer = file, signer
        self.batch: list[Row] = []
        self.rows = self.waiting = 0

    def add(self, id: str, url: str, text: str, held_out: bool) -> None:
        """Append a document."""
        size = len(text.encode())
        self.batch.append(Row(id, url, text, size, held_out, *exact_key(text)))
        self.waiting += size
        if self.waiting >= GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the documents that wait as a row group."""
        if not self.batch:
            return
        values = zip(SCHEMA, zip(*self.batch, strict=True), strict=True)
        columns = [pa.array(column, field.type) for field, column in values]
        if self.signer is not None:
            keys = self.signer.bands([row.text for row in self.batch])
            columns.append(as_binary(keys))
        self.file.write_table(pa.table(columns, schema=self.file.schema))
        self.rows += len(self.batch)
        self.batch, self.waiting = [], 0


def as_binary(keys: np.ndarray) -> pa.Array:
    """Rows of numbers as fixed-size binary values: (N, K) uint64 -> (N,)."""
    data = pa.py_buffer(np.ascontiguousarray(keys, "<u8"))
    return pa.Array.from_buffers(pa.binary(8 * keys.shape[1]), len(keys), [None, data])


def as_numbers(column: pa.Array) -> np.ndarray:
    """What `as_binary` packed: (N,) -> (N, K) uint64."""
    width = column.type.byte_width // 8
    values = np.frombuffer(column.buffers()[1], "<u8").reshape(-1, width)
    return values[column.offset : column.offset + len(column)]


def read_column(path: Path, name: str) -> np.ndarray:
    """A column of numbers, whole: (rows,)."""
    return pq.read_table(path, columns=[name]).column(0).to_numpy()


def read_batches(path: Path, columns: list[str]) -> Iterator[tuple[np.ndarray, ...]]:
    """Columns of numbers, BATCH rows at a time: (B,) each, `bands` (B, bands)."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH, columns=columns):
            yield tuple(
                as_numbers(batch[name]) if name == "bands" else batch[name].to_numpy()
                for name in columns
            )


def read_groups(path: Path, wanted: np.ndarray, columns: list[str]) -> Iterator[pa.Table]:
    """The wanted rows of a part, a row group at a time; wanted: (rows,) bool, or of the first."""
    start = 0
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            stop = start + file.metadata.row_group(group).num_rows
            rows = np.flatnonzero(wanted[start:stop])
            if len(rows):
                yield file.read_row_group(group, columns=columns).take(pa.array(rows))
            start = stop

"""How a parquet file is cut into portions of rows, by its footer alone.

Small row groups are put together. A large one is cut evenly by rows: a portion from its middle is
found by decoding what lies before it, so there are 64 of them at most, which makes the decoding
32 times that of the file; a row group has to be larger than 16 MiB before its portions are larger
than 256 KiB.
"""

from itertools import pairwise
from typing import Any, NamedTuple

from llm.compression import HARMLESS_BYTES, MOST_RATIO, Bomb
from llm.damage import Damage, DamageError
from llm.filesystem import open_file

LARGE = 4
"""Portions' worth of bytes from which on a row group is cut."""

MOST_CUTS = 64


class Rows(NamedTuple):
    """Rows [start, stop) of a file and their size."""

    start: int
    stop: int
    bytes: int


def row_ranges(path: str, portion: int) -> list[Rows]:
    """Portions of about so many bytes that make up a file."""
    ranges: list[Rows] = []
    for group in row_groups(path):
        if group.bytes > LARGE * portion:
            ranges += cut(group, -(-group.bytes // portion))
        elif ranges and ranges[-1].bytes + group.bytes <= portion:
            last = ranges.pop()
            ranges.append(Rows(last.start, group.stop, last.bytes + group.bytes))
        else:
            ranges.append(group)
    return ranges


def cut(rows: Rows, parts: int) -> list[Rows]:
    """Rows in equal parts."""
    count = rows.stop - rows.start
    parts = min(parts, MOST_CUTS, count)
    ends = [rows.start + count * part // parts for part in range(parts + 1)]
    sizes = [rows.bytes * part // parts for part in range(parts + 1)]
    return [
        Rows(start, stop, after - before)
        for (start, stop), (before, after) in zip(pairwise(ends), pairwise(sizes), strict=True)
    ]


def row_groups(path: str) -> list[Rows]:
    """The row groups of a file that have rows, with their size before compression."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found, start = [], 0
    try:
        with open_file(path) as file, pq.ParquetFile(file) as parquet:
            for index in range(parquet.num_row_groups):
                group = parquet.metadata.row_group(index)
                check_ratio(group)
                if group.num_rows:
                    found.append(Rows(start, start + group.num_rows, group.total_byte_size))
                start += group.num_rows
    except (OSError, ValueError, pa.ArrowException) as error:
        what = f"cannot be read as parquet: {error}; write it anew"
        raise DamageError(Damage("damaged file", path, "", what, 0)) from error
    return found


def check_ratio(group: Any) -> None:
    """That a row group does not unpack to much more than text does."""
    for index in range(group.num_columns):
        column = group.column(index)
        packed, size = column.total_compressed_size, column.total_uncompressed_size
        if size > max(HARMLESS_BYTES, MOST_RATIO * packed):
            name = column.path_in_schema
            what = f"{packed} bytes of column {name!r} unpack to {size}, over {MOST_RATIO} to 1"
            raise Bomb(what)

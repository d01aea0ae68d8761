"""Shards: what the parts' surviving documents are rewritten as, for good.

Columns id, text, url, source; row groups of about 256 KiB of text, since that is what training
reads at once. A shard's content is a function of the documents alone: how parts are cut into row
groups, who writes it and when leave no trace in its bytes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llm.fates import DROPPED, EXACT, NEAR, Shard, fates_of, read_dropped
from llm.files import sha256
from llm.parts import ROW_BITS, part_path, read_groups, writing
from llm.samples import EACH, Samples, difference, shown
from llm.splitmix import mix

GROUP_BYTES = 256 << 10
"""Text of a row group at least, but for a file's last."""

COLUMNS = ["id", "text", "url"]

SCHEMA = pa.schema([(name, pa.string()) for name in (*COLUMNS, "source")])


@dataclass(frozen=True)
class ShardMaker:
    """Writes a corpus' shards into `folder` from its parts; picklable."""

    shards: list[Shard]
    parts: Path
    folder: Path

    def make(self, index: int) -> dict[str, Any]:
        """Write a shard, unless it is there; returns its entry in corpus.json."""
        shard = self.shards[index]
        path = self.folder / shard.name
        if not path.exists():
            with writing(path, SCHEMA) as file:
                for table in regrouped(self.tables(shard)):
                    source = pa.array([shard.source] * len(table), pa.string())
                    columns = [*table.select(COLUMNS).columns, source]
                    file.write_table(pa.table(columns, schema=SCHEMA))
        return {
            "path": shard.name,
            "source": shard.source,
            "documents": shard.documents,
            "bytes": shard.bytes,
            "sha256": sha256(path),
        }

    def tables(self, shard: Shard) -> Iterator[pa.Table]:
        """A shard's documents in order, in small tables."""
        for part, start, stop in shard.slices:
            wanted = fates_of(self.parts, part) == shard.fate
            wanted[:start] = wanted[stop:] = False
            yield from read_groups(part_path(self.parts, part), wanted, [*COLUMNS, "bytes"])


def regrouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables that reach GROUP_BYTES with their last row, whatever they came in."""
    waiting: list[pa.Table] = []
    size = 0
    for table in tables:
        while len(table):
            ends = np.cumsum(table.column("bytes").to_numpy())
            last = int(np.searchsorted(ends, GROUP_BYTES - size))
            waiting.append(table.slice(0, last + 1))
            size += int(ends[min(last, len(ends) - 1)])
            table = table.slice(last + 1)
            if size >= GROUP_BYTES:
                yield pa.concat_tables(waiting)
                waiting, size = [], 0
    if waiting:
        yield pa.concat_tables(waiting)


def show_kept(samples: Samples, path: Path) -> None:
    """Offer the first documents of a shard as samples of what is kept."""
    with pq.ParquetFile(path) as file:
        rows = file.read_row_group(0, columns=["id", "text"]).to_pylist()
    for row in rows:
        samples.offer("kept", row["id"].partition("/")[0], row["id"], partial(shown, row["text"]))


def show_copies(samples: Samples, parts: Path) -> None:
    """Offer some copies as samples, each beside the document that stays in its place."""
    for fate in (EXACT, NEAR):
        dropped, kept = read_dropped(parts, fate)
        order = mix(dropped.astype(np.uint64) + np.uint64(samples.seed)).argsort()
        for index in order[:EACH].tolist():
            id, text = document(parts, int(dropped[index]))
            other, original = document(parts, int(kept[index]))
            samples.offer("dropped", DROPPED[fate], id, partial(difference, text, original), other)


def document(parts: Path, number: int) -> tuple[str, str]:
    """Id and text of a document."""
    part, row = divmod(number, 1 << ROW_BITS)
    wanted = np.arange(row + 1) == row
    table = next(read_groups(part_path(parts, part), wanted, ["id", "text"]))
    return table["id"][0].as_py(), table["text"][0].as_py()

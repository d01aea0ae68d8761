"""The training stream on Ray Data: tokenised in parallel, dealt to workers in one fixed order.

    range of groups -> positions -> rows (any free CPU) -> blocks of Q rows -> worker i mod W

Three things make the order a pure function of the seed (measured in Ray 2.60): operators keep
their order (`preserve_order`); every block has exactly Q rows, so that the splitter, which feeds
whoever has fewest, deals strictly in turn; and rows come from `Sequences.rows`, which
does not know where it runs. `streaming_split(equal=True)`, Ray Train's default, would drop rows.

The dataset is finite, since Ray Data has no endless one, but long enough for the rest of the run.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import ray
import ray.data
import ray.train
from ray.data import DataContext, Dataset, ExecutionResources

from llm.data import Block, Cursor, Sequences

GROUP_BYTES = 1 << 20
"""Text that one task reads at least, so that tiny corpora do not make a task of every sentence."""

MOST_IN_GROUP = 256
MOST_GROUPS = 20_000

READ_AHEAD_BYTES = 64 << 20
"""Tokenised rows that wait for the workers at most."""

MARGIN = 1.5
"""The stream is longer than its estimate by this; should it end early all the same, the workers
fall, and the next stream starts from the last checkpoint."""


@dataclass(frozen=True)
class Stream:
    """At least `needed` rows from `cursor` on, in blocks of `block` rows."""

    sequences: Sequences
    cursor: Cursor
    needed: int
    block: int

    def dataset(self) -> Dataset:
        """The lazy dataset; columns ids (Q, C + 1) int32, position (Q,), row (Q,)."""
        positions = self.positions()
        size = self.group_size(positions)
        groups = math.ceil(positions / size)
        return (
            ray.data.range(groups, override_num_blocks=groups)
            .map_batches(partial(self.group_rows, size=size), batch_size=1)
            .repartition(target_num_rows_per_block=self.block, strict=True)
        )

    def positions(self) -> int:
        """How many positions hold the rows, judged by the first."""
        rows = len(self.sequences.rows(Cursor(self.cursor.position)).row)
        return self.sequences.positions + math.ceil(MARGIN * self.needed / max(rows, 1))

    def group_size(self, positions: int) -> int:
        """Positions that one task reads."""
        mean = sum(unit.bytes for unit in self.sequences.units) / self.sequences.positions
        enough = min(MOST_IN_GROUP, math.ceil(GROUP_BYTES / mean))
        return max(enough, math.ceil(positions / MOST_GROUPS))

    def group_rows(self, batch: dict[str, np.ndarray], size: int) -> Iterator[dict[str, Any]]:
        """The rows of one group of positions, a portion for every position that has any."""
        first = self.cursor.position + int(batch["id"][0]) * size
        for position in range(first, first + size):
            block = self.sequences.rows(max(self.cursor, Cursor(position)))
            if len(block.row):
                yield {"ids": block.ids, "position": block.position, "row": block.row}


class InOrder(ray.train.DataConfig):
    """Deals whole blocks to workers in turn; Ray Train's own choice would cut off tail rows."""

    def configure(
        self, datasets: dict[str, Dataset], world_size: int, *_: Any, **__: Any
    ) -> list[dict[str, Any]]:
        """The worker's share of each dataset, by rank."""
        shares: list[dict[str, Any]] = [{} for _ in range(world_size)]
        for name, dataset in datasets.items():
            keep_order(dataset.context)
            for rank, split in enumerate(dataset.streaming_split(world_size, equal=False)):
                shares[rank][name] = split
        return shares


def keep_order(context: DataContext) -> None:
    """Settings under which a dataset's order is the order it was written down in."""
    context.execution_options.preserve_order = True
    context.execution_options.resource_limits = ExecutionResources(
        object_store_memory=READ_AHEAD_BYTES
    )
    context.enable_progress_bars = False
    context.print_on_execution_start = False


def blocks_of(shard: ray.data.DataIterator) -> Iterator[Block]:
    """A worker's share as blocks."""
    batches = shard.iter_batches(
        batch_size=None,  # type: ignore[arg-type]  # blocks as they are
        batch_format="numpy",
        prefetch_batches=4,
    )
    for batch in batches:
        yield Block(batch["ids"], batch["position"], batch["row"])

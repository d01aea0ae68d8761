"""The training stream on Ray Data: tokenised in parallel, dealt to workers in one fixed order.

    range of groups -> positions -> rows (any free CPU) -> chunks of whole batches
      -> each chunk sorted by worker -> one block a worker -> worker i mod W -> micro batches

Three things make the order a pure function of the seed (measured in Ray 2.60): operators keep
their order (`preserve_order`); all blocks have the same number of rows, so that the splitter, which
feeds whoever has fewest, deals strictly in turn; and rows come from `Sequences.rows`, which
does not know where it runs. `streaming_split(equal=True)`, Ray Train's default, would drop rows.

A block costs Ray some 5 to 10 ms, whatever is in it, so a chunk is several megabytes: a stream of
single micro batches of 8 rows reached a tenth of what tokenising allows.

The dataset is finite, since Ray Data has no endless one, but long enough for the rest of the run.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import ray
import ray.data
from ray.data import DataContext, DataIterator, Dataset, ExecutionResources, TaskPoolStrategy

from cluster.datasets import in_order, work_on
from cluster.unhurried import Unhurried
from llm.data import Block, Cursor, Sequences

GROUP_BYTES = 1 << 20
"""Text that one task reads at least, so that tiny corpora do not make a task of every sentence."""

MOST_IN_GROUP = 256
MOST_GROUPS = 20_000

CHUNK_BYTES = 8 << 20
"""Token ids that are dealt to all workers at once, if a batch is not larger."""

MOST_CHUNK_ROWS = 4096

TASK_CPUS = 0.25
"""Ray Data shares out its CPUs evenly over the four operators of a stream, of which only the one
that tokenises needs any: at a whole CPU a task it ran one at a time where two CPUs were free."""

MARGIN = 1.5
"""The stream is longer than its estimate by this; should it end early all the same, the workers
fall, and the next stream starts from the last checkpoint."""

LEAST_TOKENS_PER_BYTE = 1 / 32
SAMPLED_UNITS = 4


@dataclass(frozen=True)
class Dealing:
    """How rows reach workers: of every batch, worker w gets the micro batches w, w + W, ..."""

    batch: int
    micro_batch: int
    workers: int

    def chunk(self, context: int) -> int:
        """Rows that are dealt at once: whole batches."""
        rows = min(MOST_CHUNK_ROWS, CHUNK_BYTES // (4 * (context + 1)))
        return max(1, rows // self.batch) * self.batch

    def share(self, chunk: int) -> int:
        """Rows of a worker's part of a chunk; those that get less have it filled up."""
        slots = self.batch // self.micro_batch
        return chunk // self.batch * math.ceil(slots / self.workers) * self.micro_batch

    def sort(self, rows: dict[str, np.ndarray], chunk: int) -> dict[str, np.ndarray]:
        """A chunk with all rows of worker 0 first, then those of worker 1 and so on.

        Rows that only fill up stand at position -1; the last chunk gets as long as all others by
        them. What is no whole batch ends a dataset that was to go on, and is left out.
        """
        batches = len(rows["row"]) // self.batch
        slots = np.arange(batches * self.batch).reshape(batches, -1, self.micro_batch)
        most = math.ceil(slots.shape[1] / self.workers)
        order = np.full((self.workers, chunk // self.batch, most, self.micro_batch), -1)
        for worker in range(self.workers):
            own = slots[:, worker :: self.workers]
            order[worker, :batches, : own.shape[1]] = own
        index = order.reshape(-1)
        dealt = {name: column[index] for name, column in rows.items()}
        dealt["position"] = np.where(index < 0, -1, dealt["position"])
        return dealt


@dataclass(frozen=True)
class Stream:
    """At least `needed` rows from `cursor` on, if there are as many, dealt to workers."""

    sequences: Sequences
    cursor: Cursor
    needed: int
    dealing: Dealing
    bytes: np.ndarray
    """Size of every unit, (units,) int64."""
    cpus: int
    """Tasks that read and tokenise at the same time."""

    def dataset(self) -> Dataset:
        """The lazy dataset; columns ids (Q, C + 1) int32, position (Q,), row (Q,)."""
        positions = self.positions()
        size = self.group_size(positions)
        groups = math.ceil(positions / size)
        chunk = self.dealing.chunk(self.sequences.context)
        chunks = (
            ray.data.range(groups, override_num_blocks=groups)
            .map_batches(
                partial(self.group_rows, size=size),
                batch_size=1,
                num_cpus=TASK_CPUS,
                compute=TaskPoolStrategy(self.cpus),
            )
            .repartition(target_num_rows_per_block=chunk, strict=True)
        )
        if self.dealing.workers == 1:
            return chunks
        return chunks.map_batches(
            partial(self.dealing.sort, chunk=chunk),
            batch_size=chunk,
            num_cpus=TASK_CPUS,
            compute=TaskPoolStrategy(1),
        ).repartition(target_num_rows_per_block=self.dealing.share(chunk), strict=True)

    def positions(self) -> int:
        """How many positions hold the rows, judged by the tokens in a few units of the first.

        Two more than that, since an epoch's last position may hold next to nothing.
        """
        rows = self.bytes_per_position * self.tokens_per_byte() / self.sequences.context
        wanted = math.ceil(MARGIN * self.needed / rows) + 2
        wanted += wanted // self.sequences.order.positions
        end = self.sequences.end
        return wanted if end is None else min(wanted, end + 1 - self.cursor.position)

    def tokens_per_byte(self) -> float:
        """Of some of the text at the cursor."""
        visits = self.sequences.order.visits(self.cursor.position)[:SAMPLED_UNITS]
        units = [visit.unit for visit in visits]
        documents = (ids for unit in units for ids in self.sequences.text.documents(unit))
        tokens = sum(len(ids) + 1 for ids in documents)
        return max(tokens / max(1, int(self.bytes[units].sum())), LEAST_TOKENS_PER_BYTE)

    @property
    def bytes_per_position(self) -> float:
        """Text that a position reads, on average."""
        return float(self.bytes.mean()) * len(self.sequences.order.visits(0))

    def group_size(self, positions: int) -> int:
        """Positions that one task reads."""
        enough = min(MOST_IN_GROUP, math.ceil(GROUP_BYTES / self.bytes_per_position))
        return max(enough, math.ceil(positions / MOST_GROUPS))

    def group_rows(self, batch: dict[str, np.ndarray], size: int) -> Iterator[dict[str, Any]]:
        """The rows of one group of positions, a portion for every position that has any."""
        first = self.cursor.position + int(batch["id"][0]) * size
        for position in range(first, first + size):
            block = self.sequences.rows(max(self.cursor, Cursor(position)))
            if len(block):
                yield {"ids": block.ids, "position": block.position, "row": block.row}


def shares_of(
    stream: Stream, read_ahead: int, labels: Mapping[str, str] | None = None
) -> list[DataIterator]:
    """The stream, dealt to its workers, whole blocks in turn, as soon as all of them read.

    It is made on nodes with these labels, if there are any.

    Not by Ray Train, which would cut off tail rows, and have an actor of its own do this only when
    the workers are up: two process starts later, which cost every recovery seconds.
    """
    dataset = stream.dataset()
    keep_order(dataset.context, read_ahead)
    work_on(labels or {}, dataset.context)
    return dataset.streaming_split(stream.dealing.workers, equal=False)


def dismiss(shares: list[DataIterator]) -> None:
    """End a stream that nobody reads any more."""
    for share in shares[:1]:  # one actor deals to all
        ray.kill(share._coord_actor)  # type: ignore[attr-defined]


def keep_order(context: DataContext, read_ahead: int) -> None:
    """Settings under which a dataset's order is the order it was written down in.

    `read_ahead` megabytes wait for whoever reads it at most.
    """
    in_order(context)
    context.custom_execution_callback_classes = [Unhurried]
    context.execution_options.resource_limits = ExecutionResources(
        object_store_memory=read_ahead * 1e6
    )


def blocks_of(share: DataIterator, micro_batch: int) -> Iterator[Block]:
    """A worker's share as micro batches."""
    batches = share.iter_batches(
        batch_size=None,  # type: ignore[arg-type]  # blocks as they are
        batch_format="numpy",
        prefetch_batches=4,
    )
    for batch in batches:
        block = Block(batch["ids"], batch["position"], batch["row"])
        for start in range(0, len(block), micro_batch):
            if block.position[start] >= 0:
                yield block[start : start + micro_batch]

"""Work on numbered things with Ray Data: a task for each, results in order; and a shuffle by key.

A thing is named by its number; what it needs is read from the corpus' folder by the task itself,
and what it makes goes there, so that no text passes through this process. A user's mistake comes
back as a value, because Ray would wrap what is raised in an error of its own. What is unpickled was
pickled by our own tasks of the same run and lay in Ray's object store.

The shuffle moves payloads, not rows: a task packs all its entries for one bucket into one value, so
that Ray handles a few thousand rows where there are billions of entries. Ray's shuffle
consists of tasks (strategy SHUFFLE_V2 of Ray 2.60), so it runs on one CPU, and its blocks spill to
disk when the object store is full (measured: 512 MB of entries through a store of 200 MB in 18 s
on two cores, 40 s with one CPU).
"""

import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data
from ray.data import DataContext, Dataset
from ray.data.context import ShuffleStrategy

from llm.errors import UserError

SHUFFLE_INPUT_BYTES = 64 << 20
"""Blocks that one shuffle task takes together; Ray's 1 GiB is too much for a small machine."""

BLOCK_BYTES = 32 << 20
"""Of what tasks give, so much lies on their heap at most."""

PAYLOADS = pa.schema([("bucket", pa.int64()), ("payload", pa.binary())])
VALUES = pa.schema([("number", pa.int64()), ("value", pa.binary())])

Emit = Callable[[int], Iterable[Iterable[tuple[int, bytes]]]]
Reduce = Callable[[int, list[bytes]], Any]


def each(count: int, function: Callable[[int], Any]) -> Iterator[Any]:
    """function(0), function(1), ... in this order, computed wherever there is a CPU."""
    for _, value in values(numbered(count, partial(called, function=function))):
        if isinstance(value, UserError):
            raise value
        yield value


def shuffle(count: int, buckets: int, emit: Emit, reduce: Reduce) -> Iterator[tuple[int, Any]]:
    """Pairs of a bucket and reduce(bucket, payloads), in no order, for all that have any.

    emit(number) gives batches of (bucket, payload); payloads come to `reduce` in no order.
    """
    emitted = numbered(count, partial(emitted_by, emit=emit))
    dataset = emitted.repartition(buckets, keys=["bucket"]).map_batches(
        partial(reduced_by, reduce=reduce), batch_size=None, batch_format="pyarrow"
    )
    seen: set[int] = set()
    for bucket, value in values(dataset):
        assert bucket not in seen, "a bucket came in two blocks"
        seen.add(bucket)
        yield bucket, value


def numbered(count: int, function: Callable[[pa.Table], Any]) -> Dataset:
    """A lazy dataset of what a function makes of each number, a task for each."""
    dataset = ray.data.range(count, override_num_blocks=count or 1)
    return dataset.map_batches(function, batch_size=1, batch_format="pyarrow")


def values(dataset: Dataset) -> Iterator[tuple[int, Any]]:
    """Numbers and values of a dataset's rows, as they come in."""
    context = dataset.context
    in_order(context)
    context.target_max_block_size = BLOCK_BYTES
    context.shuffle_strategy = ShuffleStrategy.SHUFFLE_V2
    context.shuffle_input_batch_bytes = SHUFFLE_INPUT_BYTES
    context.shuffle_compression = "none"  # hashes do not compress, and texts are few
    for row in dataset.iter_rows():
        yield row["number"], pickle.loads(row["value"])


def in_order(context: DataContext) -> None:
    """Rows come in the order in which they were written down, and the terminal is left to us."""
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.print_on_execution_start = False


def work_on(labels: Mapping[str, str], context: DataContext) -> None:
    """All tasks of a dataset, shuffles too, run on nodes with these labels; none: on any node."""
    context.execution_options.label_selector = dict(labels) or None


# -- in the tasks ----------------------------------------------------------------------------------


def called(batch: pa.Table, function: Callable[[int], Any]) -> pa.Table:
    """The value of a function, or the user's mistake that it met."""
    number = batch["id"][0].as_py()
    try:
        value = function(number)
    except UserError as error:
        value = error
    return pa.table([[number], [pickle.dumps(value)]], schema=VALUES)


def emitted_by(batch: pa.Table, emit: Emit) -> Iterator[pa.Table]:
    """A number's payloads, a table for each batch."""
    for payloads in emit(batch["id"][0].as_py()):
        yield pa.table(columns(list(payloads), PAYLOADS), schema=PAYLOADS)
    yield PAYLOADS.empty_table()


def reduced_by(block: pa.Table, reduce: Reduce) -> pa.Table:
    """What comes of the buckets of a block; Ray puts all of a bucket into one."""
    payloads: dict[int, list[bytes]] = {}
    for bucket, payload in zip(*(block[name] for name in PAYLOADS.names), strict=True):
        payloads.setdefault(bucket.as_py(), []).append(payload.as_py())
    reduced = [(bucket, pickle.dumps(reduce(bucket, payloads[bucket]))) for bucket in payloads]
    return pa.table(columns(reduced, VALUES), schema=VALUES)


def columns(rows: list[tuple[Any, ...]], schema: pa.Schema) -> list[pa.Array]:
    """Rows as arrays, one for each field."""
    return [pa.array([row[i] for row in rows], field.type) for i, field in enumerate(schema)]


# -- entries by key --------------------------------------------------------------------------------


def by_key(entries: np.ndarray, buckets: int) -> Iterator[tuple[int, bytes]]:
    """Entries (N, K) uint64 by the range in which their first number, a hash, lies."""
    bucket = (entries[:, 0] >> np.uint64(32)) * np.uint64(buckets) >> np.uint64(32)
    order = np.argsort(bucket, kind="stable")
    edges = np.searchsorted(bucket[order], np.arange(buckets + 1))
    for number in np.flatnonzero(np.diff(edges)).tolist():
        yield number, entries[order[edges[number] : edges[number + 1]]].tobytes()


def joined(payloads: list[bytes], width: int) -> np.ndarray:
    """The entries of several payloads: (N, width) uint64."""
    parts = [np.frombuffer(payload, np.uint64) for payload in payloads]
    return np.concatenate(parts).reshape(-1, width)

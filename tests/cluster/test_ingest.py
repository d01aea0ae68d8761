"""Ray Data deals the very blocks that plain python makes, to any number of workers."""

from itertools import islice

import numpy as np
import pytest

from cluster.ingest import InOrder, Stream, blocks_of
from llm.data import Block, Cursor, Sequences
from llm.task import read_task, sequences_of
from tests.tasks import write_task

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def sequences(tmp_path_factory: pytest.TempPathFactory) -> Sequences:
    return sequences_of(read_task(write_task(tmp_path_factory.mktemp("ingest"))))


def dealt(sequences: Sequences, cursor: Cursor, workers: int, count: int) -> list[Block]:
    """The first `count` blocks of three, taken from all workers in turn."""
    dataset = Stream(sequences, cursor, needed=3 * count, block=3).dataset()
    shares = InOrder().configure({"train": dataset}, workers)
    streams = [blocks_of(share["train"]) for share in shares]
    return [next(streams[index % workers]) for index in range(count)]


def same(one: Block, two: Block) -> bool:
    return (
        np.array_equal(one.ids, two.ids)
        and np.array_equal(one.position, two.position)
        and np.array_equal(one.row, two.row)
    )


@pytest.mark.parametrize("cursor", [Cursor(), Cursor(1, 11)])
def test_one_worker_gets_the_blocks_of_plain_python(
    ray_cluster: None, sequences: Sequences, cursor: Cursor
) -> None:
    count = 900  # more than an epoch
    plain = list(islice(sequences.blocks(cursor, 3), count))
    assert plain[-1].after.position > cursor.position
    streamed = dealt(sequences, cursor, 1, count)
    assert all(same(a, b) for a, b in zip(plain, streamed, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3])
def test_workers_are_dealt_blocks_strictly_in_turn(
    ray_cluster: None, sequences: Sequences, workers: int
) -> None:
    import ray

    dataset = Stream(sequences, Cursor(), needed=180, block=3).dataset()
    shares = InOrder().configure({"train": dataset}, workers)

    @ray.remote(num_cpus=0)
    def first_blocks(share: dict, count: int) -> list[Block]:
        return list(islice(blocks_of(share["train"]), count))

    got = ray.get([first_blocks.remote(share, 60 // workers) for share in shares])
    plain = list(islice(sequences.blocks(Cursor(), 3), 60))
    for index, block in enumerate(plain):
        assert same(block, got[index % workers][index // workers])


def test_a_tiny_corpus_is_read_many_positions_at_a_time(sequences: Sequences) -> None:
    stream = Stream(sequences, Cursor(), needed=100_000, block=4)
    positions = stream.positions()
    assert positions * len(sequences.rows(Cursor()).row) > 100_000
    assert positions / stream.group_size(positions) < positions / 10

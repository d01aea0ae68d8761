"""Ray Data deals the very blocks that plain python makes, to any number of workers."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from ray.data import DataIterator

from cluster import ingest
from cluster.ingest import Dealing, Stream, blocks_of, dismiss, shares_of
from llm.data import Block, Cursor, Sequences, TokenisedText
from llm.task import read_task, sequences_of
from tests.tasks import write_task

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def sequences(tmp_path_factory: pytest.TempPathFactory) -> Sequences:
    return sequences_of(read_task(write_task(tmp_path_factory.mktemp("ingest"))))


def stream(
    sequences: Sequences, cursor: Cursor, needed: int, batch: int, workers: int = 1
) -> Stream:
    assert isinstance(sequences.text, TokenisedText)
    dealing = Dealing(batch, micro_batch=3, workers=workers)
    return Stream(sequences, cursor, needed, dealing, sequences.text.units.bytes, cpus=2)


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
    shares = shares_of(stream(sequences, cursor, needed=3 * count, batch=6), read_ahead=64)
    streamed = islice(blocks_of(shares[0], 3), count)
    assert all(same(a, b) for a, b in zip(plain, streamed, strict=True))
    dismiss(shares)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "slots"),
    [(2, 4), *(pytest.param(3, slots, marks=pytest.mark.long) for slots in (4, 3))],
)
def test_every_batch_is_dealt_to_workers_slot_by_slot(
    ray_cluster: None,
    sequences: Sequences,
    workers: int,
    slots: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ray

    monkeypatch.setattr(ingest, "MOST_CHUNK_ROWS", 2 * 3 * slots)
    steps = 30
    long = stream(sequences, Cursor(), 3 * slots * steps, batch=3 * slots, workers=workers)
    shares = shares_of(long, read_ahead=1)

    @ray.remote(num_cpus=0)
    def first_blocks(share: DataIterator, count: int) -> list[Block]:
        return list(islice(blocks_of(share, 3), count))

    own = [range(rank, slots, workers) for rank in range(workers)]
    got = ray.get(
        [first_blocks.remote(share, len(s) * steps) for share, s in zip(shares, own, strict=True)]
    )
    plain = list(islice(sequences.blocks(Cursor(), 3), slots * steps))
    for step in range(steps):
        for rank, mine in enumerate(own):
            for index, slot in enumerate(mine):
                block = got[rank][step * len(mine) + index]
                assert same(plain[step * slots + slot], block)
    dismiss(shares)


def test_a_chunk_is_sorted_by_worker_and_filled_up() -> None:
    dealing = Dealing(batch=3, micro_batch=1, workers=2)
    rows = {"ids": np.arange(7)[:, None], "position": np.full(7, 5), "row": np.arange(7)}
    dealt = dealing.sort(rows, chunk=9)  # two batches, 0 1 2 and 3 4 5, of three; 6 is left over
    assert dealing.share(chunk=9) == 6
    assert dealt["position"].tolist() == [5, 5, 5, 5, -1, -1, 5, -1, 5, -1, -1, -1]
    assert dealt["row"][dealt["position"] >= 0].tolist() == [0, 2, 3, 5, 1, 4]


def test_chunks_are_whole_batches_of_a_few_megabytes() -> None:
    assert Dealing(batch=16, micro_batch=8, workers=2).chunk(context=255) == 4096
    assert Dealing(batch=512, micro_batch=8, workers=2).chunk(context=1023) == 2048
    assert Dealing(batch=5000, micro_batch=8, workers=2).chunk(context=1023) == 5000


def test_a_tiny_corpus_is_read_many_positions_at_a_time(sequences: Sequences) -> None:
    long = stream(sequences, Cursor(), needed=100_000, batch=6)
    positions = long.positions()
    assert positions * len(sequences.rows(Cursor())) > 100_000
    assert positions / long.group_size(positions) < positions / 10


def test_a_stream_that_has_an_end_is_no_longer_than_it(sequences: Sequences) -> None:
    ending = replace(sequences, end=5, padding=1)
    assert stream(ending, Cursor(2), needed=100_000, batch=6).positions() == 4

"""How fast text becomes rows: the stream on Ray Data against DataLoader(2) and bare sentencepiece.

The same 148 MB of English (Debian packages, `_debian.py`), the same tokenizer (unigram, 8192), the
same `Sequences`: Ray Data with two CPUs, torch's DataLoader with two processes that take positions
in turn, and sentencepiece alone in two processes with the text already in memory. Rates are steady
ones, without the first 400 blocks; the start is told apart. Then: how soon a run continues that
stopped at the beginning of an epoch, and at 90% of it.
"""

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch.utils.data
from rich.console import Console
from rich.table import Table

from llm.config import DataConfig, ModelConfig, TokenizerConfig, TrainConfig, ValidationConfig
from llm.data import Block, Cursor, Sequences, TokenisedText, training_documents
from llm.task import PretrainTask, sequences_of
from tests.bench._debian import write_english

CONTEXT = 1024
BLOCK = 128
SKIPPED = 400
BLOCKS = 400
ROUNDS = 3


@dataclass(frozen=True)
class Rate:
    """Seconds to the first block, and tokens a second from there on."""

    start: float
    tokens: float


def main() -> None:
    """Measure and print."""
    from cluster.config import ClusterConfig
    from cluster.session import session

    folder = Path(tempfile.gettempdir()) / "humpty-bench-text"
    sequences = sequences_of(make_task(folder))
    per_token = bytes_per_token(sequences)
    plain: dict[str, Callable[[], Rate]] = {
        "bare sentencepiece, 2 processes": lambda: bare(sequences),
        "DataLoader(2)": lambda: timed(loader(sequences)),
    }
    results = {name: [measure() for _ in range(ROUNDS)] for name, measure in plain.items()}
    with session(ClusterConfig(workers=1, cpus_per_worker=1, ingest_cpus=2)):
        timed(stream(sequences, Cursor()))  # Ray's worker processes start
        results["Ray Data, 2 CPUs"] = [timed(stream(sequences, Cursor())) for _ in range(ROUNDS)]
        report(results, per_token)
        resumed(sequences)


def make_task(folder: Path) -> PretrainTask:
    """The text and its tokenizer, made once."""
    from llm.tokenizer_trainer import train

    text = write_english(folder)
    data = DataConfig(shards=(str(text),), validation=ValidationConfig(fraction=0))
    tokenizer = folder / "tokenizer.model"
    task = PretrainTask(
        folder=str(folder),
        tokenizer=str(tokenizer),
        data=data,
        model=ModelConfig(depth=1, width=64, heads=1, hidden=64, context=CONTEXT),
        train=TrainConfig(tokens=1, steps=1, batch=1, micro_batch=1),
        prompt="",
        seed=0,
    )
    if not tokenizer.exists():
        from llm.units import units_of

        units = list(islice(units_of(data), 0, None, 40))
        texts = [one for unit in units for one in training_documents(unit, data)]
        train(texts, TokenizerConfig(vocab_size=8192, byte_fallback=True), tokenizer, seed=0)
    return task


def bytes_per_token(sequences: Sequences) -> float:
    """Of the text, measured on one unit."""
    assert isinstance(sequences.text, TokenisedText)
    texts = training_documents(sequences.text.units[0], sequences.text.data)
    tokens = sum(len(ids) + 1 for ids in sequences.text.documents(0))
    return sum(len(text.encode()) for text in texts) / tokens


def timed(blocks: Iterator[int]) -> Rate:
    """The rate of an iterator over token counts."""
    begin = time.perf_counter()
    next(blocks)
    first = time.perf_counter()
    sum(islice(blocks, SKIPPED))  # what had piled up before the first was asked for
    steady = time.perf_counter()
    tokens = sum(islice(blocks, BLOCKS))
    return Rate(first - begin, tokens / (time.perf_counter() - steady))


def stream(sequences: Sequences, cursor: Cursor) -> Iterator[int]:
    """What a worker gets from Ray Data."""
    from cluster.config import ClusterConfig
    from cluster.ingest import Dealing, Stream, blocks_of, shares_of

    assert isinstance(sequences.text, TokenisedText)
    sizes = sequences.text.units.bytes
    dealing = Dealing(BLOCK, BLOCK, workers=1)
    stream = Stream(sequences, cursor, (SKIPPED + BLOCKS + 1) * BLOCK, dealing, sizes, 2)
    [share] = shares_of(stream, ClusterConfig().read_ahead)
    for block in blocks_of(share, BLOCK):
        yield block.ids.size


class Positions(torch.utils.data.IterableDataset):
    """Blocks of every second position: the same work in torch's own way."""

    def __init__(self, sequences: Sequences) -> None:
        self.sequences = sequences

    def __iter__(self) -> Iterator[Block]:
        worker = torch.utils.data.get_worker_info()
        assert worker is not None
        position = worker.id
        while True:
            block = self.sequences.rows(Cursor(position))
            for start in range(0, len(block) - BLOCK, BLOCK):
                yield block[start : start + BLOCK].ids
            position += worker.num_workers


def loader(sequences: Sequences) -> Iterator[int]:
    """What a training loop gets from torch's DataLoader."""
    batches = torch.utils.data.DataLoader(Positions(sequences), batch_size=None, num_workers=2)
    for ids in batches:
        yield ids.numel()


def encode_units(work: tuple[Sequences, list[list[str]]]) -> tuple[float, int]:
    """Encode texts that are already here; seconds and tokens."""
    sequences, units = work
    assert isinstance(sequences.text, TokenisedText)
    begin = time.perf_counter()
    tokens = sum(
        len(ids) + 1 for texts in units for ids in sequences.text.tokenizer.encode_arrays(texts)
    )
    return time.perf_counter() - begin, tokens


def bare(sequences: Sequences) -> Rate:
    """sentencepiece alone, in as many processes."""
    assert isinstance(sequences.text, TokenisedText)
    units, data = sequences.text.units, sequences.text.data
    texts = [training_documents(units[index], data) for index in range(0, 160)]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        done = pool.map(encode_units, [(sequences, texts[0::2]), (sequences, texts[1::2])])
    return Rate(0.0, sum(tokens for _, tokens in done) / max(seconds for seconds, _ in done))


def report(results: dict[str, list[Rate]], per_token: float) -> None:
    """Print medians, and rates as shares of the others."""
    table = Table(title=f"text to rows of {CONTEXT}, blocks of {BLOCK}, median of {ROUNDS}")
    for column in ("", "MB/s", "Mtok/s", "of bare", "of DataLoader", "first block"):
        table.add_column(column, justify="left" if not column else "right")
    rates = {name: statistics.median(one.tokens for one in runs) for name, runs in results.items()}
    for name, rate in rates.items():
        start = statistics.median(one.start for one in results[name])
        shares = (
            rate / rates[other] for other in ("bare sentencepiece, 2 processes", "DataLoader(2)")
        )
        table.add_row(
            name,
            f"{rate * per_token / 1e6:.1f}",
            f"{rate / 1e6:.2f}",
            *(f"{share:.2f}" for share in shares),
            f"{start:.1f} s" if start else "",
        )
    Console().print(table)


def resumed(sequences: Sequences) -> None:
    """How soon the stream is there at 0% and at 90% of an epoch."""
    table = Table(title=f"seconds to the first block of a run that continues, median of {ROUNDS}")
    table.add_column("stopped at")
    table.add_column("seconds", justify="right")
    positions = sequences.order.positions  # type: ignore[union-attr]
    long = replace(sequences)
    for share in (0.0, 0.9):
        cursor = Cursor(int(share * positions), 100)
        starts = [timed(stream(long, cursor)).start for _ in range(ROUNDS)]
        table.add_row(f"{share:.0%}", f"{statistics.median(starts):.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()

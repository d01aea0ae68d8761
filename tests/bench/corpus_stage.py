"""The corpus stage as a whole: MB/s, by the clock and by CPU time, and memory.

Two corpora. English from Debian packages (a dictionary, WordNet, the kernel's documentation) with
the rules that are usual for it; and MULTIPLE times as much text as the object store holds, the same
documents again and again with their words in another order, so that none is a copy. Memory is the
proportional set size of this process and all that it started, Ray's included, every half second:
shared pages count once. CPU time is theirs too; Ray alone takes about a fifth of a core.
"""

import json
import os
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from llm.corpus_config import (
    CorpusConfig,
    DedupConfig,
    FilterConfig,
    GopherConfig,
    NearConfig,
    RepetitionConfig,
    SourceConfig,
)

STORE_BYTES = 80 << 20
"""Size of the small object store; Ray refuses less than 75 MiB."""

MULTIPLE = 4
EVERY = 0.5
"""Seconds between two looks at memory."""


def main() -> None:
    """Measure and print a table."""
    from tests.bench._debian import write_english

    with tempfile.TemporaryDirectory(prefix="humpty-bench-") as name:
        folder = Path(name)
        english = write_english(folder)
        large = write_large(english, folder / "large", MULTIPLE * STORE_BYTES)
        rows = {
            "English": measure(english, folder / "one", store=1 << 30),
            f"{MULTIPLE} x the object store": measure(large, folder / "two", store=STORE_BYTES),
        }
    report(rows)


def write_large(english: Path, folder: Path, least: int) -> Path:
    """The documents with their words in other orders, until there are so many bytes."""
    folder.mkdir()
    size = turn = 0
    while size < least:
        source = random.Random(turn)
        for shard in sorted(english.iterdir()):
            path = folder / f"{turn}-{shard.name}"
            with open(path, "w") as file:
                for line in shard.open():
                    words = json.loads(line)["text"].split(" ")
                    source.shuffle(words)
                    file.write(json.dumps({"text": " ".join(words)}) + "\n")
            size += path.stat().st_size
        turn += 1
    return folder


def measure(shards: Path, folder: Path, store: int) -> dict[str, Any]:
    """Make a corpus of some shards on a cluster of its own."""
    import cluster.session
    from cluster.config import ClusterConfig
    from cluster.corpus import make_corpus

    cluster.session.OBJECT_STORE_BYTES = store
    config = CorpusConfig(
        sources={"english": SourceConfig(shards=(str(shards),))},
        filter=FilterConfig(gopher=GopherConfig(), repetition=RepetitionConfig()),
        dedup=DedupConfig(near=NearConfig()),
    )
    folder.mkdir()
    cores = os.cpu_count() or 1
    with cluster.session.session(ClusterConfig(cpus_per_worker=cores, ingest_cpus=1)):
        time.sleep(5)
        with watched() as idle:
            time.sleep(3)
        with watched() as watch:
            began = time.monotonic()
            figures = make_corpus(config, folder, 1, print)
            seconds = time.monotonic() - began
    return {
        "bytes": figures["bytes"],
        "store": store,
        "seconds": seconds,
        "cpu": watch.cpu_seconds,
        "idle": idle.peak,
        "peak": watch.peak,
        "largest": watch.largest,
        "kept": figures["kept"] / figures["documents"],
    }


class Watch(threading.Thread):
    """Looks at the memory and CPU time of this process and its descendants."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.ended = threading.Event()
        self.peak = self.largest = 0
        self.last: dict[int, float] = {}
        self.look()
        self.first = dict(self.last)

    def run(self) -> None:
        """Look until told to stop."""
        while not self.ended.wait(EVERY):
            self.look()

    def look(self) -> None:
        """Take notice of what there is now."""
        sizes = []
        for pid in descendants():
            try:
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
            sizes.append(1024 * int(rollup.split("Pss:")[1].split()[0]))
            seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            self.last[pid] = seconds
        self.peak = max(self.peak, sum(sizes))
        self.largest = max(self.largest, *sizes)

    @property
    def cpu_seconds(self) -> float:
        """CPU time since the first look."""
        return sum(self.last.values()) - sum(self.first.values())


@contextmanager
def watched() -> Iterator[Watch]:
    """Watch what happens in the block."""
    watch = Watch()
    watch.start()
    try:
        yield watch
    finally:
        watch.ended.set()
        watch.join()
        watch.look()


def descendants() -> list[int]:
    """This process and all below it."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found = [os.getpid()]
    for pid in found:
        found += children.get(pid, [])
    return found


def report(rows: dict[str, dict[str, Any]]) -> None:
    """Print the table."""
    table = Table(title=f"corpus stage on {os.cpu_count()} cores: Gopher's rules, exact and near")
    columns = ("", "read", "store", "seconds", "MB/s", "per core", "kept")
    memory = ("idle", "peak", "largest process")
    for column in columns + memory:
        table.add_column(column, justify="left" if not column else "right")
    for name, row in rows.items():
        size = row["bytes"] / 1e6
        table.add_row(
            name,
            f"{size:.0f} MB",
            f"{row['store'] / 1e6:.0f} MB",
            f"{row['seconds']:.0f}",
            f"{size / row['seconds']:.1f}",
            f"{size / row['cpu']:.1f}",
            f"{row['kept']:.0%}",
            *(f"{row[key] / 1e6:,.0f} MB" for key in ("idle", "peak", "largest")),
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()

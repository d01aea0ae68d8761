"""What becomes of each document of the parts, and which shard it goes to.

A document is train or validation text unless it is a copy or above its source's cap. Who is dropped
lies in a file for each reason: the numbers of the dropped documents in rising order and,
for copies, those of the documents that stay in their place. So the fates of a part are three
look-ups, in any process, and nothing about documents that stay is kept in memory.

Shards are cut from the documents of a source in their order, each as full as fits. Where the cuts
are is known before anything is written, so any process can write any shard.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from llm.files import replacing
from llm.ledger import Ledger
from llm.parts import ROW_BITS, part_path, read_column

TRAIN, VALIDATION, EXACT, NEAR, CAP = range(5)

DROPPED = {EXACT: "exact duplicate", NEAR: "near duplicate", CAP: "cap"}
"""Reasons why a document of a part is in no shard."""

SPLITS = {TRAIN: "train", VALIDATION: "validation"}


# -- who is dropped --------------------------------------------------------------------------------


def dropped_path(folder: Path, fate: int) -> Path:
    """Documents that are dropped for one reason."""
    return folder / f"{DROPPED[fate].replace(' ', '-')}.npy"


def write_dropped(folder: Path, fate: int, documents: np.ndarray, kept: np.ndarray) -> None:
    """Put down who is dropped, and in whose favour: (D,) numbers each."""
    order = np.argsort(documents)
    with replacing(dropped_path(folder, fate)) as file:
        np.save(file, np.stack([documents[order], kept[order]]).astype(np.int64))


def read_dropped(folder: Path, fate: int) -> np.ndarray:
    """What `write_dropped` put down, if anything: (2, D), not loaded before it is looked at."""
    path = dropped_path(folder, fate)
    return np.load(path, mmap_mode="r") if path.exists() else np.empty((2, 0), np.int64)


def fates_of(folder: Path, part: int) -> np.ndarray:
    """The fates of a part's documents, as far as they are decided: (rows,) uint8."""
    fates = read_column(part_path(folder, part), "held_out").astype(np.uint8)
    for fate in DROPPED:
        documents = read_dropped(folder, fate)[0]
        first, last = np.searchsorted(documents, [part << ROW_BITS, (part + 1) << ROW_BITS])
        fates[documents[first:last] - (part << ROW_BITS)] = fate
    return fates


def staying(fates: np.ndarray) -> np.ndarray:
    """Which documents are not dropped: (rows,) bool."""
    return fates <= VALIDATION


def find_above_cap(folder: Path, parts: Iterable[int], cap: int) -> np.ndarray:
    """Numbers of a source's documents that are above its cap, copies left aside: (D,)."""
    found: list[tuple[np.ndarray, ...]] = []
    for part in parts:
        path = part_path(folder, part)
        rows = np.flatnonzero(staying(fates_of(folder, part)))
        keys, sizes = read_column(path, "key_high")[rows], read_column(path, "bytes")[rows]
        found.append(((part << ROW_BITS) + rows, keys, sizes))
    if not found:
        return np.empty(0, np.int64)
    documents, keys, sizes = (np.concatenate(column) for column in zip(*found, strict=True))
    return documents[above_cap(keys, sizes, cap)]


def above_cap(keys: np.ndarray, sizes: np.ndarray, cap: int) -> np.ndarray:
    """Which documents exceed a cap if they are taken in the order of their hashes: (D,) bool."""
    order = np.argsort(keys, kind="stable")
    above = np.empty(len(keys), bool)
    above[order] = np.cumsum(sizes[order]) > cap
    return above


# -- which shard they go to ------------------------------------------------------------------------


class Slice(NamedTuple):
    """Rows [start, stop) of a part, of which those of the shard's split are meant."""

    part: int
    start: int
    stop: int


@dataclass
class Shard:
    """A file to be written and what goes into it."""

    source: str
    fate: int
    number: int
    slices: list[Slice] = field(default_factory=list)
    documents: int = 0
    bytes: int = 0

    @property
    def split(self) -> str:
        """What it is for: train or validation."""
        return SPLITS[self.fate]

    @property
    def name(self) -> str:
        """Its path in the corpus' folder."""
        return f"{self.split}/{self.source}-{self.number:05}.parquet"


class Cutter:
    """Cuts one split of a source into shards of at most `limit` bytes, or of one document."""

    def __init__(self, source: str, fate: int, limit: int) -> None:
        self.source, self.fate, self.limit = source, fate, limit
        self.shards: list[Shard] = []

    def add(self, part: int, fates: np.ndarray, sizes: np.ndarray) -> None:
        """Append a part's documents of this split."""
        rows = np.flatnonzero(fates == self.fate)
        ends = np.cumsum(sizes[rows])
        done = 0
        while done < len(rows):
            before = int(ends[done - 1]) if done else 0
            shard = self.shards[-1] if self.shards else self.open()
            fit = int(np.searchsorted(ends, before + self.limit - shard.bytes, side="right"))
            if fit <= done and shard.documents:
                self.open()
                continue
            stop = max(fit, done + 1)
            shard.slices.append(Slice(part, int(rows[done]), int(rows[stop - 1]) + 1))
            shard.documents += stop - done
            shard.bytes += int(ends[stop - 1]) - before
            done = stop

    def open(self) -> Shard:
        """Begin the next shard."""
        self.shards.append(Shard(self.source, self.fate, len(self.shards)))
        return self.shards[-1]


def settle(
    folder: Path, source: str, parts: Iterable[int], limit: int, ledger: Ledger
) -> Iterator[Shard]:
    """The shards of one source, after all its documents have been entered into its ledger."""
    cutters = [Cutter(source, fate, limit) for fate in SPLITS]
    for part in parts:
        fates, sizes = fates_of(folder, part), read_column(part_path(folder, part), "bytes")
        enter(ledger, fates, sizes)
        for cutter in cutters:
            cutter.add(part, fates, sizes)
    ledger.check()
    for cutter in cutters:
        yield from cutter.shards


def enter(ledger: Ledger, fates: np.ndarray, sizes: np.ndarray) -> None:
    """Count the documents of a part by their fates."""
    documents = np.bincount(fates, minlength=len(SPLITS) + len(DROPPED)).tolist()
    bytes = [int(sizes[fates == fate].sum()) for fate in range(len(documents))]
    ledger.train.add(bytes[TRAIN], documents[TRAIN])
    ledger.validation.add(bytes[VALIDATION], documents[VALIDATION])
    for fate, reason in DROPPED.items():
        ledger.drop(reason, bytes[fate], documents[fate])

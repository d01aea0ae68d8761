"""Copies across all sources, found by shuffles of hashes; who is dropped goes to a file.

    keys of documents  -> shuffle by key  -> all but the first of equal ones are exact copies
    bands of the rest  -> shuffle by band -> pairs that agree in a band are candidates
    texts of candidates -> shuffle by group of pairs -> pairs that are alike are near copies

Of documents that are alike, directly or through others, the first in the corpus' order stays. This
process holds the pairs, 16 bytes each, never a text or a signature; pairs are compared in groups
whose texts fit into memory, however many documents hang together.
"""

import pickle
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from cluster.datasets import by_key, joined, shuffle
from llm.corpus_config import DedupConfig, NearConfig
from llm.duplicates import Signer, alike, bucket_edges, components, unique_edges
from llm.fates import EXACT, NEAR, dropped_path, fates_of, staying, write_dropped
from llm.files import replacing
from llm.parts import (
    ROW_BITS,
    part_path,
    read_batches,
    read_column,
    read_groups,
)

BUCKET_BYTES = 8 << 20
"""Entries of a bucket, on average."""

GROUP_BYTES = 16 << 20
"""Texts that are compared together."""

PENDING = 1 << 20
"""Pairs that are gathered at least before repetitions among them are removed."""

Say = Callable[[str], None]
Payloads = Iterable[tuple[int, bytes]]


@dataclass(frozen=True)
class Parts:
    """The parts of a corpus, and the documents in each."""

    folder: Path
    rows: list[int]

    def __len__(self) -> int:
        return len(self.rows)

    def buckets(self, entries: int, width: int) -> int:
        """Buckets for so many entries of a document, each of `width` numbers."""
        return -(-sum(self.rows) * entries * width * 8 // BUCKET_BYTES) or 1


def find_copies(parts: Parts, config: DedupConfig, say: Say) -> None:
    """Put down all copies that are to be dropped; what is put down already is not found again."""
    if config.exact and not dropped_path(parts.folder, EXACT).exists():
        say(f"looking for exact duplicates among {sum(parts.rows):,} documents")
        find_exact(parts, say)
    if config.near is not None and not dropped_path(parts.folder, NEAR).exists():
        say("looking for near duplicates")
        find_near(parts, config.near, say)


# -- exact copies ----------------------------------------------------------------------------------


def find_exact(parts: Parts, say: Say) -> None:
    """Shuffle keys; of documents with equal ones the first stays."""
    buckets = parts.buckets(entries=1, width=3)
    emit = partial(keys_of, parts.folder, buckets=buckets)
    pairs = [found for _, found in shuffle(len(parts), buckets, emit, copies_in)]
    dropped, kept = np.concatenate([np.empty((0, 2), np.int64), *pairs]).T
    write_dropped(parts.folder, EXACT, dropped, kept)
    say(f"found exact duplicates: {len(dropped):,}")


def keys_of(folder: Path, part: int, buckets: int) -> Iterator[Payloads]:
    """A part's entries (high half of the key, low half, document)."""
    start = part << ROW_BITS
    for high, low in read_batches(part_path(folder, part), ["key_high", "key_low"]):
        documents = np.arange(start, start + len(high), dtype=np.uint64)
        yield by_key(np.stack([high, low, documents], axis=1), buckets)
        start += len(high)


def copies_in(_: int, payloads: list[bytes]) -> np.ndarray:
    """Documents whose key another one before them has, and the first that has it: (D, 2)."""
    entries = joined(payloads, width=3)
    high, low, documents = entries[np.lexsort(entries.T[::-1])].T
    again = np.zeros(len(documents), bool)
    again[1:] = (high[1:] == high[:-1]) & (low[1:] == low[:-1])
    first = documents[np.maximum.accumulate(np.where(again, 0, np.arange(len(documents))))]
    return np.stack([documents[again], first[again]], axis=1).astype(np.int64)


# -- near copies -----------------------------------------------------------------------------------


def find_near(parts: Parts, config: NearConfig, say: Say) -> None:
    """Candidates, then those of them that are alike, then all but the first that hang together."""
    candidates = candidate_pairs(parts, config)
    say(f"comparing {len(candidates):,} pairs of documents")
    documents, first = components(compared(parts, config, candidates))
    copy = documents != first
    write_dropped(parts.folder, NEAR, documents[copy], first[copy])
    say(f"found near duplicates: {copy.sum():,}")


def candidate_pairs(parts: Parts, config: NearConfig) -> np.ndarray:
    """Pairs of documents that agree in a band, each once, sorted: (E, 2) int64."""
    buckets = parts.buckets(entries=config.bands, width=2)
    emit = partial(bands_of, parts.folder, buckets=buckets)
    pairs = np.empty((0, 2), np.int64)
    pending: list[np.ndarray] = []
    for _, found in shuffle(len(parts), buckets, emit, pairs_in):
        pending.append(found)
        if sum(map(len, pending)) > max(PENDING, len(pairs)):
            pairs, pending = unique_edges(np.concatenate([pairs, *pending])), []
    return unique_edges(np.concatenate([pairs, *pending]))


def bands_of(folder: Path, part: int, buckets: int) -> Iterator[Payloads]:
    """A part's entries (band's key, document), without those of exact copies."""
    stays = staying(fates_of(folder, part))
    start = 0
    for (bands,) in read_batches(part_path(folder, part), ["bands"]):
        rows = np.flatnonzero(stays[start : start + len(bands)])
        documents = ((part << ROW_BITS) + start + rows).astype(np.uint64)
        keys = bands[rows]
        yield by_key(np.stack([keys.ravel(), np.repeat(documents, keys.shape[1])], axis=1), buckets)
        start += len(bands)


def pairs_in(_: int, payloads: list[bytes]) -> np.ndarray:
    """Pairs of documents with equal keys: (E, 2) int64."""
    keys, documents = joined(payloads, width=2).T
    return bucket_edges(keys, documents.astype(np.int64))


# -- comparing candidates --------------------------------------------------------------------------


@dataclass(frozen=True)
class Groups:
    """Pairs cut into groups of bounded text, in files, since every task needs a few of them.

    pairs: (E, 2) in the order of groups; ends: (G + 1,) where groups begin and end in it;
    readers: (2, R) documents and the groups that need them, by document.
    """

    folder: Path

    def write(self, pairs: np.ndarray, ends: np.ndarray) -> None:
        """Put the groups down."""
        group = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
        readers = np.stack([pairs.ravel(), np.repeat(group, 2)], axis=1)
        for name, array in (
            ("pairs", pairs), ("ends", ends), ("readers", np.unique(readers, axis=0).T.copy())
        ):  # fmt: skip
            with replacing(self.folder / f"{name}.npy") as file:
                np.save(file, array)

    def read(self, name: str) -> np.ndarray:
        """One of the arrays; only what is looked at is loaded."""
        return np.load(self.folder / f"{name}.npy", mmap_mode="r")


def compared(parts: Parts, config: NearConfig, pairs: np.ndarray) -> np.ndarray:
    """Those of the pairs that are alike: (E, 2)."""
    if not len(pairs):
        return pairs
    groups = Groups(parts.folder)
    pairs, ends = grouped(pairs, sizes_of(parts, pairs))
    groups.write(pairs, ends)
    emit = partial(texts_of, groups)
    reduce = partial(alike_in, groups, config=config)
    return np.concatenate([found for _, found in shuffle(len(parts), len(ends) - 1, emit, reduce)])


def sizes_of(parts: Parts, pairs: np.ndarray) -> np.ndarray:
    """Bytes of the documents of pairs: (E, 2)."""
    documents, places = np.unique(pairs, return_inverse=True)
    sizes = np.empty(len(documents), np.int64)
    begins = np.searchsorted(documents, np.arange(len(parts) + 1) << ROW_BITS)
    for part in np.flatnonzero(np.diff(begins)).tolist():
        here = slice(begins[part], begins[part + 1])
        sizes[here] = read_column(part_path(parts.folder, part), "bytes")[
            documents[here] - (part << ROW_BITS)
        ]
    return sizes[places].reshape(-1, 2)


def grouped(pairs: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs in an order in which neighbours share documents, and where to cut it: (G + 1,).

    What hangs together is neighbouring; a document that the pair before has too is counted once.
    """
    documents, roots = components(pairs)
    root = roots[np.searchsorted(documents, pairs[:, 0])]
    order = np.lexsort((pairs[:, 1], pairs[:, 0], root))
    pairs, sizes = pairs[order], sizes[order]
    fresh = np.append(True, pairs[1:, 0] != pairs[:-1, 0])
    text = np.cumsum(sizes[:, 1] + fresh * sizes[:, 0])
    cuts = np.flatnonzero(np.diff(text // GROUP_BYTES)) + 1
    return pairs, np.concatenate([[0], cuts, [len(pairs)]])


def texts_of(groups: Groups, part: int) -> Iterator[Payloads]:
    """This part's documents with their texts, for each group that needs them."""
    begin = part << ROW_BITS
    documents, needed_by = groups.read("readers")
    first, last = np.searchsorted(documents, [begin, begin + (1 << ROW_BITS)])
    documents, needed_by = np.array(documents[first:last]), np.array(needed_by[first:last])
    own = np.unique(documents)
    wanted = np.zeros(own[-1] - begin + 1 if len(own) else 0, bool)
    wanted[own - begin] = True
    done = 0
    for table in read_groups(part_path(groups.folder, part), wanted, ["text"]):
        here = own[done : done + len(table)].tolist()
        done += len(table)
        edges = np.searchsorted(documents, [here[0], here[-1] + 1])
        texts = dict(zip(here, table["text"].to_pylist(), strict=True))
        wishes = zip(*(a[slice(*edges)].tolist() for a in (documents, needed_by)), strict=True)
        yield [(group, pickle.dumps((document, texts[document]))) for document, group in wishes]


def alike_in(groups: Groups, group: int, payloads: list[bytes], config: NearConfig) -> np.ndarray:
    """The pairs of a group whose documents are alike: (E, 2)."""
    signer = Signer(config)
    documents, texts = zip(*map(pickle.loads, payloads), strict=True)
    shingles = [signer.shingles(text) for text in texts]
    first, last = groups.read("ends")[group : group + 2]
    pairs = np.array(groups.read("pairs")[first:last])
    return alike(pairs, np.array(documents), shingles, config.threshold)

"""Which documents are copies: exact by a hash, near by MinHash and the Jaccard similarity.

A document is the set of its word n-grams, hashed ("shingles"). Two sets are alike to the degree
|A and B| / |A or B|; the share of permutations under which both have the same smallest member is an
unbiased estimate of it (Broder 1997). A signature of such members is cut into bands; documents
that agree in all of a band are candidates (1 - (1 - s^rows)^bands of the pairs of similarity s),
and candidates are compared exactly, so a document is never dropped by an estimate. With 16 bands of
7 rows 97.7% of the pairs at 0.8 become candidates, and 12% of those at 0.5 cost a comparison.

Everything works on arrays over many documents; the tables go through Ray Data in cluster/.
"""

from collections.abc import Sequence
from hashlib import blake2b
from itertools import pairwise

import numpy as np

from llm.corpus_config import NearConfig
from llm.splitmix import mix, random_numbers
from llm.words import (
    ALONE,
    SYMBOL,
    characters,
    find_words,
    ngram_hashes,
    normal,
)

BATCH = 1 << 18
"""Characters that are signed together: numpy's cost of a call is spread over many short texts."""

SMALL_BUCKET = 8
"""In buckets up to this size all pairs are candidates."""


def exact_key(text: str) -> tuple[int, int]:
    """128 bits that two texts share if only case, white space, punctuation and form differ."""
    folded = letters_only(normal(text))
    data, purpose = (folded.encode(), b"") if folded else (text.encode(), b"no letters")
    digest = blake2b(data, digest_size=16, person=purpose).digest()
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")


def letters_only(text: str) -> str:
    """Letters, marks and digits, with a space between words of scripts that have spaces."""
    codes, kinds = characters(text)
    inside = np.flatnonzero(kinds > SYMBOL)
    codes, spaced = codes[inside], kinds[inside] != ALONE
    gaps = (np.diff(inside) > 1) & spaced[1:] & spaced[:-1]
    codes = np.insert(codes, np.flatnonzero(gaps) + 1, ord(" ")).astype(np.uint32)
    return codes.tobytes().decode("utf-32-le", "surrogatepass")


class Signer:
    """Shingles and band keys of documents; the same for the same config, wherever it runs."""

    def __init__(self, config: NearConfig) -> None:
        assert config.permutations % config.bands == 0
        self.ngram = config.ngram
        self.bands_count = config.bands
        self.rows = config.permutations // config.bands
        salt = (config.seed + (1 << 32)) % (1 << 64)  # small ones are those of other hashes
        numbers = random_numbers(2 * self.bands_count * self.rows, salt)
        factors, terms = (numbers >> np.uint64(32)).astype(np.uint32).reshape(2, -1)
        self.factors, self.terms = factors | np.uint32(1), terms

    def shingles(self, text: str) -> np.ndarray:
        """The set of hashed n-grams, sorted, never empty: (S,) uint64."""
        ngrams = np.sort(self.ngrams([text])[0])  # np.unique of numpy 2.4 takes four times as long
        return ngrams[np.append(True, ngrams[1:] != ngrams[:-1])]

    def ngrams(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Hashed n-grams of all texts and where each text's begin: (G,) uint64, (N,).

        A text with fewer than n words has one, of all its words; one without words, of itself.
        """
        words, first, count = words_of(texts)
        runs = np.maximum(count - self.ngram + 1, 1)
        starts = np.cumsum(runs) - runs
        at = np.arange(runs.sum()) + np.repeat(first - starts, runs)
        short = np.flatnonzero(count < self.ngram)
        at[starts[short]] = 0
        hashes = ngram_hashes(np.pad(words, (0, self.ngram)), self.ngram)[at]
        for i in short.tolist():
            own = words[first[i] : first[i] + count[i]]
            hashes[starts[i]] = ngram_hashes(own, len(own))[0] if len(own) else raw_hash(texts[i])
        return hashes, starts

    def bands(self, texts: Sequence[str]) -> np.ndarray:
        """Keys of all bands, equal for documents that agree in a band: (N, bands) uint64."""
        return band_keys(self.signatures(texts), self.bands_count)

    def signatures(self, texts: Sequence[str]) -> np.ndarray:
        """Smallest member of each document's set under each permutation: (N, permutations)."""
        parts = [self.signed(batch) for batch in batches(texts)]
        return np.concatenate(parts) if parts else np.empty((0, len(self.factors)), np.uint32)

    def signed(self, texts: Sequence[str]) -> np.ndarray:
        """Signatures of a batch: permutations are a x + b modulo 2^32 with odd a."""
        ngrams, starts = self.ngrams(texts)
        members = (ngrams >> np.uint64(32)).astype(np.uint32)
        signatures = np.empty((len(self.factors), len(texts)), np.uint32)
        permuted = np.empty_like(members)
        for factor, term, smallest in zip(self.factors, self.terms, signatures, strict=True):
            np.multiply(members, factor, out=permuted)
            np.add(permuted, term, out=permuted)
            np.minimum.reduceat(permuted, starts, out=smallest)
        return signatures.T


def words_of(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hashes of all texts' words (W,), and each text's first one and how many it has: (N,)."""
    normals = [normal(text) for text in texts]
    words = find_words("\n".join(normals))
    ends = np.cumsum([len(text) + 1 for text in normals])
    last = np.searchsorted(words.starts, ends)
    first = np.append(0, last[:-1])
    return words.hashes, first, last - first


def raw_hash(text: str) -> int:
    """64 bits of a text as it is."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def batches(texts: Sequence[str]) -> list[Sequence[str]]:
    """Texts in runs of about BATCH characters."""
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    cuts = np.flatnonzero(np.diff(ends // BATCH)) + 1
    edges = [0, *cuts.tolist(), len(texts)]
    return [texts[a:b] for a, b in pairwise(edges) if a < b]


def band_keys(signatures: np.ndarray, bands: int) -> np.ndarray:
    """Each band's members and number as one hash: (N, permutations) -> (N, bands) uint64."""
    rows = signatures.reshape(len(signatures), bands, signatures.shape[1] // bands)
    factors = random_numbers(rows.shape[2], salt=2) | np.uint64(1)
    keys = np.repeat(random_numbers(bands, salt=3)[None], len(rows), axis=0)
    for row, factor in enumerate(factors):
        keys += rows[:, :, row] * factor
    return mix(keys)


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Similarity of two sets, given as sorted arrays without repetitions."""
    small, large = (a, b) if len(a) < len(b) else (b, a)
    if not len(small):
        return 0.0
    places = np.searchsorted(large, small)
    places[places == len(large)] = 0
    common = np.count_nonzero(large[places] == small)
    return common / (len(a) + len(b) - common)


def bucket_edges(keys: np.ndarray, docs: np.ndarray) -> np.ndarray:
    """Pairs of documents with equal keys, smaller first, sorted, each once: (E, 2) int64.

    All pairs of up to 8 documents. In a larger bucket each document is paired with the smallest and
    with the one before it: a bucket of a million copies costs two million comparisons.
    """
    order = np.lexsort((docs, keys))
    keys, docs = keys[order], docs[order]
    _, begins, sizes = np.unique(keys, return_index=True, return_counts=True)
    size, first = np.repeat(sizes, sizes), np.repeat(begins, sizes)
    large = size > SMALL_BUCKET
    pairs = [np.stack([docs[first[large]], docs[large]], axis=1)]
    for step in range(1, SMALL_BUCKET):
        alike = keys[step:] == keys[:-step]
        at = np.flatnonzero(alike if step == 1 else alike & ~large[step:])
        pairs.append(np.stack([docs[at], docs[at + step]], axis=1))
    return unique_edges(np.concatenate(pairs))


def unique_edges(edges: np.ndarray) -> np.ndarray:
    """Edges in rising order, each once, without those of a document with itself."""
    edges = edges[edges[:, 0] != edges[:, 1]]
    edges = edges[np.lexsort((edges[:, 1], edges[:, 0]))]
    fresh = np.ones(len(edges), bool)
    fresh[1:] = (edges[1:] != edges[:-1]).any(axis=1)
    return edges[fresh]


def components(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Documents of a graph in rising order, and the smallest that each is connected with.

    Every document points at a smaller one of its component or itself. Each round lets the documents
    that the two ends of an edge point at point at the smaller of these, then shortens all paths;
    the number of rounds grows with the logarithm of the longest path.
    """
    docs, places = np.unique(edges, return_inverse=True)
    one, two = places.reshape(-1, 2).T
    parent = np.arange(len(docs))
    while True:
        above, below = parent[one], parent[two]
        if (above == below).all():
            return docs, docs[parent]
        low = np.minimum(above, below)
        np.minimum.at(parent, np.maximum(above, below), low)
        while ((grand := parent[parent]) != parent).any():
            parent = grand


def alike(
    edges: np.ndarray, docs: np.ndarray, shingles: Sequence[np.ndarray], threshold: float
) -> np.ndarray:
    """Edges between documents of at least this similarity: (E, 2) int64, in the order given.

    docs: (D,) with their shingles; every end of an edge must be among them.
    """
    docs, edges = np.asarray(docs, np.int64), np.asarray(edges, np.int64).reshape(-1, 2)
    order = np.argsort(docs)
    ends = order[np.searchsorted(docs, edges, sorter=order)]
    assert (docs[ends] == edges).all(), "an edge whose document has no shingles"
    sizes = np.array([len(part) for part in shingles], np.int64)[ends]
    possible = np.flatnonzero(sizes.min(axis=1) >= threshold * sizes.max(axis=1)).tolist()
    verified = [i for i in possible if jaccard(*(shingles[end] for end in ends[i])) >= threshold]
    return edges[verified]

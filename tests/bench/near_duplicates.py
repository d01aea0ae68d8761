"""Recall, precision and speed of near-duplicate detection, against datasketch's MinHashLSH.

A made set (tests/near_set.py): families of a text and copies with 1 to 60 edits, so that similarity
goes from 1 down to 0.2, and passages quoted across families. A pair is a duplicate if its
similarity, worked out from python's sets of words, is 0.8 at least. datasketch gets the same
shingles and as many permutations, and either chooses its bands for the threshold or gets ours and
has its candidates compared exactly. `0.82 on`: recall from there to the next.
"""

import time
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table

from llm.corpus_config import NearConfig
from tests.near_set import Pairs, made_set, shingles, truth

FAMILIES = 600
SWEEP = [1, 2, 4, 6, 8, 9, 10, 11, 12, 13, 14, 16, 20, 30, 60]
THRESHOLD = 0.8
NEAR = NearConfig(threshold=THRESHOLD)

BINS = ((0.8, 0.82), (0.82, 0.85), (0.85, 0.9), (0.9, 1.01))

Found = set[tuple[int, int]]


def main() -> None:
    """Find the duplicates in three ways and print a table."""
    texts, family = made_set(FAMILIES, SWEEP, seed=1)
    true = truth(texts, family)
    methods: dict[str, Callable[[list[str]], Found]] = {
        "ours": ours,
        "datasketch": lambda texts: datasketch(texts, None),
        "our bands": verified_datasketch,
    }
    size = sum(map(len, texts)) / 1e6
    table = Table(title=f"{len(texts):,} documents, {size:.0f} MB, duplicates from {THRESHOLD} on")
    columns = ["", "MB/s", "precision", "recall"]
    for column in [*columns, *(f"{low} on" for low, _ in BINS)]:
        table.add_column(column, justify="left" if not column else "right")
    for name, method in methods.items():
        start = time.perf_counter()
        found = method(texts)
        seconds = time.perf_counter() - start
        table.add_row(name, f"{size / seconds:.2f}", *scores(found, true))
    Console().print(table)


def scores(found: Found, true: Pairs) -> list[str]:
    """Precision, recall, and recall in each range of similarity."""
    wanted = {pair for pair, similarity in true.items() if similarity >= THRESHOLD}
    ranges = [{pair for pair in wanted if low <= true[pair] < high} for low, high in BINS]
    precision = len(found & wanted) / len(found)
    recalls = [len(found & part) / len(part) for part in (wanted, *ranges)]
    return [f"{precision:.2%}", *(f"{recall:.2%}" for recall in recalls)]


def ours(texts: list[str]) -> Found:
    """Candidates of equal band keys, compared exactly."""
    from llm.duplicates import Signer, bucket_edges, jaccard

    signer = Signer(NEAR)
    keys = signer.bands(texts)
    edges = bucket_edges(keys.ravel(), np.repeat(np.arange(len(texts)), NEAR.bands))
    sets = {int(doc): signer.shingles(texts[doc]) for doc in np.unique(edges)}
    return {(a, b) for a, b in edges.tolist() if jaccard(sets[a], sets[b]) >= THRESHOLD}


def datasketch(texts: list[str], bands: tuple[int, int] | None) -> Found:
    """Candidates of datasketch, with so many bands and rows or its own choice."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=THRESHOLD, num_perm=NEAR.permutations, params=bands)
    found: Found = set()
    for number, text in enumerate(texts):
        sketch = MinHash(num_perm=NEAR.permutations, seed=1)
        sketch.update_batch([" ".join(shingle).encode() for shingle in shingles(text)])
        found |= {(other, number) for other in index.query(sketch)}
        index.insert(number, sketch)
    return found


def verified_datasketch(texts: list[str]) -> Found:
    """Its candidates, compared exactly."""
    sets = [shingles(text) for text in texts]
    return {
        (a, b)
        for a, b in datasketch(texts, (NEAR.bands, NEAR.permutations // NEAR.bands))
        if len(sets[a] & sets[b]) >= THRESHOLD * len(sets[a] | sets[b])
    }


if __name__ == "__main__":
    main()

"""Whether a document contains parts of an evaluation set: shared runs of words (Brown et al. 2020).

The set's runs of n words are kept as sorted 64-bit hashes. An evaluation text with fewer than n
words counts as one run if it has 8 at least; a shorter one says nothing ("yes", "the second one").
A document is looked up in a small table of bits first: of one that shares nothing, hardly a run is
then searched for.
"""

from collections.abc import Iterable

import numpy as np

from llm.words import find_words, ngram_hashes, normal

SHORTEST = 8
"""Words of an evaluation text that is worth looking for as a whole."""

TABLE_BITS = 20


class Grams:
    """The runs of words of evaluation texts: by their length, sorted hashes, uint64."""

    def __init__(self, texts: Iterable[str], ngram: int) -> None:
        found: dict[int, list[np.ndarray]] = {}
        for text in texts:
            words = find_words(normal(text)).hashes
            length = min(ngram, len(words))
            if length >= min(ngram, SHORTEST):
                found.setdefault(length, []).append(ngram_hashes(words, length))
        self.hashes = {
            length: np.unique(np.concatenate(parts)) for length, parts in sorted(found.items())
        }
        self.table = np.zeros(1 << TABLE_BITS, bool)
        for hashes in self.hashes.values():
            self.table[short(hashes)] = True

    def __len__(self) -> int:
        return sum(map(len, self.hashes.values()))

    def hits(self, text: str) -> bool:
        """Whether the text shares a run of words with an evaluation text."""
        words = find_words(normal(text)).hashes
        return any(
            self.contains(ngram_hashes(words, length), known)
            for length, known in self.hashes.items()
        )

    def contains(self, hashes: np.ndarray, known: np.ndarray) -> bool:
        """Whether one of `hashes` is in the sorted array `known`."""
        hashes = hashes[self.table[short(hashes)]]
        places = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
        return bool((known[places] == hashes).any())


def short(hashes: np.ndarray) -> np.ndarray:
    """The first bits of hashes: places in the table."""
    return hashes >> np.uint64(64 - TABLE_BITS)

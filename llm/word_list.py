"""A list of unwanted words and phrases, found by the hashes of words as `llm.words` splits them.

Only letters and digits count: "Big-Deal!" is found by "big deal". Chinese entries are found as
characters in a row.
"""

import numpy as np

from llm.errors import DataError
from llm.filesystem import open_file
from llm.words import find_words, ngram_hashes, normal


class WordList:
    """Phrases by their number of words, as sorted hashes."""

    def __init__(self, phrases: list[str]) -> None:
        found: dict[int, set[int]] = {}
        for phrase in phrases:
            words = find_words(normal(phrase)).hashes
            if length := len(words):
                found.setdefault(length, set()).add(int(ngram_hashes(words, length)[0]))
        self.hashes = {
            length: np.array(sorted(group), np.uint64) for length, group in sorted(found.items())
        }

    def count(self, text: str) -> int:
        """How often any of the phrases stands in a text."""
        words = find_words(normal(text)).hashes
        total = 0
        for length, known in self.hashes.items():
            runs = ngram_hashes(words, length)
            places = np.minimum(np.searchsorted(known, runs), len(known) - 1)
            total += int(np.count_nonzero(known[places] == runs))
        return total


def read_word_list(path: str, key: str = "filter.words.file") -> WordList:
    """The phrases of a UTF-8 file, one a line; `key` of a spec names it."""
    try:
        with open_file(path) as file:
            words = WordList(file.read().decode("utf-8-sig").splitlines())
    except UnicodeDecodeError as error:
        raise DataError(
            f"{key}: {path} is not UTF-8 ({error.reason} at byte {error.start}); convert it: iconv"
        ) from error
    except OSError as error:
        raise DataError(
            f"{key}: {path} cannot be read: {error}; name a file with one word or phrase a line"
        ) from error
    if not words.hashes:
        raise DataError(f"{key}: {path} has no word in it; write one word or phrase a line")
    return words

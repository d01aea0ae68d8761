"""A text as filters look at it: lines, and tokens in numpy arrays, each taken apart once.

A token is a word or a sign, which may be repeated (-----); an apostrophe between letters belongs to
the word. Rules that speak of words mean tokens with a letter or digit.
"""

from functools import cached_property
from typing import NamedTuple

import numpy as np

from llm.words import ALONE, DIGIT, LETTER, SPACE, SYMBOL, characters, hash_spans, spans

APOSTROPHES = (0x27, 0x2019)


class Tokens(NamedTuple):
    """Tokens in the order of the text: (T,) each."""

    starts: np.ndarray
    ends: np.ndarray
    words: np.ndarray
    """bool: which of them have a letter or digit."""

    @property
    def lengths(self) -> np.ndarray:
        """Characters of each."""
        return self.ends - self.starts


class View:
    """One text; what is asked for is worked out once."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def lines(self) -> list[str]:
        """Lines with something on them, without white space around it."""
        return [line for line in map(str.strip, self.text.splitlines()) if line]

    @cached_property
    def characters(self) -> tuple[np.ndarray, np.ndarray]:
        """Code points and kinds, apostrophes inside words being letters: (C,) each."""
        codes, kinds = characters(self.text)
        one, two = APOSTROPHES
        marks = np.flatnonzero((codes == one) | (codes == two))
        marks = marks[(marks > 0) & (marks < len(codes) - 1)]
        inner = marks[(kinds[marks - 1] > SYMBOL) & (kinds[marks + 1] > SYMBOL)]
        if len(inner):
            kinds = kinds.copy()
            kinds[inner] = LETTER
        return codes, kinds

    @cached_property
    def tokens(self) -> Tokens:
        """Words, and signs as often as they are repeated."""
        codes, kinds = self.characters
        runs = (kinds == LETTER) | (kinds == DIGIT)
        same = (kinds[1:] == SYMBOL) & (codes[1:] == codes[:-1])
        starts, ends = spans(kinds != SPACE, (runs[1:] & runs[:-1]) | same)
        return Tokens(starts, ends, kinds[starts] > SYMBOL)

    @cached_property
    def hashes(self) -> np.ndarray:
        """A hash of each token: (T,) uint64."""
        return hash_spans(self.characters[0], self.tokens.starts, self.tokens.ends)

    @cached_property
    def word_count(self) -> int:
        """Tokens with a letter or digit."""
        return int(np.count_nonzero(self.tokens.words))

    @cached_property
    def word_length(self) -> float:
        """Mean length of words in characters; 0 without words."""
        words = self.tokens.lengths[self.tokens.words]
        return float(words.mean()) if len(words) else 0.0

    @cached_property
    def alphabetic_share(self) -> float:
        """Share with a letter of what stands between white space; 0 of nothing."""
        _, kinds = self.characters
        inside = kinds != SPACE
        starts, ends = spans(inside, inside[1:] & inside[:-1])
        letters = np.append(0, np.cumsum((kinds == LETTER) | (kinds == ALONE), dtype=np.int32))
        return float((letters[ends] > letters[starts]).mean()) if len(starts) else 0.0

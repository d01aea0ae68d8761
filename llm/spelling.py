"""Words to be given back: what an autoencoder learns from.

A row's words are its runs of letters, digits and underscores, each once, so that `the` counts no
more than others; a word that a row's border cuts counts as what is left of it. The tokenizer is one
of characters, so a word is encoded and given back letter by letter; an end of text ends it.
A row without a word stands for the empty word: every batch has something to learn.

C tokens of a row.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from llm.batch import RowsPortion
from llm.pairs import Pairs, stacked
from llm.tokenizer import Tokenizer

LONGEST = 31
"""Letters of a word that are encoded together; a row of a batch is as long as its longest word."""


def letters(tokenizer: Tokenizer) -> np.ndarray:
    """Which tokens belong into words: (V,) bool."""
    return np.array([is_word(piece) for piece in tokenizer.plain_pieces()])


def is_word(piece: str) -> bool:
    """Whether it is made of letters, digits and underscores."""
    return piece.replace("_", "a").isalnum()


def words_in(ids: np.ndarray, letters: np.ndarray, context: int) -> Iterator[tuple[int, ...]]:
    """The words of a row (C,), in order; of longer ones than fit with their end, parts that do."""
    longest = min(LONGEST, context - 1)
    inside = np.concatenate(([False], letters[np.maximum(ids, 0)] & (ids >= 0), [False]))
    starts, ends = np.flatnonzero(np.diff(inside.astype(np.int8))).reshape(-1, 2).T
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        for at in range(start, end, longest):
            yield tuple(ids[at : min(at + longest, end)].tolist())


def word_pairs(words: list[tuple[int, ...]], eos: int, context: int) -> Pairs:
    """Words to be read, an end of text behind them, and to be written likewise."""
    ended = [np.array([*word, eos]) for word in words]
    return stacked([(one, one) for one in ended], eos, context)


@dataclass(frozen=True)
class Words(RowsPortion):
    """A block of text whose words a model gives back."""

    eos: int
    letters: np.ndarray

    @cached_property
    def pairs(self) -> Pairs:
        """Each word, to read and to write."""
        context = self.block.ids.shape[1] - 1
        rows = [words_in(ids[1:], self.letters, context) for ids in self.block.ids]
        words = [word for row in rows for word in (list(dict.fromkeys(row)) or [()])]
        return word_pairs(words, self.eos, context)

    @property
    def weight(self) -> float:
        """Every letter and every end weighs the same."""
        return self.pairs.count

    def arguments(self, device: torch.device, step: int) -> dict[str, Any]:
        """What `EncoderDecoder.forward` makes a loss of."""
        return self.pairs.arguments(device)

"""Corrupted spans, as T5 learns from them (Raffel et al. 2020, 3.1.4).

15% of a row's tokens go, in spans of 3 on average, and a sentinel stands for each of them. A model
that sees the rest writes every sentinel and what stood there, and one more sentinel at the end:

    the king sat on the wall ->  the <0> on the <1>   and   <0> king sat <1> wall <2>

Spans are drawn as T5 draws them (seqio's random_spans_noise_mask, the row being rotated by a drawn
number so that its end is no likelier to go than the rest). Like masks (llm/masking.py), they
follow from the seed and a row's place alone; for sentinels see llm/hidden.py.

C tokens of a row, Q rows of a block.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from llm.batch import RowsPortion
from llm.hidden import spans_of
from llm.masking import uniform
from llm.packing import PAD
from llm.pairs import Pairs, stacked

DRAW = 4
"""Tells these draws from others with the same seed and position."""


def lost_tokens(length: int, key: tuple[int, ...]) -> np.ndarray:
    """Which tokens of a text go: (length,) bool."""
    if length < 2:
        return np.ones(length, bool)
    lost, spans = spans_of(length)
    draws = uniform((3, length), *key)
    stay, go = segments(length - lost, spans, draws[0]), segments(lost, spans, draws[1])
    lengths = np.stack((stay, go), axis=1).ravel()
    mask = np.repeat(np.arange(2 * spans) % 2 == 1, lengths)
    return np.roll(mask, int(draws[2, 0] * length))


def segments(total: int, parts: int, draws: np.ndarray) -> np.ndarray:
    """Lengths, at least 1 each, of so many parts of a total; all ways are equally likely."""
    cuts = np.sort(np.argsort(draws[: total - 1], kind="stable")[: parts - 1]) + 1
    return np.diff(cuts, prepend=0, append=total)


def corrupt(ids: np.ndarray, lost: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
    """What is left of a text, and what is to be written; the first sentinel has the id `first`."""
    begins = lost & ~np.concatenate(([False], lost[:-1]))
    marks = first + np.cumsum(begins) - 1
    left = np.where(lost, marks, ids)[~lost | begins]
    written: list[int] = []
    for at in np.flatnonzero(lost):
        written += [int(marks[at])] * bool(begins[at]) + [int(ids[at])]
    return left, np.array([*written, first + int(begins.sum())], ids.dtype)


def restore(left: Sequence[int], written: Sequence[int], first: int) -> list[int]:
    """The text again, of what was left of it and what was written for its gaps."""
    gaps = gaps_in(written, first)
    return [
        token
        for shown in left
        for token in (gaps.get(shown - first, []) if shown >= first else [shown])
    ]


def gaps_in(written: Sequence[int], first: int) -> dict[int, list[int]]:
    """What was written behind each sentinel; behind one that stands twice what came first."""
    gaps: dict[int, list[int]] = {}
    here: list[int] = []
    for token in written:
        if token >= first:
            here = []
            gaps.setdefault(token - first, here)
        else:
            here.append(token)
    return gaps


@dataclass(frozen=True)
class Spans(RowsPortion):
    """A block of text whose gaps a model fills."""

    seed: int
    eos: int
    vocab: int

    @cached_property
    def pairs(self) -> Pairs:
        """What is left of each row, and what is to be written for it."""
        block, pairs = self.block, []
        places = zip(block.ids[:, 1:], block.position.tolist(), block.row.tolist(), strict=True)
        for ids, *at in places:
            text = ids[ids != PAD]
            lost = lost_tokens(len(text), (self.seed, *at, DRAW))
            empty = (np.array([self.eos]), np.zeros(0, np.int64))
            pairs.append(corrupt(text, lost, self.vocab) if len(text) else empty)
        return stacked(pairs, self.eos, block.ids.shape[1] - 1)

    @property
    def weight(self) -> float:
        """Every token to be written weighs the same."""
        return self.pairs.count

    def arguments(self, device: torch.device, step: int) -> dict[str, Any]:
        """What `EncoderDecoder.forward` makes a loss of."""
        return self.pairs.arguments(device)

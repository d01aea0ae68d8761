"""Text that is never trained on and measures the model: whole documents from everywhere."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from llm.config import DataConfig
from llm.documents import is_held_out, read_unit
from llm.packing import pack
from llm.permutation import Permutation
from llm.shards import Unit
from llm.tokenizer import Tokenizer
from llm.units import Units

SPREAD_UNITS = 16
"""Held-out text comes from this many units at least, if there are as many."""


@dataclass(frozen=True)
class HeldOut:
    """Text that measures the model. rows: (R, C + 1) int32; bytes: UTF-8 length of its text."""

    rows: np.ndarray
    bytes: int


def held_out(units: Units, data: DataConfig, tokenizer: Tokenizer, context: int) -> HeldOut | None:
    """Whole held-out documents from all over the corpus until `validation.tokens` is reached.

    None if nothing is held out. `units` are those of validation.shards if there are such.
    """
    wanted = data.validation.tokens
    share = -(-wanted // min(max(1, len(units)), SPREAD_UNITS))
    taken, spare = Pile(wanted), Pile(wanted)
    order = Permutation(len(units), (0,))
    for index in order(np.arange(len(units))).tolist():
        from_here = Pile(share)
        for text in held_out_documents(units[index], data):
            full = from_here.full
            ids = tokenizer.encode(text)
            (spare if full else taken).add(text, ids)
            from_here.add(text, ids)
            if taken.full or (full and spare.full):
                break
        if taken.full:
            break
    for spared in zip(spare.texts, spare.ids, strict=True):
        taken.add(*spared)
    if not taken.ids:
        return None
    length = sum(len(text.encode()) for text in taken.texts)
    return HeldOut(pack(taken.ids, tokenizer.eos, context, context), length)


def held_out_documents(unit: Unit, data: DataConfig) -> Iterator[str]:
    """A unit's documents that measure the model: all of a validation shard, else its share."""
    for text in read_unit(unit, data):
        if data.validation.shards or is_held_out(text, data.validation.fraction):
            yield text


class Pile:
    """Documents up to the one that reaches `limit` tokens, ends of text included."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.tokens = 0
        self.texts: list[str] = []
        self.ids: list[Sequence[int]] = []

    @property
    def full(self) -> bool:
        """Whether nothing more goes on it."""
        return self.tokens >= self.limit

    def add(self, text: str, ids: Sequence[int]) -> None:
        """Put a document on it, if it is not full."""
        if not self.full:
            self.texts.append(text)
            self.ids.append(ids)
            self.tokens += len(ids) + 1

"""Rows of the stream as what a model takes: inputs, targets and which document each token is of.

`NextToken` is a block of them as a portion of a training (`llm.train`).

B rows, C context, n parts: rows cut into n shorter ones give (B n, C / n).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from llm.data import Block, Cursor
from llm.packing import PAD
from llm.step_log import checksum


class Batch(NamedTuple):
    """inputs, targets: (B, C) int64; documents: (B, C) int64, or None if they do not matter."""

    inputs: Tensor
    targets: Tensor
    documents: Tensor | None


def make_batch(
    rows: np.ndarray, device: torch.device, separator: int | None = None, parts: int = 1
) -> Batch:
    """Rows (B, C + 1) as a batch; PAD becomes an input of 0 and a target of -1.

    With a `separator`, the token that documents begin behind, each token knows its document: a
    separator belongs to the one that follows it, whose first token it predicts.
    """
    ids = torch.from_numpy(rows.astype(np.int64)).to(device)
    inputs, targets = ids[:, :-1].clamp(min=0), ids[:, 1:]
    length = inputs.size(1) // parts
    inputs, targets = inputs.reshape(-1, length), targets.reshape(-1, length)
    documents = None if separator is None else (inputs == separator).cumsum(1)
    return Batch(inputs, targets, documents)


@dataclass(frozen=True)
class RowsPortion:
    """A block of text as a portion of a training, whatever is learned from it."""

    block: Block

    @property
    def first(self) -> Cursor:
        """Where its first row stands."""
        return self.block.first

    @property
    def after(self) -> Cursor:
        """The cursor behind its last row."""
        return self.block.after

    @property
    def tokens(self) -> int:
        """Tokens of text that are used up."""
        return int((self.block.ids[:, 1:] != PAD).sum())

    def __len__(self) -> int:
        return len(self.block)

    def checksum(self, place: int) -> int:
        """Of its token ids, PAD included."""
        return checksum(self.block.ids, place)


@dataclass(frozen=True)
class NextToken(RowsPortion):
    """A block of text from which a model learns the next token of every prefix.

    With a `separator` no token sees another document's; the first `short_start` steps cut rows.
    """

    separator: int | None = None
    short_start: int = 0

    @property
    def weight(self) -> float:
        """Every target weighs the same."""
        return self.tokens

    def arguments(self, device: torch.device, step: int) -> dict[str, Any]:
        """What `Transformer.forward` makes a loss of."""
        parts = parts_at(step, self.short_start)
        inputs, targets, documents = make_batch(self.block.ids, device, self.separator, parts)
        return {"ids": inputs, "targets": targets, "documents": documents}


def parts_at(step: int, short_start: int) -> int:
    """Into how many each row is cut: eighths, quarters, halves for a third of the start each."""
    return 8 >> (3 * step // short_start) if step < short_start else 1

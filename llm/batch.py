"""Rows of the stream as what a model takes: inputs, targets and which document each token is of.

B rows, C context, n parts: rows cut into n shorter ones give (B n, C / n).
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


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

"""Pairs of a text to read and a text to write, as an encoder-decoder takes them.

P pairs, S tokens of the longest text to read, T of the longest to write.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from llm.packing import PAD, rounded


@dataclass(frozen=True)
class Pairs:
    """read: (P, S); real: (P, S), false behind the end; begun: (P, T), an end of text and what is
    to be written but for its last token; targets: (P, T), PAD behind the end."""

    read: np.ndarray
    real: np.ndarray
    begun: np.ndarray
    targets: np.ndarray

    @property
    def count(self) -> int:
        """Tokens to be written."""
        return int((self.targets != PAD).sum())

    def __getitem__(self, part: slice) -> "Pairs":
        return Pairs(self.read[part], self.real[part], self.begun[part], self.targets[part])

    def __len__(self) -> int:
        return len(self.read)

    def arguments(self, device: torch.device) -> dict[str, Any]:
        """What `EncoderDecoder.forward` makes a loss of."""
        return {
            "ids": torch.from_numpy(self.read).to(device),
            "real": None if self.real.all() else torch.from_numpy(self.real).to(device),
            "begun": torch.from_numpy(self.begun).to(device),
            "targets": torch.from_numpy(self.targets).to(device),
        }


def stacked(pairs: Sequence[tuple[np.ndarray, np.ndarray]], eos: int, most: int) -> Pairs:
    """Texts to read and to write side by side, no longer than `most`; none of the first is empty.

    A few lengths only: every new one costs oneDNN memory.
    """
    read = padded([one for one, _ in pairs], most)
    targets = padded([two for _, two in pairs], most)
    begun = np.concatenate((np.full((len(pairs), 1), eos), targets[:, :-1]), axis=1)
    return Pairs(np.maximum(read, 0), read != PAD, np.maximum(begun, 0), targets)


def padded(texts: Sequence[np.ndarray], most: int) -> np.ndarray:
    """Texts in rows of one length, with PAD behind: int64."""
    longest = max(map(len, texts))
    assert longest <= most, f"{longest} tokens where {most} are seen"
    rows = np.full((len(texts), min(most, max(1, rounded(longest)))), PAD, np.int64)
    for row, text in zip(rows, texts, strict=True):
        row[: len(text)] = text
    return rows

"""Masked tokens, as BERT learns from them (Devlin et al. 2019, 3.1).

Of a row's tokens 15% are chosen; of these 80% become the mask, 10% any token, 10% stay as they are,
and all of them are to be found out. What is chosen follows from the seed and from where the row
stands in the data alone: another number of workers or a resumed run chooses the same, another
epoch, whose positions go on, chooses anew (RoBERTa's dynamic masking).

For the mask's id see llm/hidden.py.

C tokens of a row, Q rows of a block.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from llm.batch import RowsPortion
from llm.hidden import SHARE
from llm.packing import PAD

MASKED, REPLACED = 0.8, 0.1
"""Of the chosen ones: what becomes the mask, what becomes any token; the rest stays."""

DRAW = 3
"""Tells these draws from others with the same seed and position (0 to 2: llm/data.py)."""


def uniform(shape: tuple[int, ...], *key: int) -> np.ndarray:
    """Numbers in [0, 1) that belong to a key; raw PCG64, which numpy promises to keep."""
    raw = np.random.PCG64(list(key)).random_raw(int(np.prod(shape)))
    return (raw >> np.uint64(11)).reshape(shape) * 2.0**-53


def mask_row(
    ids: np.ndarray, eos: int, vocab: int, key: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """A row (C,) as it is shown, PAD being 0 and the mask `vocab`; the chosen tokens, else PAD.

    Ends of text are not chosen, unless there is nothing else.
    """
    order, how, other = uniform((3, len(ids)), *key)
    allowed = (ids != PAD) & (ids != eos)
    allowed = allowed if allowed.any() else ids != PAD
    count = max(1, round(SHARE * allowed.sum())) if allowed.any() else 0
    chosen = np.argsort(np.where(allowed, order, 2.0), kind="stable")[:count]
    shown, targets = np.maximum(ids, 0), np.full_like(ids, PAD)
    targets[chosen] = ids[chosen]
    masks = chosen[how[chosen] < MASKED]
    replaced = chosen[(how[chosen] >= MASKED) & (how[chosen] < MASKED + REPLACED)]
    shown[masks] = vocab
    shown[replaced] = (other[replaced] * vocab).astype(ids.dtype)
    return shown, targets


@dataclass(frozen=True)
class Masked(RowsPortion):
    """A block of text of which a model finds out the chosen tokens."""

    seed: int
    eos: int
    vocab: int
    apart: bool = False
    """Whether documents do not see each other."""

    @cached_property
    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """What is shown and what is to be found out, each (Q, C)."""
        block = self.block
        places = zip(block.ids[:, 1:], block.position.tolist(), block.row.tolist(), strict=True)
        pairs = [mask_row(ids, self.eos, self.vocab, (self.seed, *at, DRAW)) for ids, *at in places]
        return np.stack([one for one, _ in pairs]), np.stack([two for _, two in pairs])

    @property
    def weight(self) -> float:
        """Every chosen token weighs the same."""
        return float((self.rows[1] != PAD).sum())

    def arguments(self, device: torch.device, step: int) -> dict[str, Any]:
        """What `Encoder.forward` makes a loss of; its head is spared what was not chosen."""
        shown, targets = (torch.from_numpy(rows).long().to(device) for rows in self.rows)
        text = torch.from_numpy(self.block.ids[:, 1:].astype(np.int64)).to(device)
        return {
            "ids": shown,
            "targets": targets,
            "documents": documents_of(text, self.eos if self.apart else None),
            "weights": (targets != PAD).float(),
        }


def documents_of(text: torch.Tensor, eos: int | None) -> torch.Tensor | None:
    """Numbers of tokens' documents (Q, C), PAD being one of its own; None if all are one.

    With `eos`, which ends documents, each has its own number.
    """
    padding = text == PAD
    if eos is None:
        return padding.long() if padding.any() else None
    ends = (text == eos).long()
    return ends.cumsum(1) - ends + padding

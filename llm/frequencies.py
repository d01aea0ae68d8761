"""What knowing nothing but how frequent each token is would reach: the baseline of fill-ins.

The frequencies are those of the very text that measures, so no model without context does better.
"""

import numpy as np

from llm.held_out import HeldOut
from llm.packing import PAD
from llm.tokenizer import Tokenizer


def frequencies(text: HeldOut, tokenizer: Tokenizer) -> np.ndarray:
    """Share of each token in the text, ends of text left out: (V,)."""
    ids = text.rows[:, 1:]
    counts = np.bincount(ids[(ids != PAD) & (ids != tokenizer.eos)], minlength=tokenizer.vocab_size)
    return counts / max(1, counts.sum())


def entropy(counts: np.ndarray) -> float:
    """Nats per token of a text in which each occurs so often."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())

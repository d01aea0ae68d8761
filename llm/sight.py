"""What a token sees of its text, and how heads that share keys and values look at them, in torch.

Heads of a group look one after the other: a product with one row of queries rounds the same
however long the longest text beside it is, while one with four or more does not (MKL, sums of 256
terms and more; seen with torch 2.13 on a processor with AVX512).

L texts, N queries, R of them for each text, H heads, K heads of keys and values, G = H / K heads of
a group, E features of a head, S keys.
"""

import torch
from torch import Tensor

from llm.config import ModelConfig
from llm.positions import slopes


class Sight:
    """Which keys queries are compared with, and how much less those count that are far away."""

    def __init__(self, config: ModelConfig, device: torch.device) -> None:
        self.shared, self.window = config.kv_heads, config.window or config.context
        self.slopes = slopes_of(config)
        self.device = device

    def limits(self, tokens: int) -> bool:
        """Whether it matters in a text of so many how far a key is away."""
        return self.window < tokens or self.slopes is not None

    def added(self, last: Tensor, keys: int, dtype: torch.dtype) -> Tensor:
        """What is added to the scores of queries at these places, (N,): (K G or 1, N, S)."""
        distance = torch.arange(keys, device=last.device) - last[:, None]
        unseen = (distance > 0) | (distance <= -self.window)
        hidden = torch.zeros(unseen.shape, dtype=dtype, device=last.device)
        hidden = hidden.masked_fill_(unseen, -torch.inf)[None]
        if self.slopes is not None:
            hidden = hidden + self.slopes.to(last.device)[:, None, None] * distance
        return hidden.to(self.device, dtype)

    def of_texts(self, last: Tensor, keys: int, dtype: torch.dtype) -> Tensor:
        """For one query of each text, as `look` wants it: (L,) -> (G or 1, L K, 1, S)."""
        added = self.added(last, keys, dtype)
        if len(added) == 1:
            return added.repeat_interleave(self.shared, 1)[:, :, None]
        by_group = added.unflatten(0, (self.shared, -1)).permute(1, 2, 0, 3)  # (G, L, K, S)
        return by_group.flatten(1, 2)[:, :, None]

    def of_tokens(self, last: Tensor, keys: int, dtype: torch.dtype) -> Tensor:
        """For many queries of one text, as `look` wants it: (R,) -> (G or 1, K or 1, R, S)."""
        added = self.added(last, keys, dtype)
        if len(added) == 1:
            return added[None]
        return added.unflatten(0, (self.shared, -1)).transpose(0, 1)


def slopes_of(config: ModelConfig) -> Tensor | None:
    """How much less a key counts for each token that it is away, by head of queries (ALiBi)."""
    return slopes(config.heads) if config.positions == "alibi" else None


def look(query: Tensor, keys: Tensor, values: Tensor, added: Tensor) -> Tensor:
    """What queries find: (L, H, R, E).

    query: (L, H, R, E); keys, values: (L, K, S, E); added: to the scores, for every head of a group
    or for all of them: (G or 1, L K or 1, R, S).
    """
    texts, shared = keys.shape[:2]
    keys, values = keys.flatten(0, 1), values.flatten(0, 1)
    scale = query.size(-1) ** -0.5
    found = []
    for at, heads in enumerate(query.unflatten(1, (shared, -1)).unbind(2)):  # (L, K, R, E)
        one = added[at % len(added)]
        scores = torch.baddbmm(one, heads.flatten(0, 1), keys.transpose(1, 2), alpha=scale)
        found.append(torch.bmm(scores.softmax(-1), values).unflatten(0, (texts, shared)))
    return found[0] if len(found) == 1 else torch.stack(found, 2).flatten(1, 2)

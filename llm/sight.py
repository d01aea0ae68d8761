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


class Sight:
    """Which keys queries are compared with."""

    def __init__(self, config: ModelConfig, device: torch.device) -> None:
        self.shared, self.group = config.kv_heads, config.heads // config.kv_heads
        self.device = device

    def hidden(self, last: Tensor, keys: int, dtype: torch.dtype) -> Tensor:
        """-inf for what lies behind the last place that each query sees: (N,) -> (N, S)."""
        behind = torch.arange(keys, device=last.device) > last[:, None]
        hidden = torch.zeros(behind.shape, dtype=dtype, device=last.device)
        return hidden.masked_fill_(behind, -torch.inf).to(self.device)

    def of_texts(self, last: Tensor, keys: int, dtype: torch.dtype) -> Tensor:
        """For one query of each text, as `look` wants it: (L,) -> (1, L K, 1, S)."""
        hidden = self.hidden(last, keys, dtype)
        return hidden.repeat_interleave(self.shared, 0)[None, :, None]

    def of_tokens(self, last: Tensor, keys: int, dtype: torch.dtype) -> Tensor:
        """For many queries of one text, as `look` wants it: (R,) -> (1, 1, R, S)."""
        return self.hidden(last, keys, dtype)[None, None]


def look(query: Tensor, keys: Tensor, values: Tensor, hidden: Tensor) -> Tensor:
    """What queries find: (L, H, R, E).

    query: (L, H, R, E); keys, values: (L, K, S, E); hidden: what is added to scores, for every head
    of a group or for all of them: (G or 1, L K or 1, R, S).
    """
    texts, shared = keys.shape[:2]
    keys, values = keys.flatten(0, 1), values.flatten(0, 1)
    scale = query.size(-1) ** -0.5
    found = []
    for at, heads in enumerate(query.unflatten(1, (shared, -1)).unbind(2)):  # (L, K, R, E)
        unseen = hidden[at % len(hidden)]
        scores = torch.baddbmm(unseen, heads.flatten(0, 1), keys.transpose(1, 2), alpha=scale)
        found.append(torch.bmm(scores.softmax(-1), values).unflatten(0, (texts, shared)))
    return found[0] if len(found) == 1 else torch.stack(found, 2).flatten(1, 2)

"""Causal self-attention, the rotation that tells it positions, and the cache that spares a rerun.

Query, key and value come from one product, are compared by torch's fused kernel, which never stores
the T x T scores (or by plain products, where those are faster), and go back through one more.
Rotary positions turn halves of a head against
each other (the convention of transformers' Llama, so weights can be exchanged).
With a cache a call sees only new tokens: it appends their keys and values and attends to all.

B batch, T tokens of this call, S tokens seen so far (T included), D width, H heads, E = D / H.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm.config import ModelConfig

ROTARY_BASE = 10_000.0  # Su et al. 2021, section 3.2.2

LONGEST_BY_PRODUCTS = 512
"""Keys; see `products_are_faster`."""

TILES = torch.cpu._is_amx_tile_supported()
"""Whether this processor has AMX, for which the fused kernel is made."""

Rotation = Tensor
"""Cosines and signed sines of the positions of this call: (2, T, 1, 1, E)."""


class Attention(nn.Module):
    """Mixes each token with those before it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.dropout = config.dropout
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=config.bias)
        self.out = nn.Linear(config.width, config.width, bias=config.bias)

    def forward(
        self,
        x: Tensor,
        rotation: Rotation | None = None,
        cache: "LayerCache | None" = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # (B, T, 3, H, E)
        query, key, value = split(qkv, rotation)  # each (B, H, T, E)
        if cache is not None:
            key, value = cache.append(key, value)  # (B, H, S, E)
        mixed = attend(query, key, value, self.dropout if self.training else 0.0, mask)
        return self.out(mixed.transpose(1, 2).flatten(2))  # (B, T, D)


def split(qkv: Tensor, rotation: Rotation | None) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys (both rotated) and values, heads before tokens."""
    query_key, value = qkv[:, :, :2], qkv[:, :, 2]
    if rotation is not None:
        query_key = rotate(query_key, rotation)
    query, key = query_key.unbind(2)
    return query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)


def attend(
    query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0, mask: Tensor | None = None
) -> Tensor:
    """Each query sees its own key and all earlier ones; queries are the last T of S tokens.

    mask: (B, 1, T, S), true where a query sees a key, if it is to see fewer.
    """
    new, seen = query.size(2), key.size(2)
    if new not in (1, seen) and mask is None:
        # is_causal would align the triangle with the first key, not with the last
        mask = torch.ones(new, seen, dtype=torch.bool, device=query.device).tril(seen - new)
    if products_are_faster(query, key):
        return attend_by_products(query, key, value, dropout, mask)
    causal = new == seen and mask is None
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=causal
    )


def products_are_faster(query: Tensor, key: Tensor) -> bool:
    """In bf16 on a processor without matrix tiles, as long as the scores are small.

    Milliseconds there and back, fused against products, one thread with AVX512: 8 rows of 128
    tokens 19 / 6, 4 of 256 25 / 12, 2 of 512 41 / 22, 1 of 1024 47 / 51.
    """
    small = key.size(2) <= LONGEST_BY_PRODUCTS
    return query.dtype == torch.bfloat16 and query.device.type == "cpu" and small and not TILES


def attend_by_products(
    query: Tensor, key: Tensor, value: Tensor, dropout: float, mask: Tensor | None
) -> Tensor:
    """The same in the open: scores in the precision of the products."""
    scores = (query * query.size(-1) ** -0.5) @ key.transpose(-1, -2)  # (B, H, T, S)
    unseen = torch.full((), -torch.inf, dtype=scores.dtype)
    if mask is not None:
        scores = scores + torch.zeros_like(unseen).where(mask, unseen)
    elif scores.size(2) > 1:
        scores = scores + unseen.expand(scores.shape[2:]).triu(1)
    return F.dropout(scores.softmax(-1), dropout) @ value


def document_mask(documents: Tensor) -> Tensor:
    """Each token sees the earlier ones of its own document: (B, T) -> (B, 1, T, T)."""
    same = documents[:, None, :, None] == documents[:, None, None, :]
    return same.tril()


def places_in(documents: Tensor) -> Tensor:
    """How many tokens of its own document lie before each: (B, T) int64 -> (B, T)."""
    places = torch.arange(documents.size(1), device=documents.device).expand_as(documents)
    begins = torch.diff(documents, dim=1, prepend=documents[:, :1] - 1) != 0
    return places - torch.where(begins, places, 0).cummax(dim=1).values


def rotation_table(context: int, features: int) -> Rotation:
    """The rotation of all positions of a context."""
    assert features % 2 == 0, f"rotary positions turn pairs of features; a head has {features}"
    speed = ROTARY_BASE ** (-torch.arange(0, features, 2, dtype=torch.float32) / features)
    angle = torch.arange(context, dtype=torch.float32)[:, None] * speed  # (T, E / 2)
    cosine = torch.cat((angle.cos(), angle.cos()), dim=-1)
    sine = torch.cat((-angle.sin(), angle.sin()), dim=-1)
    return torch.stack((cosine, sine))[:, :, None, None]


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """(a, b) -> (a cos - b sin, b cos + a sin) for the two halves of every head.

    In the precision of `x`, as transformers does it: an fp32 table would promote the whole
    product, which costs 12% of attention (bf16, T 256: 76 against 68 ms on one core).
    """
    cosine, sine = rotation.to(x.dtype)
    return x * cosine + x.roll(x.size(-1) // 2, -1) * sine


class LayerCache:
    """Keys and values of the tokens that one layer has seen."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = keys, values  # (B, H, context, E)
        self.length = 0

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Stores those of new tokens; returns those of all."""
        start, self.length = self.length, self.length + key.size(2)
        assert self.length <= self.keys.size(2), "the cache is full"
        self.keys[:, :, start : self.length] = key
        self.values[:, :, start : self.length] = value
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]


class KVCache:
    """One `LayerCache` per layer, allocated once for a whole context."""

    def __init__(
        self, config: ModelConfig, batch: int, *, device: torch.device, dtype: torch.dtype
    ) -> None:
        shape = (2, batch, config.heads, config.context, config.width // config.heads)
        tensors = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.depth)]
        self.layers = [LayerCache(*tensor) for tensor in tensors]

    @property
    def length(self) -> int:
        """Tokens seen so far."""
        return self.layers[0].length

    def reset(self) -> None:
        """Forgets all tokens and keeps the memory."""
        for layer in self.layers:
            layer.length = 0

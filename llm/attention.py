"""Causal self-attention, and the cache that spares a rerun.

Query, key and value come from one product, are compared by a fused kernel, torch's or our own
(llm/causal.py), which never stores the T x T scores (or by plain products, where those are faster),
and go back through one more.
Groups of query heads may share a head of keys and values (Ainslie et al. 2023).
With a cache a call sees only new tokens: it appends their keys and values and attends to all.

B batch, T tokens of this call, S tokens seen so far (T included), D width, H heads, E = D / H,
K heads of keys and values, G = H / K.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm.causal import TILES, attend_causally, takes
from llm.config import ModelConfig
from llm.positions import Rotation, rotate

LONGEST_BY_PRODUCTS = 512
"""Keys; see `products_are_faster`."""

SHORTEST_IN_C = 48
"""Tokens; llm/causal.py works out 64 at least, of which less than these are too few."""


class Attention(nn.Module):
    """Mixes each token with those before it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads = config.heads, config.kv_heads
        self.dropout = config.dropout
        features = config.width // config.heads
        rows = (config.heads + 2 * config.kv_heads) * features  # queries, keys, values
        self.qkv = nn.Linear(config.width, rows, bias=config.qkv_bias)
        self.out = nn.Linear(config.width, config.width, bias=config.bias)
        self.query_norm = self.key_norm = None
        if config.qk_norm:
            self.query_norm = nn.RMSNorm(features, eps=config.norm_eps)
            self.key_norm = nn.RMSNorm(features, eps=config.norm_eps)

    def forward(
        self,
        x: Tensor,
        rotation: Rotation | None = None,
        cache: "LayerCache | None" = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        query, key, value = self.split(x, rotation)
        if cache is not None:
            key, value = cache.append(key, value)  # (B, K, S, E)
        mixed = attend(query, key, value, self.dropout if self.training else 0.0, mask)
        return self.out(mixed.transpose(1, 2).flatten(2))  # (B, T, D)

    def split(self, x: Tensor, rotation: Rotation | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, H, T, E), keys and values (B, K, T, E); those compared are rotated."""
        compared = self.heads + self.kv_heads
        qkv = self.qkv(x).unflatten(-1, (compared + self.kv_heads, -1))  # (B, T, H + 2 K, E)
        query_key, value = qkv.split((compared, self.kv_heads), dim=2)
        if self.query_norm is not None:
            query_key = self.normed(query_key)
        if rotation is not None:
            query_key = rotate(query_key, rotation)
        query, key = query_key.split((self.heads, self.kv_heads), dim=2)
        return query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)

    def normed(self, query_key: Tensor) -> Tensor:
        """Every head of queries and keys at length 1 per feature, in fp32 (Henry et al. 2020)."""
        query, key = self.query_norm, self.key_norm
        assert query is not None and key is not None
        weights = (query.weight.expand(self.heads, -1), key.weight.expand(self.kv_heads, -1))
        normal = F.rms_norm(query_key.float(), query_key.shape[-1:], eps=query.eps)
        return (normal * torch.cat(weights)).to(query_key.dtype)


def attend(
    query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0, mask: Tensor | None = None
) -> Tensor:
    """Each query sees its own key and all earlier ones; queries are the last T of S tokens.

    query: (B, H, T, E); key, value: (B, K, S, E), each for H / K neighbouring heads of queries.
    mask: (B, 1, T, S), true where a query sees a key, if it is to see fewer; or (B, H, T, S), what
    is added to the scores, in their precision; or (B or 1, T) int32, the first key that each of
    S = T queries sees (`first_seen`).
    """
    if mask is not None and mask.dtype == torch.int32:
        return attend_causally(query, key, value, mask)
    new, seen = query.size(2), key.size(2)
    if new not in (1, seen) and mask is None:
        # is_causal would align the triangle with the first key, not with the last
        mask = causal_mask(new, seen, query.device)
    causal = new == seen and mask is None
    long = new >= SHORTEST_IN_C and not dropout
    if causal and long and takes(query.dtype, query.device, query.size(-1)):
        return attend_causally(query, key, value)
    if products_are_faster(query, key):
        return attend_by_products(query, key, value, dropout, mask)
    return F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=causal,
        enable_gqa=query.size(1) != key.size(1),
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
    scaled = grouped(query * query.size(-1) ** -0.5, key)
    scores = (scaled @ key.transpose(-1, -2)).view(*query.shape[:3], -1)  # (B, H, T, S)
    unseen = torch.full((), -torch.inf, dtype=scores.dtype)
    if mask is not None:
        scores = scores + (added(mask).to(scores.dtype) if mask.dtype == torch.bool else mask)
    elif scores.size(2) > 1:
        scores = scores + unseen.expand(scores.shape[2:]).triu(1)
    shares = grouped(F.dropout(scores.softmax(-1), dropout), key)
    return (shares @ value).view(query.shape)


def grouped(x: Tensor, key: Tensor) -> Tensor:
    """The rows of all heads that share a head of keys, one below another.

    (B, H, T, anything) -> (B, K, G T, anything)
    """
    if x.size(1) == key.size(1):
        return x
    return x.unflatten(1, (key.size(1), -1)).flatten(2, 3)


def seen_mask(
    start: int, stop: int, window: int, documents: Tensor | None, device: torch.device
) -> Tensor | None:
    """Which keys the queries start to stop - 1 see of all S = stop, if not all up to themselves:
    (B or 1, 1, T, S).

    window: how many they see at most, themselves included; 0: any number.
    documents: (B, T), a number per document, for a call that begins at 0.
    """
    mask = None if documents is None else document_mask(documents)
    if not 0 < window < stop:
        return mask
    near = causal_mask(stop - start, stop, device)
    near = near & ~near.tril(start - window)
    return near[None, None] if mask is None else mask & near


def first_seen(tokens: int, window: int, documents: Tensor | None) -> Tensor | None:
    """The same for calls that begin at 0, as the first key that each query sees: (B or 1, T) int32;
    None: all from the first on."""
    if documents is None and not 0 < window < tokens:
        return None
    at = torch.arange(tokens)[None]
    first = torch.zeros_like(at) if documents is None else at - places_in(documents)
    if window:
        first = first.maximum(at - window + 1)
    return first.int()


def causal_mask(new: int, seen: int, device: torch.device) -> Tensor:
    """Each of the last tokens sees itself and all before it: (T, S)."""
    return torch.ones(new, seen, dtype=torch.bool, device=device).tril(seen - new)


def added(mask: Tensor, bias: Tensor | None = None) -> Tensor:
    """The same as numbers that are added to scores, with a bias (H, T, S): (B or 1, 1 or H, T, S).

    Said once for all layers; of a mask torch's kernel makes such numbers in each, and keeps them.
    """
    seen = mask.new_zeros((), dtype=torch.float32) if bias is None else bias[None]
    return torch.where(mask, seen, -torch.inf)


def document_mask(documents: Tensor) -> Tensor:
    """Each token sees the earlier ones of its own document: (B, T) -> (B, 1, T, T)."""
    same = documents[:, None, :, None] == documents[:, None, None, :]
    return same.tril()


def places_in(documents: Tensor) -> Tensor:
    """How many tokens of its own document lie before each: (B, T) int64 -> (B, T)."""
    places = torch.arange(documents.size(1), device=documents.device).expand_as(documents)
    begins = torch.diff(documents, dim=1, prepend=documents[:, :1] - 1) != 0
    return places - torch.where(begins, places, 0).cummax(dim=1).values


class LayerCache:
    """Keys and values of the tokens that one layer has seen."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = keys, values  # (B, K, context, E)
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
        features = config.width // config.heads
        shape = (2, batch, config.kv_heads, config.context, features)
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

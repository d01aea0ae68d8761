"""A decoder-only transformer: what `ModelConfig` describes, and nothing about how it is trained.

Pre-norm blocks add attention and MLP to a residual stream (GPT-2; Llama with the default parts).
Precision, devices, parallelism and compilation are applied from outside: under autocast the
residual stream and the norms stay fp32, products and attention run in bf16.
`forward` gives the loss when it is given targets, so that a wrapper of `forward` sees training.

B batch, T sequence, D width, F hidden features of the MLP, V vocabulary.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm.attention import (
    Attention,
    KVCache,
    LayerCache,
    Rotation,
    document_mask,
    places_in,
    rotation_table,
)
from llm.config import ModelConfig
from llm.init import initialize
from llm.loss import Drift, head_loss

EPSILON = 1e-5
"""Guard of the norms against division by zero (GPT-2, Llama 2)."""


class Transformer(nn.Module):
    """Predicts the next token of every prefix."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        assert config.width % config.heads == 0, (
            f"{config.width=} is no multiple of {config.heads=}"
        )
        self.config = config
        self.vocab_size = vocab_size
        self.embedding = nn.Embedding(vocab_size, config.width)
        self.positions = POSITIONS[config.positions](config)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = make_norm(config)
        self.head = None if config.tied else nn.Linear(config.width, vocab_size, bias=False)
        self.drift: Drift | None = None
        initialize(self)

    def forward(
        self,
        ids: Tensor,
        targets: Tensor | None = None,
        cache: KVCache | None = None,
        documents: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> Tensor:
        """(B, T) -> logits (B, T, V), or with targets the sum of their losses.

        documents: (B, T), a number per document; then no token sees another document's.
        weights: (B, T), what each target's loss is multiplied by.
        """
        features = self.features(ids, cache, documents)  # (B, T, D)
        if targets is None:
            return self.logits(features)
        if weights is not None:  # the head is spared what does not count
            counts = weights != 0
            features, targets, weights = features[counts], targets[counts], weights[counts]
        return head_loss(features, self.head_weight, targets, weights, self.drift)

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Sum in fp32 of the losses of all targets other than -1."""
        return self(ids, targets)

    def features(
        self, ids: Tensor, cache: KVCache | None = None, documents: Tensor | None = None
    ) -> Tensor:
        """(B, T) -> what the head reads (B, T, D); with a cache `ids` continue what it has seen."""
        start = cache.length if cache else 0
        stop = start + ids.size(1)
        assert stop <= self.config.context, f"{stop} tokens in a context of {self.config.context}"
        mask = places = None
        if documents is not None:
            mask, places = document_mask(documents), places_in(documents)
        x, rotation = self.positions(self.embedding(ids), start, stop, places)
        x = self.dropout(x)  # (B, T, D)
        layers = cache.layers if cache else [None] * len(self.blocks)
        for block, layer in zip(self.blocks, layers, strict=True):
            x = block(x, rotation, layer, mask)
        return self.norm(x)

    def logits(self, features: Tensor) -> Tensor:
        """(..., D) -> (..., V); a tied head is the embedding, under its one name."""
        return F.linear(features, self.head_weight)

    @property
    def head_weight(self) -> Tensor:
        """(V, D)."""
        return (self.head or self.embedding).weight

    def cache(self, batch: int = 1) -> KVCache:
        """An empty cache in the precision that this model computes in right now."""
        weight = self.embedding.weight
        device = weight.device.type
        autocast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocast else weight.dtype
        return KVCache(self.config, batch, device=weight.device, dtype=dtype)


class Block(nn.Module):
    """One layer: attention, then MLP, each added to what came in."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = make_norm(config)
        self.attention = Attention(config)
        self.mlp_norm = make_norm(config)
        self.mlp = MLPS[config.mlp](config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        rotation: Rotation | None = None,
        cache: LayerCache | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), rotation, cache, mask))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))  # (B, T, D)


def make_norm(config: ModelConfig) -> nn.Module:
    """Normalisation over the width; only a layer norm can have a bias."""
    if config.norm == "rmsnorm":
        return nn.RMSNorm(config.width, eps=EPSILON)
    return nn.LayerNorm(config.width, eps=EPSILON, bias=config.bias)


class Gelu(nn.Module):
    """D -> F, exact GELU, F -> D (GPT-2)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.width, config.hidden, bias=config.bias)
        self.out = nn.Linear(config.hidden, config.width, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.gelu(self.up(x)))


class Swiglu(nn.Module):
    """D -> a gate and a value of F each, SiLU(gate) x value, F -> D (Shazeer 2020)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.width, config.hidden, bias=config.bias)
        self.up = nn.Linear(config.width, config.hidden, bias=config.bias)
        self.out = nn.Linear(config.hidden, config.width, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.silu(self.gate(x)) * self.up(x))


MLPS = {"gelu": Gelu, "swiglu": Swiglu}

Placed = tuple[Tensor, Rotation | None]
"""Embeddings (B, T, D) and, where attention is to turn them, the rotation of their positions."""


class Rotary(nn.Module):
    """Positions turn queries and keys in attention (Su et al. 2021).

    Only distances matter to it, so `places` inside documents change nothing.
    """

    table: Tensor  # (2, context, 1, 1, E)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        table = rotation_table(config.context, config.width // config.heads)
        self.register_buffer("table", table, persistent=False)

    def forward(self, x: Tensor, start: int, stop: int, places: Tensor | None = None) -> Placed:
        return x, self.table[:, start:stop]


class Learned(nn.Module):
    """Positions have embeddings of their own (GPT-2)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.context, config.width))

    def forward(self, x: Tensor, start: int, stop: int, places: Tensor | None = None) -> Placed:
        return x + chosen(self.weight, start, stop, places), None


class Sinusoidal(nn.Module):
    """Fixed waves, added to embeddings scaled up to their size (Vaswani et al. 2017, 3.4-3.5)."""

    table: Tensor  # (context, D)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.scale = math.sqrt(config.width)
        table = wave_table(config.context, config.width)
        self.register_buffer("table", table, persistent=False)

    def forward(self, x: Tensor, start: int, stop: int, places: Tensor | None = None) -> Placed:
        return x * self.scale + chosen(self.table, start, stop, places), None


def chosen(table: Tensor, start: int, stop: int, places: Tensor | None) -> Tensor:
    """Rows start to stop - 1 of a table, (T, D), or those of each token's place, (B, T, D)."""
    return table[start:stop] if places is None else table[places]


def wave_table(context: int, width: int) -> Tensor:
    """sin(t w_i) at even and cos(t w_i) at odd features, w_i = 10000^(-2i / D): (T, D)."""
    assert width % 2 == 0, f"sinusoidal positions fill pairs of features; the width is {width}"
    speed = 10_000.0 ** (-torch.arange(0, width, 2, dtype=torch.float32) / width)
    angle = torch.arange(context, dtype=torch.float32)[:, None] * speed  # (T, D / 2)
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)


POSITIONS = {"rotary": Rotary, "learned": Learned, "sinusoidal": Sinusoidal}

"""A decoder-only transformer: what `ModelConfig` describes, and nothing about how it is trained.

Pre-norm blocks add attention and MLP to a residual stream (GPT-2; Llama with the default parts).
Precision, devices, parallelism and compilation are applied from outside: under autocast the
residual stream and the norms stay fp32, products and attention run in bf16.
`forward` gives the loss when it is given targets, so that a wrapper of `forward` sees training.

B batch, T sequence, D width, V vocabulary.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm.attention import (
    Attention,
    KVCache,
    LayerCache,
    added,
    causal_mask,
    first_seen,
    places_in,
    seen_mask,
)
from llm.causal import takes
from llm.config import ModelConfig
from llm.experts import balance_loss, watched
from llm.init import initialize
from llm.loss import IGNORED, Drift, head_loss
from llm.mlp import make_mlp
from llm.positions import POSITIONS, Distances, Rotation


class Transformer(nn.Module):
    """Predicts the next token of every prefix."""

    drift: Drift | None = None
    """Gathers what z-loss is put on, if it is."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        assert config.width % config.heads == 0 == config.heads % config.kv_heads, config
        self.config = config
        self.vocab_size = vocab_size
        self.embedding = nn.Embedding(vocab_size, config.width)
        self.positions = POSITIONS[config.positions](config)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = make_norm(config)
        self.head = None if config.tied else nn.Linear(config.width, vocab_size, bias=False)
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
        if self.training and self.config.experts and targets is not None:
            return self.balanced_loss(ids, targets, documents, weights)
        features = self.features(ids, cache, documents)  # (B, T, D)
        if targets is None:
            return self.logits(features)
        return self.loss_of(features, targets, weights)

    def loss_of(self, features: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        """Sum of the losses of targets."""
        if weights is not None:  # the head is spared what does not count
            counts = weights != 0
            features, targets, weights = features[counts], targets[counts], weights[counts]
        return head_loss(features, self.head_weight, targets, weights, self.drift)

    def balanced_loss(
        self, ids: Tensor, targets: Tensor, documents: Tensor | None, weights: Tensor | None
    ) -> Tensor:
        """The same number with another gradient: that of the loss and of the experts' balance."""
        with watched(self) as layers:
            features = self.features(ids, documents=documents)
            counted = targets != IGNORED if weights is None else weights != 0
            price = self.config.balance * balance_loss(layers, counted)
        return self.loss_of(features, targets, weights) + (price - price.detach())

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
        mask = self.mask_of(start, stop, documents)
        places = None if documents is None else places_in(documents)
        x, rotation = self.positions(self.embedding(ids), start, stop, places)
        x = self.dropout(x)  # (B, T, D)
        layers = cache.layers if cache else [None] * len(self.blocks)
        for block, layer in zip(self.blocks, layers, strict=True):
            x = block(x, rotation, layer, mask)
        return self.norm(x)

    def mask_of(self, start: int, stop: int, documents: Tensor | None) -> Tensor | None:
        """What `llm.attention.attend` is told about who sees whom; None: all that came before."""
        device = self.embedding.weight.device
        if start == 0 and self.attends_in_c(device):
            return first_seen(stop, self.config.window, documents)
        mask, bias = seen_mask(start, stop, self.config.window, documents, device), None
        if isinstance(self.positions, Distances):
            bias = self.positions.bias(start, stop)
            mask = causal_mask(stop - start, stop, device) if mask is None else mask
        return None if mask is None else added(mask, bias).to(self.precision)

    def attends_in_c(self, device: torch.device) -> bool:
        """Whether a mask may say no more than where each query begins to see."""
        plain = not isinstance(self.positions, Distances)
        draws = self.training and self.config.dropout > 0
        features = self.config.width // self.config.heads
        return plain and not draws and takes(self.precision, device, features)

    def logits(self, features: Tensor) -> Tensor:
        """(..., D) -> (..., V); a tied head is the embedding, under its one name."""
        return F.linear(features, self.head_weight)

    @property
    def head_weight(self) -> Tensor:
        """(V, D)."""
        return (self.head or self.embedding).weight

    def cache(self, batch: int = 1) -> KVCache:
        """An empty cache."""
        device = self.embedding.weight.device
        return KVCache(self.config, batch, device=device, dtype=self.precision)

    @property
    def precision(self) -> torch.dtype:
        """What products are computed in right now."""
        weight = self.embedding.weight
        device = weight.device.type
        autocast = torch.is_autocast_enabled(device)
        return torch.get_autocast_dtype(device) if autocast else weight.dtype


class Block(nn.Module):
    """One layer: attention, then MLP, each added to what came in."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = make_norm(config)
        self.attention = Attention(config)
        self.mlp_norm = make_norm(config)
        self.mlp = make_mlp(config)
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
        return nn.RMSNorm(config.width, eps=config.norm_eps)
    return nn.LayerNorm(config.width, eps=config.norm_eps, bias=config.bias)

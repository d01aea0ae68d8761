"""A feed-forward network over a fixed window of tokens (Bengio et al. 2003), as we build it today.

The embeddings of the last `window` tokens are concatenated and mapped to the width; residual blocks
of norm and MLP follow in place of one hidden layer. So every field of a decoder but heads and
positions means the same here, and changing `family` alone exchanges attention for a fixed window.
Before the first token of a row, or of a document where documents are apart, there are zeros.

B batch, T sequence, D width, N window, V vocabulary.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm.attention import KVCache
from llm.config import ModelConfig
from llm.mlp import make_mlp
from llm.model import Transformer, initialize, make_norm


class WindowModel(Transformer):
    """Predicts the next token from the last `window` ones; used like any decoder."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        nn.Module.__init__(self)  # shares how a decoder is asked, not what it is made of
        assert 0 < config.window <= config.context, f"{config.window=}, {config.context=}"
        self.config = config
        self.vocab_size = vocab_size
        self.embedding = nn.Embedding(vocab_size, config.width)
        self.joined = nn.Linear(config.window * config.width, config.width, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(WindowBlock(config) for _ in range(config.depth))
        self.norm = make_norm(config)
        self.head = None if config.tied else nn.Linear(config.width, vocab_size, bias=False)
        initialize(self)

    def features(
        self, ids: Tensor, cache: KVCache | None = None, documents: Tensor | None = None
    ) -> Tensor:
        """(B, T) -> what the head reads (B, T, D); with a cache `ids` continue what it has seen."""
        new = ids.size(1)
        if cache is not None:
            assert isinstance(cache, WindowCache)
            ids = cache.append(ids)
        x = self.joined(self.windows(self.embedding(ids), documents)[:, -new:])
        x = self.dropout(x)  # (B, T, D)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def windows(self, x: Tensor, documents: Tensor | None) -> Tensor:
        """Each token's embedding behind those of the N - 1 before it: (B, T, D) -> (B, T, N D)."""
        before = self.config.window - 1
        views = F.pad(x, (0, 0, before, 0)).unfold(1, before + 1, 1).transpose(2, 3)  # (B, T, N, D)
        if documents is not None:
            whose = F.pad(documents, (before, 0), value=-1).unfold(1, before + 1, 1)  # (B, T, N)
            views = views * (whose == documents[..., None])[..., None]
        return views.flatten(2)

    def cache(self, batch: int = 1) -> "WindowCache":
        """An empty memory of tokens."""
        return WindowCache(self.config.window)


class WindowBlock(nn.Module):
    """An MLP, added to what came in."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.mlp_norm = make_norm(config)
        self.mlp = make_mlp(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.dropout(self.mlp(self.mlp_norm(x)))


class WindowCache(KVCache):
    """The last tokens: all that such a model can know of a text."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.ids: Tensor | None = None
        self.seen = 0

    def append(self, ids: Tensor) -> Tensor:
        """The tokens that windows of new ones reach back to, and these, (B, T)."""
        self.seen += ids.size(1)
        both = ids if self.ids is None else torch.cat((self.ids, ids), dim=1)
        self.ids = both[:, max(0, both.size(1) - self.window + 1) :]
        return both

    @property
    def length(self) -> int:
        """Tokens seen so far."""
        return self.seen

    def reset(self) -> None:
        """Forgets all tokens."""
        self.ids, self.seen = None, 0

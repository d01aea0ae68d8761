"""An encoder reads a text, a decoder writes one and looks at what was read (Vaswani et al. 2017).

Both have `depth` layers of the blocks in llm/model.py; the decoder's have cross-attention between
attention and MLP. One embedding serves both and, tied, the head (T5). It has a row more for every
sentinel (llm/hidden.py).

With `code` the decoder sees of what was read one vector of so many numbers and nothing else: the
mean of the encoder's features, mapped to the code and back. That makes an autoencoder.

B batch, S tokens read, T tokens written, M what cross-attention sees (S, or 1 code), D width,
H heads, E = D / H, V vocabulary.
"""

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from llm.attention import Attention, attend
from llm.config import ModelConfig
from llm.encoder import seen_by_all
from llm.hidden import rows_of_embedding
from llm.loss import IGNORED, next_token_loss
from llm.mlp import make_mlp
from llm.model import Block, initialize, make_norm
from llm.positions import POSITIONS


class Memory(NamedTuple):
    """What was read: features (B, M, D), and which of them are any, (B, 1, 1, M)."""

    features: Tensor
    seen: Tensor


class EncoderDecoder(nn.Module):
    """Writes the next token of a text, given another text."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        assert config.width % config.heads == 0, config
        self.config = config
        self.vocab_size = rows_of_embedding(config, vocab_size)
        self.first_sentinel = vocab_size
        self.embedding = nn.Embedding(self.vocab_size, config.width)
        self.encoder = Stack(config, Block)
        self.to_code = nn.Linear(config.width, config.code) if config.code else None
        self.from_code = nn.Linear(config.code, config.width) if config.code else None
        self.decoder = Stack(config, DecoderBlock)
        self.head = None if config.tied else nn.Linear(config.width, self.vocab_size, bias=False)
        initialize(self)

    def forward(
        self,
        ids: Tensor,
        begun: Tensor,
        targets: Tensor | None = None,
        real: Tensor | None = None,
    ) -> Tensor:
        """Reads (B, S), writes behind (B, T): logits (B, T, V), or the sum of targets' losses.

        real: (B, S), false where nothing is read. Targets of -1 do not count.
        """
        features = self.write(begun, self.read(ids, real))
        if targets is None:
            return self.logits(features)
        counts = targets != IGNORED  # the head is spared what does not count
        return next_token_loss(self.logits(features[counts]), targets[counts])

    def read(self, ids: Tensor, real: Tensor | None = None) -> Memory:
        """A text as the decoder sees it."""
        seen = seen_by_all(ids) if real is None else real[:, None, None]
        x = self.encoder(self.embedding(ids), seen)
        if self.to_code is None:
            return Memory(x, seen)
        assert self.from_code is not None
        code = self.from_code(self.to_code(mean(x, real)))[:, None]  # (B, 1, D)
        return Memory(code, seen_by_all(ids[:, :1]))

    def write(self, begun: Tensor, memory: Memory) -> Tensor:
        """(B, T) -> what the head reads (B, T, D)."""
        return self.decoder(self.embedding(begun), None, memory)

    def logits(self, features: Tensor) -> Tensor:
        """(..., D) -> (..., V); a tied head is the embedding, under its one name."""
        return F.linear(features, (self.head or self.embedding).weight)


def mean(x: Tensor, real: Tensor | None) -> Tensor:
    """Of the features of what was read: (B, S, D) -> (B, D)."""
    if real is None:
        return x.mean(1)
    weights = real.to(x.dtype)[..., None]
    return (x * weights).sum(1) / weights.sum(1)


class Stack(nn.Module):
    """The layers of a side, with positions in front and a norm behind."""

    def __init__(self, config: ModelConfig, block: "type[Block] | type[DecoderBlock]") -> None:
        super().__init__()
        self.positions = POSITIONS[config.positions](config)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(block(config) for _ in range(config.depth))
        self.norm = make_norm(config)

    def forward(self, x: Tensor, mask: Tensor | None, memory: Memory | None = None) -> Tensor:
        """Without a mask a token sees those before it."""
        x, rotation = self.positions(x, 0, x.size(1))
        x = self.dropout(x)
        for block in self.blocks:
            if memory is None:
                x = block(x, rotation, None, mask)
            else:
                x = block(x, rotation, mask, memory)
        return self.norm(x)


class DecoderBlock(nn.Module):
    """One layer: attention, then a look at what was read, then MLP, each added to what came in."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = make_norm(config)
        self.attention = Attention(config)
        self.cross_norm = make_norm(config)
        self.cross = CrossAttention(config)
        self.mlp_norm = make_norm(config)
        self.mlp = make_mlp(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, rotation: Tensor | None, mask: Tensor | None, memory: Memory
    ) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), rotation, None, mask))
        x = x + self.dropout(self.cross(self.cross_norm(x), memory))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))  # (B, T, D)


class CrossAttention(nn.Module):
    """Mixes into each token what was read; places play no part in it, as in T5."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.dropout = config.dropout
        self.query = nn.Linear(config.width, config.width, bias=config.bias)
        self.memory = nn.Linear(config.width, 2 * config.width, bias=config.bias)
        self.out = nn.Linear(config.width, config.width, bias=config.bias)

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        query = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, T, E)
        both = self.memory(memory.features).unflatten(-1, (2, self.heads, -1))
        key, value = both.permute(2, 0, 3, 1, 4)  # (B, H, M, E)
        dropout = self.dropout if self.training else 0.0
        mixed = attend(query, key, value, dropout, memory.seen)
        return self.out(mixed.transpose(1, 2).flatten(2))  # (B, T, D)

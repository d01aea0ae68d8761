"""How a model knows where a token stands: rotated attention, learned vectors, or fixed waves.

B batch, T sequence, D width, H heads, E features of a head.
"""

import math

import torch
from torch import Tensor, nn

from llm.config import ModelConfig, RopeConfig

Rotation = Tensor
"""Cosines and signed sines of the positions of this call: (2, T, 1, E)."""

Placed = tuple[Tensor, Rotation | None]
"""Embeddings (B, T, D) and, where attention is to turn them, the rotation of their positions."""


class Rotary(nn.Module):
    """Positions turn queries and keys in attention (Su et al. 2021).

    Only distances matter to it, so `places` inside documents change nothing.
    """

    table: Tensor  # (2, context, 1, E)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        table = rotation_table(config.context, config.width // config.heads, config.rope)
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


POSITIONS = {"rotary": Rotary, "learned": Learned, "sinusoidal": Sinusoidal}


def chosen(table: Tensor, start: int, stop: int, places: Tensor | None) -> Tensor:
    """Rows start to stop - 1 of a table, (T, D), or those of each token's place, (B, T, D)."""
    return table[start:stop] if places is None else table[places]


def wave_table(context: int, width: int) -> Tensor:
    """sin(t w_i) at even and cos(t w_i) at odd features, w_i = 10000^(-2i / D): (T, D)."""
    assert width % 2 == 0, f"sinusoidal positions fill pairs of features; the width is {width}"
    speed = 10_000.0 ** (-torch.arange(0, width, 2, dtype=torch.float32) / width)
    angle = torch.arange(context, dtype=torch.float32)[:, None] * speed  # (T, D / 2)
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)


def rotation_table(context: int, features: int, config: RopeConfig) -> Rotation:
    """The rotation of all positions of a context."""
    angle = torch.arange(context, dtype=torch.float32)[:, None] * speeds(features, config)
    cosine = torch.cat((angle.cos(), angle.cos()), dim=-1)  # (T, E)
    sine = torch.cat((-angle.sin(), angle.sin()), dim=-1)
    return torch.stack((cosine, sine))[:, :, None]


def speeds(features: int, config: RopeConfig) -> Tensor:
    """What each pair of features turns by from token to token, in radians: (E / 2,)."""
    assert features % 2 == 0, f"rotary positions turn pairs of features; a head has {features}"
    speed = config.base ** (-torch.arange(0, features, 2, dtype=torch.float32) / features)
    match config.scaling:
        case "none":
            return speed
        case "linear":
            return speed / config.factor
        case "llama3":
            return llama3(speed, config)


def llama3(speed: Tensor, config: RopeConfig) -> Tensor:
    """Slow pairs slowed down by the factor, fast ones as they were, a line between (Llama 3.1).

    Which is which is told by the turns that a pair takes in the context it was trained with.
    """
    turns = config.original_context * speed / (2 * math.pi)
    low, high = config.low_freq_factor, config.high_freq_factor
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return speed * (kept + (1 - kept) / config.factor)


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """(a, b) -> (a cos - b sin, b cos + a sin) for the two halves of every head of (B, T, H, E).

    In the precision of `x`, as transformers does it: an fp32 table would promote the whole
    product, which costs 12% of attention (bf16, T 256: 76 against 68 ms on one core).
    """
    cosine, sine = rotation.to(x.dtype)
    return x * cosine + x.roll(x.size(-1) // 2, -1) * sine

"""What a layer does to each token by itself: D -> F, a non-linearity, F -> D.

Gated ones have a second map into F whose result the non-linearity shapes and multiplies with the
first one's (Shazeer 2020).

D width, F hidden features.
"""

from torch import Tensor, nn

from llm.activations import ACTIVATIONS, Activation
from llm.config import GATED, ModelConfig
from llm.experts import Experts


class Mlp(nn.Module):
    """D -> F, activation, F -> D (Vaswani et al. 2017, 3.3)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation: Activation = ACTIVATIONS[config.mlp]
        self.up = nn.Linear(config.width, config.hidden, bias=config.bias)
        self.out = nn.Linear(config.hidden, config.width, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.activation(self.up(x)))


class GatedMlp(nn.Module):
    """D -> a gate and a value of F each, activation(gate) x value, F -> D."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation: Activation = ACTIVATIONS[config.mlp]
        self.gate = nn.Linear(config.width, config.hidden, bias=config.bias)
        self.up = nn.Linear(config.width, config.hidden, bias=config.bias)
        self.out = nn.Linear(config.hidden, config.width, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.activation(self.gate(x)) * self.up(x))


def make_mlp(config: ModelConfig) -> nn.Module:
    """The MLP of a layer, or the experts in its place."""
    if config.experts:
        return Experts(config)
    return GatedMlp(config) if config.mlp in GATED else Mlp(config)

"""What a layer does to each token by itself: D -> F, a non-linearity, F -> D.

Gated ones have a second map into F whose result the non-linearity shapes and multiplies with the
first one's (Shazeer 2020).

D width, F hidden features.
"""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from llm.config import GATED, ModelConfig

Activation = Callable[[Tensor], Tensor]


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU as GPT-2's own code approximates it."""
    return F.gelu(x, approximate="tanh")


def relu_squared(x: Tensor) -> Tensor:
    """max(0, x)^2 (So et al. 2021)."""
    return F.relu(x).square()


ACTIVATIONS: dict[str, Activation] = {
    "swiglu": F.silu,
    "geglu": gelu_tanh,  # as in T5 1.1
    "gelu": F.gelu,
    "gelu_tanh": gelu_tanh,
    "relu": F.relu,
    "relu2": relu_squared,
}


class Mlp(nn.Module):
    """D -> F, activation, F -> D (Vaswani et al. 2017, 3.3)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.mlp]
        self.up = nn.Linear(config.width, config.hidden, bias=config.bias)
        self.out = nn.Linear(config.hidden, config.width, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.activation(self.up(x)))


class GatedMlp(nn.Module):
    """D -> a gate and a value of F each, activation(gate) x value, F -> D."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.mlp]
        self.gate = nn.Linear(config.width, config.hidden, bias=config.bias)
        self.up = nn.Linear(config.width, config.hidden, bias=config.bias)
        self.out = nn.Linear(config.hidden, config.width, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.activation(self.gate(x)) * self.up(x))


def make_mlp(config: ModelConfig) -> nn.Module:
    """The MLP of a layer."""
    return GatedMlp(config) if config.mlp in GATED else Mlp(config)

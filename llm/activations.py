"""The non-linearities of MLPs, by the names that a spec gives them."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

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

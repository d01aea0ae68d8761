"""Fresh weights: how large they are, and why.

gpt2: N(0, 0.02^2) for all matrices (Radford et al. 2019). A product of n features of size 1 then
has size 0.02 sqrt(n), which is near 1 at widths of thousands and a ninth at 32, where logits and
what layers add begin so small that hundreds of updates pass before anything is learned.

fan_in: a matrix of n inputs is N(0, 1/n), so that its product has size 1 at any width (Tensor
Programs V, table 3; PaLM, section 5). So are embeddings of n features: a tied one is the head, too.
Matrices that write into the residual stream are 0: every layer begins as the identity, so depth
costs nothing at first (Goyal et al. 2017, 5.1, for residual nets; Tensor Programs V, D.2;
nanochat).

Matrices that write into the residual stream are known by name: `*.out.weight`.
"""

import math

from torch import Tensor, nn

from llm.config import ModelConfig

INIT_STD = 0.02
"""Spread of fresh weights of GPT-2."""


def initialize(model: nn.Module) -> None:
    """Fresh weights by the rule of `model.config.init`, from torch's global generator."""
    config = model.config
    assert isinstance(config, ModelConfig)
    std = STDS[config.init]
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif parameter.dim() > 1:
            nn.init.normal_(parameter, std=std(parameter, name.endswith("out.weight"), config))


def gpt2(weights: Tensor, writes: bool, config: ModelConfig) -> float:
    """0.02, but for those that write into the residual stream: its variance would grow with the
    2 x depth of them, so they are divided by that number's root (GPT-2, section 2.3)."""
    return INIT_STD / math.sqrt(2 * config.depth) if writes else INIT_STD


def fan_in(weights: Tensor, writes: bool, config: ModelConfig) -> float:
    """1 / sqrt(inputs), or 0 for those that write into the residual stream."""
    return 0.0 if writes else 1 / math.sqrt(weights.size(-1))


STDS = {"gpt2": gpt2, "fan_in": fan_in}

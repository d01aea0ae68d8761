"""How layers are passed through in training: compiled, and computed again instead of being kept.

Both are put around the `forward` of a plain model's layers from outside, so names of parameters
stay and so does what validation and generation compute: without gradients the plain code runs.

Compiled are layers, not the model (regional compilation): they are alike, so one is compiled for
all, in a fifth of the time. Numbers differ from eager ones in rounding, as more is fused and kept
in registers; random draws are the same. A resumed run compiles the same code, so it repeats itself.

In this order: `compile_layers`, `recompute_layers`, then what llm/parallel.py does.
"""

import logging
import os
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from llm.model import Block

SHAPES = 64
"""Shapes of input that a layer is compiled for, one after another; further ones run uncompiled."""

WORTH_IT_S = 600.0
"""Seconds of training from which on compiling pays: it takes up to a minute and saves a sixth."""

FLOPS_PER_CORE = 40e9
"""Assumed, so that the same spec decides the same on any day; see jobs/estimate.py."""

FLOPS_PER_GPU = 50e12

Forward = Callable[..., Any]


def pays(flops: float, workers: int, device: torch.device) -> bool:
    """Whether a training of so many FLOPs in all is long enough to be compiled."""
    each = FLOPS_PER_GPU if device.type == "cuda" else FLOPS_PER_CORE * torch.get_num_threads()
    return flops / (workers * each) >= WORTH_IT_S


def compile_layers(model: nn.Module, parts: bool) -> None:
    """Compile what layers compute while they learn.

    parts: attention and MLP by themselves, since between them weights are fetched (fsdp).
    """
    for block in layers_of(model):
        for module in (block.attention, block.mlp) if parts else (block,):
            module.forward = learning(compiled(module.forward), module.forward)


def compiled(forward: Forward) -> Forward:
    """Compiled anew for every shape, so that a run that resumes with another one computes alike."""
    options = {"fallback_random": True}  # draws are those of eager code
    return torch.compile(forward, dynamic=False, recompile_limit=SHAPES, options=options)


def recompute_layers(model: nn.Module) -> None:
    """Keep of a layer what goes in, and compute the rest again for its backward pass.

    Chen et al. 2016: a third more products for a fraction of the memory.
    """
    for block in layers_of(model):
        block.forward = learning(again(block.forward), block.forward)


def again(forward: Forward) -> Forward:
    """The same, that keeps nothing but its arguments; dropout draws the same twice."""

    def passed(*arguments: Any) -> Tensor:
        return checkpoint(forward, *arguments, use_reentrant=False)

    return passed


def learning(forward: Forward, plain: Forward) -> Forward:
    """One way while gradients are wanted, the plain one else: generating has a shape a token."""

    def chosen(*arguments: Any) -> Any:
        return (forward if torch.is_grad_enabled() else plain)(*arguments)

    return chosen


def layers_of(model: nn.Module) -> Iterator[Block]:
    """All layers, from bottom to top."""
    return (module for module in model.modules() if isinstance(module, Block))


@cache
def why_not_compiled(device: torch.device) -> str | None:
    """What keeps this machine from compiling; None if nothing does. Takes a second or two."""
    try:
        doubled = torch.compile(lambda x: x * 2 + 1, dynamic=False)
        doubled(torch.ones(8, device=device))
    except Exception as error:  # no compiler, no headers, no place for its files, ...
        return str(error).strip().partition("\n")[0]
    return None

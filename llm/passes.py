"""How layers are passed through in training: compiled, and computed again instead of being kept.

Both are put around the `forward` of a plain model's layers from outside, so names of parameters
stay and so does what validation and generation compute: without gradients the plain code runs.

Compiled are layers, not the model (regional compilation): they are alike, so one is compiled for
all. Numbers differ from eager ones in rounding, as more is fused and kept in registers; random
draws are the same.

In this order: `compile_layers`, `recompute_layers`, then what llm/parallel.py does.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from llm.causal import TILES

SHAPES = 64
"""Shapes of input that a layer is compiled for, one after another; further ones run uncompiled."""

WORTH_IT_S = 900.0
"""Seconds of training from which on compiling pays: it takes up to a minute and saves a sixth to a
third where products are fast (GPUs, AMX: 1.3-1.55x with AMX)."""

WORTH_IT_WITHOUT_TILES_S = 3600.0
"""Where products take most of a step it saves little: 4% with AVX512 (13.8M, bf16, one core)."""

FLOPS_PER_CORE = 40e9
"""Assumed, so that the same spec decides the same on any day; see jobs/estimate.py."""

FLOPS_PER_GPU = 50e12

Forward = Callable[..., Any]


def pays(flops: float, workers: int, device: torch.device) -> bool:
    """Whether a training of so many FLOPs in all is long enough to be compiled."""
    if device.type == "cuda":
        return flops / (workers * FLOPS_PER_GPU) >= WORTH_IT_S
    least = WORTH_IT_S if TILES else WORTH_IT_WITHOUT_TILES_S
    return flops / (workers * FLOPS_PER_CORE * torch.get_num_threads()) >= least


def compile_layers(model: nn.Module, parts: bool) -> None:
    """Compile what layers compute while they learn.

    parts: attention and MLP by themselves, since between them weights are fetched (fsdp). Experts
    stay as they are: whom a router sends where is another way through the code each time.
    """
    for layer in layers_of(model):
        apart = parts or routes(layer)
        for module in products_of(layer) if apart else [layer]:
            if not routes(module):
                lay_around(module, compiled)


def compiled(forward: Forward) -> Forward:
    """Compiled anew for every shape, so that a run that resumes with another one computes alike."""
    import torch._dynamo  # a second that others need not pay

    torch._dynamo.config.recompile_limit = SHAPES
    options: dict[str, Any] = {"fallback_random": True}  # draws are those of eager code
    return torch.compile(forward, dynamic=False, options=options)


def recompute_layers(model: nn.Module) -> None:
    """Keep of a layer what goes in, and compute the rest again for its backward pass.

    Chen et al. 2016: a third more products for a fraction of the memory.
    """
    for layer in layers_of(model):
        lay_around(layer, again)


def again(forward: Forward) -> Forward:
    """The same, that keeps nothing but its arguments; dropout draws the same twice."""

    def passed(*arguments: Any, **named: Any) -> Tensor:
        return checkpoint(forward, *arguments, use_reentrant=False, **named)

    return passed


def routes(module: nn.Module) -> bool:
    """Whether it has experts."""
    return any(name.rpartition(".")[2] == "router" for name, _ in module.named_modules())


def lay_around(module: nn.Module, wrap: Callable[[Forward], Forward]) -> None:
    """Call a module in another way while gradients are wanted, else as it was."""
    plain = module.forward
    learning = wrap(plain)

    def forward(*arguments: Any, **named: Any) -> Any:
        return (learning if torch.is_grad_enabled() else plain)(*arguments, **named)

    module.forward = forward


def layers_of(model: nn.Module) -> Iterator[nn.Module]:
    """All layers, from bottom to top: what lists called `blocks` hold."""
    for name, module in model.named_modules():
        if name.rpartition(".")[2] == "blocks":
            assert isinstance(module, nn.ModuleList), name
            yield from module


def products_of(layer: nn.Module) -> list[nn.Module]:
    """The parts of a layer that hold matrices: attention and MLP."""
    return [part for part in layer.children() if any(one.dim() > 1 for one in part.parameters())]


@cache
def why_not_compiled(device: torch.device) -> str | None:
    """What keeps this machine from compiling; None if nothing does. Takes a second or two."""
    try:
        doubled = torch.compile(lambda x: x * 2 + 1, dynamic=False)
        doubled(torch.ones(8, device=device))
    except Exception as error:  # no compiler, no headers, no place for its files, ...
        return str(error).strip().partition("\n")[0]
    return None

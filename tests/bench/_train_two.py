"""One of two ranks that train by DDP or each for itself, as each line asks (see train.py)."""

import json
import sys
import time
from typing import Any

import torch
import torch.distributed as dist

from llm.config import ModelConfig, OptimConfig, TrainConfig
from llm.model import Transformer
from llm.optim import make_optimizer
from llm.outside import Wish
from llm.train import StepReport, Training, fit
from llm.world import CPU, World
from tests.bench._train import portions_of, say

STEPS = 2
"""Of a turn, and one before them that sets up."""
ROUNDS = 4
"""Micro batches of a rank and step; the rule for batches has sixteen for this size."""


def main() -> None:
    """Meet, then some steps a line."""
    task = json.loads(sys.stdin.readline())
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    optim = OptimConfig(lr=6e-4, warmup=1)
    shape = {name: task[name] for name in ("depth", "width", "heads", "hidden", "context")}
    torch.manual_seed(0)
    model = Transformer(ModelConfig(**shape), task["vocabulary"])
    training = Training(model, make_optimizer(model, optim))
    for line in sys.stdin:
        dist.barrier()
        seconds, processor = turn(task, training, optim, json.loads(line)["together"])
        say(seconds=seconds, processor=processor)


def turn(
    task: dict[str, Any], training: Training, optim: OptimConfig, together: bool
) -> tuple[float, float]:
    """Seconds of a step, the clock's and the processor's."""
    world = World.current() if together else World(0, 1, CPU)
    ends: list[tuple[float, float]] = []

    def after(_: StepReport) -> None:
        ends.append((time.perf_counter(), time.process_time()))

    training.position.cursor = type(training.position.cursor)()
    fit(
        training,
        portions_of(task),
        TrainConfig(
            steps=training.position.step + STEPS + 1,
            batch=task["batch"] * ROUNDS * world.size,
            micro_batch=task["batch"],
            optim=optim,
        ),
        seed=0,
        world=world,
        precision=task["precision"],
        wish=lambda: Wish.NOTHING,
        allows=lambda *_: True,
        after_step=after,
    )
    clock, processor = ((end - start) / STEPS for start, end in zip(ends[0], ends[-1], strict=True))
    return clock, processor


if __name__ == "__main__":
    main()

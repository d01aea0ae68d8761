"""What Ray Train runs in every worker of a group."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from ray.train.torch import get_device

from cluster.line import line_to
from llm.errors import Stopped
from llm.metrics import Event
from llm.outside import Outside, Strategy

Loop = Callable[..., Event]
"""Called with a task, the outside and, if there is a stream, the worker's share of it."""


class Task(Protocol):
    """A task of any kind of training."""

    @property
    def folder(self) -> str:
        """Its artifact."""

    @property
    def checkpoints(self) -> Path:
        """Where its checkpoints are."""


@dataclass(frozen=True)
class Place:
    """What a worker is given."""

    loop: Loop
    task: Task
    exchange: Any
    group: int
    cpus: int
    fence: Callable[[], bool]
    strategy: Strategy
    shares: list[Any]
    """Of a stream, by rank."""


def work(place: Place) -> Event | Stopped:
    """What every worker runs.

    All stop at the same step, so that is an ordinary end: an error of one would end the others,
    which may still be saving.
    """
    use_device(place.cpus)
    folder = Path(place.task.folder)
    with line_to(place.exchange, place.group, place.fence, folder) as line:
        outside = Outside(line.emit, line, line.may_write, line.beat, place.strategy)
        try:
            return place.loop(place.task, outside, *place.shares[line.rank :][:1])
        except Stopped as stopped:
            return stopped


def use_device(cpus: int) -> None:
    """Compute on the GPU that Ray Train chose for this worker, or on its share of the cores."""
    torch.set_num_threads(cpus)
    device = get_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)

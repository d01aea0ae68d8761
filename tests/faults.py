"""Trainings on Ray in which something goes wrong in a worker at a given step, once or always."""

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ray.data import DataIterator

from cluster.config import ClusterConfig
from cluster.place import Loop
from cluster.room import demand_of, stream_cpus
from cluster.train import deal, learn_text
from cluster.workers import Job, on_workers
from llm.metrics import Emit, Event
from llm.outside import Outside
from llm.task import PretrainTask


@dataclass(frozen=True)
class Fault:
    """What goes wrong in the worker of a rank behind a step."""

    happen: Callable[[], None]
    rank: int
    step: int
    once: bool = True


def divide() -> None:
    """A bug."""
    _ = 1 // 0


def killed() -> None:
    """By whatever."""
    os.kill(os.getpid(), signal.SIGKILL)


def stopped() -> None:
    """As by a debugger, or a machine that hangs: no thread of the process runs."""
    os.kill(os.getpid(), signal.SIGSTOP)


def locked() -> None:
    """A deadlock of the training; other threads run."""
    threading.Event().wait()


def learn_with(
    faults: tuple[Fault, ...], task: PretrainTask, outside: Outside, share: DataIterator
) -> Event:
    """What every worker runs."""
    import ray.train

    rank = ray.train.get_context().get_world_rank()

    def beat(doing: str, step: int) -> None:
        outside.beat(doing, step)
        for fault in faults:
            here = doing == "step" and (rank, step) == (fault.rank, fault.step)
            if here and not (fault.once and happened(Path(task.folder), fault)):
                fault.happen()

    return learn_text(task, replace(outside, beat=beat), share)


def happened(folder: Path, fault: Fault) -> bool:
    """Whether a fault has happened already; from now on it has."""
    mark = folder / f"{fault.happen.__name__}-{fault.rank}-{fault.step}"
    if mark.exists():
        return True
    mark.touch()
    return False


def learn_paced(seconds: float, task: PretrainTask, outside: Outside, share: DataIterator) -> Event:
    """What every worker runs, with so much time between steps."""

    def beat(doing: str, step: int) -> None:
        outside.beat(doing, step)
        if doing == "step":
            time.sleep(seconds)

    return learn_text(task, replace(outside, beat=beat), share)


def pretrain_by(loop: Loop, task: PretrainTask, cluster: ClusterConfig, emit: Emit) -> Event:
    """As `cluster.train.pretrain`, with another loop."""
    Path(task.folder).mkdir(exist_ok=True)
    demand = demand_of(cluster, spare_cpus=stream_cpus(cluster))
    return on_workers(
        Job(loop, task, cluster, demand, None, deal=partial(deal, task, cluster)), emit
    )

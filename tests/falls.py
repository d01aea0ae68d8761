"""Trainings that are killed at a named moment, or whose weights are spoiled at a named step.

They run in children of a server that has imported what they need, so that one costs the time of its
training and no more. Under torchrun,

    python -m tests.falls TASK.json FOLDER

runs a pretraining that goes back twice: the update of step 17 is poisoned, the loss of step 24 is
not finite.
"""

import math
import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

import torch

from llm import checkpoint, faults, files, pieces, ppo, ppo_run, rollout, run, train
from llm.alone import train_alone
from llm.checkpoint import Position
from llm.config import FaultsConfig
from llm.metrics import Event, print_event
from llm.outside import Outside
from llm.pretrain import pretraining
from llm.task import PretrainTask, read_task

CHILDREN = multiprocessing.get_context("forkserver")
CHILDREN.set_forkserver_preload(["tests.falls", "tests.tasks", "tests.ppo_tasks", "llm.align"])

MOMENTS: dict[str, tuple[Any, str]] = {
    "load": (checkpoint, "load"),
    "replace": (os, "replace"),
    "replaced": (files, "sync_folder"),
    "log": (files.Appender, "add"),
    "flush": (files.Appender, "sync"),
    "pass": (train, "backward"),
    "update": (train, "update"),
    "validation": (run.Run, "_validate"),
    "write": (checkpoint, "write_pieces"),
    "hash": (pieces, "raw"),
    "commit": (checkpoint, "give_name"),
    "prune": (checkpoint, "prune"),
    "decision": (faults, "write_json"),
    "roll back": (run.Run, "_go_back"),
    "finish": (run.Run, "_finish"),
    "rollout": (rollout.Page, "add"),
    "minibatch": (ppo.Ppo, "_update"),
    "report": (ppo_run.PpoRun, "_report"),
}
"""What is called then; a process dies as it is about to be called."""


@dataclass(frozen=True)
class Fall:
    """SIGKILL at the `count`-th time that a moment comes."""

    moment: str
    count: int

    def __str__(self) -> str:
        return f"{self.moment} {self.count}"


def killed(fall: Fall, work: Callable[..., Any], *arguments: Any) -> bool:
    """Whether the fall has come, in a process that does `work`; else the work is done."""
    child = CHILDREN.Process(target=_until, args=(fall, work, arguments))
    child.start()
    child.join(120)
    assert child.exitcode in (0, -signal.SIGKILL), child.exitcode
    return child.exitcode != 0


def undisturbed(work: Callable[..., Any], *arguments: Any) -> None:
    """Do the work in such a process, to its end.

    What a process has computed before may change a last digit, so both sides of a comparison to the
    last bit want fresh ones.
    """
    assert not killed(Fall("pass", 10**9), work, *arguments)


def _until(fall: Fall, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    owner, name = MOMENTS[fall.moment]
    true, left = getattr(owner, name), [fall.count]

    def watched(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            if fall.moment == "log":  # half a line
                os.write(args[0].handle, args[1][: len(args[1]) // 2].encode())
            die()
        return true(*args, **kwargs)

    with patch.object(owner, name, watched):
        work(*arguments)


def die() -> NoReturn:
    """As if somebody had pulled the plug."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


class poisoned:
    """While entered, updates of certain steps move the weights far away, and some losses are NaN.

    Steps count from 1. A step whose update is left out does no harm.
    """

    def __init__(self, updates: tuple[int, ...] = (), not_finite: tuple[int, ...] = ()) -> None:
        self.updates, self.not_finite = updates, not_finite
        self.step = 0

    def __enter__(self) -> "poisoned":
        patches = (
            patch.object(train, "backward", self._backward),
            patch.object(train, "update", self._update),
            patch.object(faults, "LEAST", 8),
        )
        self.true = train.backward, train.update
        for one in patches:
            one.start()
        self.patches = patches
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.patches:
            one.stop()

    def _backward(self, module: Any, taken: Any, slots: Any, step: Any, world: Any) -> float:
        self.step = step.step + 1
        loss = self.true[0](module, taken, slots, step, world)
        return math.nan if self.step in self.not_finite else loss

    def _update(self, optimizer: torch.optim.Optimizer, lr: float) -> None:
        self.true[1](optimizer, lr)
        if self.step in self.updates:
            torch.manual_seed(self.step)
            with torch.no_grad():
                for group in optimizer.param_groups:
                    for parameter in group["params"]:
                        parameter.add_(torch.randn_like(parameter))


def digest(path: Path) -> str:
    """Of a file."""
    return sha256(path.read_bytes()).hexdigest()


def position_of(folder: Path) -> Position:
    """How far the newest checkpoint of an artifact is."""
    found = checkpoint.newest(folder / "checkpoints")
    assert found
    return checkpoint.read_position(found)


TWICE = FaultsConfig(not_finite="roll_back", spike="roll_back")


def run_poisoned(task: PretrainTask, outside: Outside) -> None:
    """A run that goes back twice."""
    poisoned_task = replace(task, train=replace(task.train, faults=TWICE))
    with poisoned(updates=(17,), not_finite=(24,)):
        pretraining(poisoned_task, outside)[0].run()


def learn_poisoned(task: PretrainTask, outside: Outside, share: Any) -> Event:
    """The same in Ray's workers, in place of `cluster.train.learn_text`."""
    from cluster.train import learn_text

    with poisoned(updates=(17,), not_finite=(24,)):
        return learn_text(task, outside, share)


if __name__ == "__main__":
    train_alone(read_task, run_poisoned, print_event)

"""One training in one process of possibly many: load, fit, validate, save.

What is learned, from what and how it is measured is a `Recipe`; the rest is the same for all. The
same code runs alone, under torchrun and inside Ray Train; only where portions come from differs.
"""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from llm import checkpoint
from llm.config import LoopConfig, TrainConfig
from llm.data import Cursor
from llm.errors import Stopped, stopped_at
from llm.meter import Meter
from llm.metrics import Event, RunLog
from llm.optim import make_optimizer
from llm.outside import Outside, Wish
from llm.parallel import share_out
from llm.saver import Saver
from llm.step_log import NAME, StepLog
from llm.train import Portion, StepReport, Training, fit
from llm.world import Precision, World, fastest_precision, peak_flops


@dataclass(frozen=True)
class Setting:
    """Where a training runs: its place among the processes, and their arithmetic."""

    world: World
    precision: Precision

    @classmethod
    def current(cls, config: LoopConfig) -> "Setting":
        """That of this process, with the precision that the config asks for."""
        world = World.current()
        automatic = fastest_precision(world.device)
        return cls(world, automatic if config.precision == "auto" else config.precision)


class Task(Protocol):
    """What identifies a training, whatever it learns."""

    @property
    def folder(self) -> str:
        """Its artifact."""

    @property
    def checkpoints(self) -> Path:
        """Where its checkpoints are."""

    @property
    def seed(self) -> int:
        """Decides every random choice."""

    @property
    def train(self) -> TrainConfig:
        """How long, in what portions."""


class Recipe(Protocol):
    """One kind of training."""

    flops: int
    """Floating-point operations of a token."""
    score: str
    """The figure of `validate` that picks the best checkpoint, the lower the better."""
    takes_best: bool
    """Whether the finished model is the one of the best checkpoint, not of the last."""

    @property
    def module(self) -> nn.Module:
        """What is trained; called with a portion's arguments it returns the sum of the losses."""

    def announce(self, folder: Path) -> dict[str, Any]:
        """Write what weights in the folder belong to (first process); facts for the start event."""

    def portions(self, cursor: Cursor) -> Iterable[Portion]:
        """This process's own portions from a cursor on."""

    def validate(self) -> dict[str, float]:
        """Measure the model, in all processes together; nothing if nothing is held out."""

    def answers(self, step: int) -> Iterable[tuple[str, str]]:
        """Prompts, and what the model makes of them; asked of the first process only."""

    def finish(self, folder: Path, cursor: Cursor) -> dict[str, Any]:
        """Write the finished model (first process only); figures for the manifest."""


class Run:
    """One process's run of a task: `run` it once."""

    def __init__(self, task: Task, recipe: Recipe, setting: Setting, outside: Outside) -> None:
        self.task, self.recipe, self.setting = task, recipe, setting
        self.world, self.outside = setting.world, outside
        self.steps = StepLog(self._own(Path(task.folder) / NAME))
        self.log = RunLog(self._own(Path(task.folder) / "metrics.jsonl"), outside.emit)
        self.saver = Saver(
            task.checkpoints, task.train.checkpoint, setting.world, outside, self.log
        )
        self.training = self._load()
        self.meter = Meter(recipe.flops, self.world.size)
        self.figures: dict[str, float] = {}
        self.validated = -1

    def _own(self, path: Path) -> Path | None:
        """Only the first process writes files."""
        return path if self.world.rank == 0 else None

    def _load(self) -> Training:
        """The recipe's model as it is, or the newest checkpoint."""
        module = self.recipe.module
        share_out(module, self.world, self.outside.strategy)
        training = Training(module, make_optimizer(module, self.task.train.optim))
        position = self.saver.restore(module, training.optimizer)
        if position:
            training.position = position
        return training

    def run(self, open_portions: Callable[[Cursor], Iterable[Portion]] | None = None) -> Event:
        """Train to the end; returns the final figures. The weights are in the task's folder."""
        task, position = self.task, self.training.position
        self.log.rewind(position.step)
        self.steps.rewind(position.step)
        self._announce()
        if position.step in (0, task.train.steps):  # before the first, or fallen after the last
            self._validate()
        fit(
            self.training,
            (open_portions or self.recipe.portions)(position.cursor),
            task.train,
            seed=task.seed,
            world=self.world,
            precision=self.setting.precision,
            wish=self.outside.wishes.take,
            after_step=self._after_step,
        )
        self.saver.close()
        return self._finish()

    def _announce(self) -> None:
        facts: dict[str, Any] = {}
        if self.world.rank == 0:
            facts = self.recipe.announce(Path(self.task.folder))
        self.log(
            "start",
            self.training.position.step,
            steps=self.task.train.steps,
            parameters=sum(p.numel() for p in self.training.model.parameters()),
            workers=self.world.size,
            device=str(self.world.device),
            precision=self.setting.precision,
            **facts,
            pid=os.getpid(),
            time=time.time(),
        )

    def _after_step(self, report: StepReport) -> None:
        train, step = self.task.train, report.step
        last = step == train.steps
        self.steps.add(step, report.span)
        if first := self.meter.add(report):
            self._measure_peak()
        if first or last or step % train.log_every == 0:
            figures = self.meter.read(train.steps)
            self.figures = {**self.figures, "train_loss": figures["loss"]}
            self.log("step", tokens=self.training.position.tokens, **figures)
        if step % train.validate_every == 0 or last:
            self._measure_peak()
            self._validate()
        if step % train.checkpoint.every == 0 or last or report.wish:
            self._save()
        self.outside.beat("step", step)
        if report.wish == Wish.STOP and not last:
            self.saver.close()
            raise Stopped(stopped_at(step))

    def _measure_peak(self) -> None:
        """Tell the meter the machine's limit while all processes ask for it, as in training."""
        self.world.sum(0.0)  # all start together
        self.meter.measured(peak_flops(self.world.device, self.setting.precision))

    def _validate(self) -> None:
        """Measure the model on what is held out, and let it answer."""
        step = self.training.position.step
        figures = self.recipe.validate()
        if figures:
            self.figures = {**self.figures, **figures}
            self.validated = step
            self.log("validation", step, **figures)
        if self.world.rank == 0:
            for prompt, text in self.recipe.answers(step):
                self.log("sample", step, prompt=prompt, text=text)

    def _save(self) -> None:
        """Commit weights, optimizer and position together."""
        position = self.training.position
        score = self.figures.get(self.recipe.score)
        best = position.best_score
        if self.validated == position.step and score is not None and (best is None or score < best):
            position.best_step, position.best_score = position.step, score
        self.steps.flush()
        self.saver.save(self.training.model, self.training.optimizer, position)

    def _finish(self) -> Event:
        """Write the finished model; the figures of this attempt for manifest and report."""
        position = self.training.position
        if self.recipe.takes_best:
            self._take_best()
        figures: Event = {**self.figures, "tokens": position.tokens, **self.meter.totals()}
        if self.world.rank == 0:
            figures |= self.recipe.finish(Path(self.task.folder), position.cursor)
        self.log("end", position.step, time=time.time(), **figures)
        return figures

    def _take_best(self) -> None:
        """Go back to the weights that did best on what is held out, if they are still whole."""
        position = self.training.position
        best = position.best_step
        path = self.task.checkpoints / f"step-{best or 0:06d}"
        if best in (None, position.step) or checkpoint.damage(path):
            return
        checkpoint.load_weights(self.recipe.module, path / "model.safetensors")
        self.figures |= {**self.recipe.validate(), "best_step": best}

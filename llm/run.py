"""One training in one process of possibly many: load, fit, validate, save.

What is learned, from what and how it is measured is a `Recipe`; the rest is the same for all. The
same code runs alone, under torchrun and inside Ray Train; only where portions come from differs.
"""

import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from llm import checkpoint
from llm.checkpoint import Position
from llm.config import LoopConfig, TrainConfig, auto
from llm.data import Cursor
from llm.ema import averaged
from llm.errors import Stopped, stopped_at
from llm.events import note
from llm.faults import Guard, RolledBack
from llm.fell import telling_where
from llm.loss import Drift
from llm.meter import Meter
from llm.metrics import Event, RunLog
from llm.optim import make_optimizer
from llm.outside import Beat, Outside, Wish, unheard
from llm.parallel import gathered, share_out
from llm.passes import compile_layers, pays, recompute_layers, why_not_compiled
from llm.pulse import Falls
from llm.saver import Saver
from llm.statistics import Statistics
from llm.step_log import NAME, StepLog
from llm.train import Portion, StepReport, Training, fit
from llm.world import Precision, World, fastest_precision, peak_flops

MEASURED = ("validation", "sample")
"""Events of a validation."""

FORWARD = "forward"
"""What is done in a step's passes."""

Open = Callable[[Cursor], Iterable[Portion]]
"""Opens a process's own portions from a cursor on."""


@dataclass(frozen=True)
class Setting:
    """Where a training runs: its place among the processes, and their arithmetic."""

    world: World
    precision: Precision
    beat: Beat = unheard
    """For those who work long before the run begins."""

    @classmethod
    def current(cls, config: LoopConfig, beat: Beat = unheard) -> "Setting":
        """That of this process, with the precision that the config asks for."""
        world = World.current()
        automatic = fastest_precision(world.device)
        return cls(world, automatic if config.precision == "auto" else config.precision, beat)


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
        self.world, self.outside, self.folder = setting.world, outside, Path(task.folder)
        self.steps = StepLog(self._own(self.folder / NAME))
        self.log = RunLog(self._own(self.folder / "metrics.jsonl"), outside.emit)
        self.falls = Falls(self._own(self.folder), self.log)
        self.guard = Guard(task.train.faults, self.folder, self.world, outside, self.log)
        self.saver = Saver(
            task.checkpoints, task.train.checkpoint, setting.world, outside, self.log
        )
        self.why_plain: str | None = None
        """Why layers are not compiled though they should be."""
        self.compiled = self._shape_passes()
        share_out(recipe.module, self.world, outside.strategy, setting.precision)
        optim = task.train.optim
        optimizer = make_optimizer(recipe.module, optim, setting.precision)
        self.training = Training(recipe.module, optimizer)
        self.drift = Drift(optim.z_loss) if optim.z_loss else None
        if self.drift:
            recipe.module.drift = self.drift  # type: ignore[assignment]
        self.statistics: Statistics | None = None
        if every := task.train.statistics:
            self.statistics = Statistics(recipe.module, optimizer, every, optim.clip, self.world)
        self._restore()
        self.meter = Meter(recipe.flops, self.world.size)
        self.figures: dict[str, float] = {}
        self.validated = -1
        self.doing = "start"
        beating(recipe.module, self._beat)

    def _shape_passes(self) -> bool:
        """Compile layers, and have them computed again, as is wanted; whether they are compiled."""
        train, module = self.task.train, self.recipe.module
        wanted = train.compile
        if wanted == auto:
            flops = self.recipe.flops * train.tokens
            wanted = pays(flops, self.world.size, self.world.device)
        if wanted:
            why = why_not_compiled(self.world.device)
            if self.world.sum(float(why is not None))[0] > 0:  # all alike
                wanted, self.why_plain = False, why or "another worker cannot"
            else:
                compile_layers(module, parts=self.outside.strategy != "ddp")
        if train.recompute == "layers":
            recompute_layers(module)
        return wanted

    def _own(self, path: Path) -> Path | None:
        """Only the first process writes files."""
        return path if self.world.rank == 0 else None

    def _restore(self) -> None:
        """The recipe's model as it is, or the newest checkpoint."""
        training = self.training
        training.position = self.saver.restore(training.model, training.optimizer) or Position()
        self.guard.saved = training.position.step

    def run(self, open_portions: Open | None = None) -> Event:
        """Train to the end; returns the final figures. The weights are in the task's folder.

        Portions that are handed in can be opened but once: then going back is the caller's, who
        gets RolledBack.
        """
        with telling_where(self.world.rank, lambda: self.step, self.folder):
            measured = self.step in (0, self.task.train.steps)  # before the first, after the last
            self._begin(MEASURED if measured else ())
            self._announce()
            if measured:
                self._validate()
            if self.step == 0 and self.guard.rolls_back:
                self._save()
            while not self._fit(open_portions):
                self._go_back()
            self.saver.close()
            return self._finish()

    @property
    def step(self) -> int:
        """The step that is being done, or what was done last if something else is."""
        return self.training.position.step + (self.doing == FORWARD)

    def _begin(self, again: tuple[str, ...] = ()) -> None:
        """Forget what was logged behind the position, and events there that come again."""
        step = self.training.position.step
        self.log.rewind(step, again)
        self.steps.rewind(step)
        self.falls.started(step, self.world.size)

    def _fit(self, open_portions: Open | None) -> bool:
        """Train from the position on; whether to the end, or until it has to go back here."""
        self.doing = FORWARD
        self._expect()
        open_here = open_portions or self.recipe.portions
        try:
            fit(
                self.training,
                open_here(self.training.position.cursor),
                self.task.train,
                seed=self.task.seed,
                world=self.world,
                precision=self.setting.precision,
                wish=self.outside.wishes.take,
                allows=self.guard.allows,
                after_step=self._after_step,
            )
        except RolledBack:
            self.saver.close()
            if open_portions:
                raise
            return False
        return True

    def _go_back(self) -> None:
        """To the last checkpoint."""
        self._restore()
        self.meter.window.clear()
        self._begin()

    def _announce(self) -> None:
        facts: dict[str, Any] = {}
        if self.world.rank == 0:
            facts = self.recipe.announce(self.folder)
        if self.why_plain:
            self.log("not_compiled", self.training.position.step, why=self.why_plain)
        self.log(
            "start",
            self.training.position.step,
            steps=self.task.train.steps,
            parameters=sum(p.numel() for p in self.training.model.parameters()),
            workers=self.world.size,
            device=str(self.world.device),
            precision=self.setting.precision,
            compiled=self.compiled,
            **facts,
            pid=os.getpid(),
            time=time.time(),
        )

    def _after_step(self, report: StepReport) -> None:
        train, step = self.task.train, report.step
        last = step == train.steps
        self.doing = "step"
        self.falls.stepped(step)
        self.steps.add(step, report.span)
        self._report(report, last)
        if self.statistics and (layers := self.statistics.take(report)):
            self.log("statistics", step, layers=layers)
        if step % train.validate_every == 0 or last:
            self._measure_peak()
            self._validate()
        if planned := step % train.checkpoint.every == 0 or last:
            self._consider()
        if planned or report.wish:
            self._save()
        if report.wish and not last:
            grant(report.wish, step, self.saver, self.falls)
        self.outside.beat("step", step)
        self.doing = FORWARD
        self._expect()

    def _expect(self) -> None:
        """Look at the layers in the next step, if it is time."""
        if self.statistics:
            self.statistics.expect(self.training.position.step + 1)

    def _report(self, report: StepReport, last: bool) -> None:
        """Log the steps since the last report, if it is time; not at one without a loss."""
        train, step = self.task.train, report.step
        if first := self.meter.add(report):
            self._measure_peak()
        due = first or last or step % train.log_every == 0
        if due and math.isfinite(report.loss + report.grad_norm):
            figures = self.meter.read(train.steps)
            if self.drift:
                price, count = self.world.sum(*self.drift.take())
                figures["z_loss"] = price / count
            self.figures = {**self.figures, "train_loss": figures["loss"]}
            self.log("step", tokens=self.training.position.tokens, **figures)

    def _beat(self) -> None:
        """Show that this process gets on."""
        self.outside.beat(self.doing, self.step)

    def _measure_peak(self) -> None:
        """Tell the meter the machine's limit while all processes ask for it, as in training."""
        self.world.sum(0.0)  # all start together
        self.meter.measured(peak_flops(self.world.device, self.setting.precision))

    def _validate(self) -> None:
        """Measure the model on what is held out, and let it answer."""
        step, self.doing = self.training.position.step, "validation"
        with averaged(self.training.optimizer), gathered(self.recipe.module):
            figures = self.recipe.validate()
            if figures:
                self.figures = {**self.figures, **figures}
                self.validated = step
                self.log("validation", step, **figures)
            if self.world.rank == 0:
                for prompt, text in self.recipe.answers(step):
                    self.log("sample", step, prompt=prompt, text=text)

    def _consider(self) -> None:
        """Remember the step if it did best so far.

        Only what is saved by plan counts: a machine that is about to go must not choose the model.
        """
        position, score = self.training.position, self.figures.get(self.recipe.score)
        best = position.best_score
        if self.validated == position.step and score is not None and (best is None or score < best):
            position.best_step, position.best_score = position.step, score

    def _save(self) -> None:
        """Commit weights, optimizer and position together."""
        self.doing = "save"
        self._beat()
        self.steps.flush()
        self.saver.save(self.training.model, self.training.optimizer, self.training.position)
        self.guard.saved = self.training.position.step

    def _finish(self) -> Event:
        """Write the finished model; the figures of this attempt for manifest and report."""
        position, self.doing = self.training.position, "finish"
        if self.recipe.takes_best:
            self._take_best()
        figures: Event = {**self.figures, "tokens": position.tokens, **self.meter.totals()}
        with averaged(self.training.optimizer), gathered(self.recipe.module):
            if self.world.rank == 0:
                figures |= self.recipe.finish(self.folder, position.cursor)
        self.log("end", position.step, time=time.time(), **figures)
        self.falls.ended(position.step)
        return figures

    def _take_best(self) -> None:
        """Go back to the weights that did best on what is held out, if they are still whole."""
        position = self.training.position
        best = position.best_step
        path = self.task.checkpoints / f"step-{best or 0:06d}"
        if best in (None, position.step) or checkpoint.damage(path):
            return
        checkpoint.load(path, self.recipe.module, self.training.optimizer)
        with averaged(self.training.optimizer), gathered(self.recipe.module):
            self.figures |= {**self.recipe.validate(), "best_step": best}


def grant(wish: Wish, step: int, saver: Saver, falls: Falls) -> None:
    """See that what was just saved is committed, and say so; end, if that was wished, too."""
    why = "machines come or go" if wish == Wish.SAVE else "stop"
    saver.close()
    if falls.folder:
        note(falls.folder, "saved_early", step=step, why=why)
    falls.log("saved_early", step, why=why)
    if wish == Wish.STOP:
        falls.log("stopped", step)
        falls.stopped(step)
        raise Stopped(stopped_at(step))


def beating(model: nn.Module, beat: Callable[[], None]) -> None:
    """Make every pass through a model a sign of life: it begins with looking up tokens.

    So training, validation and writing need not know of it.
    """
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            module.register_forward_pre_hook(lambda *_: beat())

"""Steps that would spoil the weights: noticed, and their updates left out, as the spec declares.

A gradient that is not finite spoils the weights for good. A loss that leaps (Chowdhery et al. 2022,
PaLM, 5.1) tells of weights that a few batches have moved to a bad place: PaLM went back 100 steps
and left out some hundred batches before and during the leap, and the same data did no harm from
another place; OLMo 2's trainer leaves out the step whose loss lies six deviations off the last 128.
So `skip` leaves out the update of the step itself. `roll_back` goes back to the last checkpoint and
leaves out, on the way, that update and the last one made before it, whose weights the loss was
computed with; if it leaps again, so does the one before that, until `most` are left out. An update
that the checkpoint already holds stays.

What is left out is written to skips.json before anything else happens, and every later attempt goes
by it: a run that falls takes the same steps again. Data, schedule and logs go on as if the update
had been made, and losses that leap make no mean.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from llm.agree import raise_together
from llm.checkpoint import Position
from llm.config import FaultsConfig
from llm.errors import TrainingError, UserError
from llm.events import note
from llm.files import write_json
from llm.metrics import RunLog
from llm.outside import Outside, require_own
from llm.world import World

NAME = "skips.json"

WINDOW = 128
"""Losses that count as recent."""

LEAST = 64
"""Losses that must be known before one can leap."""

REMEDY = "lower optim.lr, lengthen optim.warmup, or train with precision: fp32"


class RolledBack(Exception):
    """The run must go on from its last checkpoint: no error, and mended by a new attempt."""


@dataclass(frozen=True)
class Recent:
    """Mean and variance of recent losses: of all while they are few, then older ones fade."""

    count: int = 0
    mean: float = 0.0
    variance: float = 0.0

    def after(self, loss: float) -> "Recent":
        """With one more loss (Welford's recurrence, the count not exceeding WINDOW)."""
        count = min(self.count + 1, WINDOW)
        away = loss - self.mean
        mean = self.mean + away / count
        return Recent(count, mean, (1 - 1 / count) * (self.variance + away**2 / count))

    def leap(self, loss: float) -> float:
        """By how many deviations a loss lies above the mean; 0 while too few are known."""
        above = loss - self.mean
        if self.count < LEAST or above <= 0:
            return 0.0
        return above / self.deviation if self.variance else math.inf

    @property
    def deviation(self) -> float:
        """Standard deviation."""
        return math.sqrt(self.variance)

    def to_floats(self) -> dict[str, float]:
        """As a checkpoint keeps it."""
        return {
            "recent_count": float(self.count),
            "recent_mean": self.mean,
            "recent_variance": self.variance,
        }

    @classmethod
    def from_floats(cls, record: dict[str, float]) -> "Recent":
        """The inverse of `to_floats`; nothing is recent in a record without it."""
        if "recent_count" not in record:
            return cls()
        return cls(int(record["recent_count"]), record["recent_mean"], record["recent_variance"])


class Fault(NamedTuple):
    """What is wrong with a step, and what is to be done about it."""

    why: str
    action: Literal["stop", "skip", "roll_back"]
    remedy: str


def judge(loss: float, norm: float, recent: Recent, config: FaultsConfig) -> Fault | None:
    """What is wrong with a step of this loss and gradient norm, if anything is."""
    for name, value in (("loss", loss), ("gradient norm", norm)):
        if not math.isfinite(value):
            return Fault(f"the {name} is {value}", config.not_finite, REMEDY)
    leap = recent.leap(loss)
    if config.spike == "ignore" or leap <= config.threshold:
        return None
    return Fault(
        f"the loss leapt to {loss:.4g}, {leap:.3g} deviations above the recent {recent.mean:.4g}",
        config.spike,
        f"lower optim.lr, lengthen optim.warmup, or raise faults.threshold ({config.threshold:g})",
    )


class LeftOut:
    """The steps whose updates are left out, and why; the same in all processes.

    Only the first process looks at the file, since another's view of it may be an old one.
    """

    def __init__(self, folder: Path, world: World, outside: Outside) -> None:
        self.path, self.world, self.outside = folder / NAME, world, outside
        first = world.rank == 0
        self.whys = self._read() if first else dict[int, str]()
        (count,) = world.sum(len(self.whys))
        steps = world.sum(*(self.whys if first else [0] * int(count)))
        self.whys = {int(step): self.whys.get(int(step), "") for step in steps}

    def _read(self) -> dict[int, str]:
        if not self.path.exists():
            return {}
        return {one["step"]: one["why"] for one in json.loads(self.path.read_text())}

    def add(self, whys: dict[int, str]) -> None:
        """Put steps on record; returns when they are, in all processes."""
        self.whys = dict(sorted((self.whys | whys).items()))
        failed: Exception | None = None
        if self.world.rank == 0:
            try:
                require_own(self.outside, self.path.parent)
                write_json(self.path, [{"step": s, "why": why} for s, why in self.whys.items()])
            except (UserError, OSError) as error:
                failed = error
        raise_together(self.world, failed)


class Guard:
    """Says, alike in all processes, whether the update of a step is made."""

    def __init__(
        self, config: FaultsConfig, folder: Path, world: World, outside: Outside, log: RunLog
    ) -> None:
        self.config, self.folder, self.world, self.log = config, folder, world, log
        self.left_out = LeftOut(folder, world, outside)
        self.saved = 0
        """Step of the last checkpoint; whoever saves keeps it."""

    @property
    def rolls_back(self) -> bool:
        """Whether there must be a checkpoint from the beginning."""
        return "roll_back" in (self.config.not_finite, self.config.spike)

    def allows(self, position: Position, loss: float, norm: float) -> bool:
        """Whether the step behind `position` may change the weights.

        Raises TrainingError if it is to stop, or too much was left out, and RolledBack.
        """
        step = position.step + 1
        if step in self.left_out.whys:  # as an earlier attempt decided
            self._say(step, loss, "skip", self.left_out.whys[step])
            return False
        recent = Recent.from_floats(position.extra)
        fault = judge(loss, norm, recent, self.config)
        if fault:
            self._leave_out(step, loss, fault)
            return False
        if self.config.spike != "ignore":
            position.extra |= recent.after(loss).to_floats()
        return True

    def leave_out_not_finite(self, step: int, why: str) -> None:
        """Have a part of a step left out, if the spec does not stop there."""
        assert self.config.not_finite != "roll_back", "the recipe cannot go back"
        if step in self.left_out.whys:
            self._say(step, math.nan, "skip", why)
        else:
            self._leave_out(step, math.nan, Fault(why, self.config.not_finite, REMEDY))

    def _leave_out(self, step: int, loss: float, fault: Fault) -> None:
        """Do what the fault asks for."""
        if fault.action == "stop":
            raise TrainingError(
                f"step {step}: {fault.why}; the weights were not changed. The last checkpoint is "
                f"intact: {fault.remedy}, or leave such updates out (faults)"
            )
        whys = {step: fault.why}
        if fault.action == "roll_back" and (before := self._last_update(step)):
            whys[before] = f"the update before step {step}, where {fault.why}"
        self._require_few(step, whys, fault)
        self.left_out.add(whys)
        if self.world.rank == 0:
            done = "skipped" if fault.action == "skip" else "rolled_back"
            facts = {"loss": finite(loss), "why": fault.why, "left_out": sorted(whys)}
            note(self.folder, done, step=step, **facts)
        self._say(step, loss, fault.action, fault.why)
        if fault.action == "roll_back":
            raise RolledBack(f"step {step}: {fault.why}; back to the last checkpoint")

    def _last_update(self, step: int) -> int | None:
        """The last update made before a step that no checkpoint holds."""
        made = (one for one in range(step - 1, self.saved, -1) if one not in self.left_out.whys)
        return next(made, None)

    def _require_few(self, step: int, whys: dict[int, str], fault: Fault) -> None:
        """Stop if more updates than allowed would be left out."""
        already, most = list(self.left_out.whys), self.config.most
        if len(already) + len(whys) > most:
            raise TrainingError(
                f"step {step}: {fault.why}, and of {most} updates that may be left out "
                f"(faults.most) {len(already)} are: those of steps {', '.join(map(str, already))}. "
                f"The last checkpoint is intact: {fault.remedy}, or raise faults.most"
            )

    def _say(self, step: int, loss: float, action: str, why: str) -> None:
        self.log("fault", step, action=action, loss=finite(loss), why=why)


def finite(value: float) -> float | None:
    """A number as JSON has it."""
    return value if math.isfinite(value) else None

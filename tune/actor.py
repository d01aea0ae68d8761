"""A trial at work: the caller's function in a thread of a Ray actor, one report at a time.

The function says `report(tokens, metrics)` and waits there until the scheduler has decided. If the
trial is to end, pause or become a copy of another, the report raises Stop: what the function has
opened is closed on its way out, workers that it started end. (A function of Ray Tune's own kind is
killed where it stands.) A next trial takes the same process over, which saves its start.
"""

import json
import math
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol

from ray import tune

from llm.errors import UserError
from llm.files import write_json
from tune.config import Mode
from tune.space import Point
from tune.trials import (
    ORDER,
    Status,
    ending,
    mend,
    read_events,
    read_trial,
    spent,
    write_event,
)

WORST = 1e30
"""Score of a figure that is no number any more; infinities do not go into percentiles."""


class Stop(BaseException):
    """The trial ends here. Passes every `except Exception` on its way out."""


class Report(Protocol):
    """What a trial has of its sweep."""

    seed: int
    """Which of the trials of its point this is: 0, 1, ..."""
    start: Path | None
    """The checkpoint of a better trial to begin with (pbt), while the folder is still empty."""

    def __call__(
        self, tokens: int, metrics: Mapping[str, float], checkpoint: Path | None = None
    ) -> None:
        """Say how good it is after so many tokens; raises Stop. A checkpoint stays as it is
        until the report is over; pbt copies from it."""


Function = Callable[[Point, Path, Report], Mapping[str, float]]
"""What a sweep runs: the point, a folder to write in (and to go on in), the report -> figures."""


@dataclass(frozen=True)
class Job:
    """What all trials have in common."""

    function: Function
    root: Path
    metric: str
    mode: Mode


class Attempt:
    """One run of the function in its thread; the two sides wait for each other."""

    def __init__(self, job: Job, folder: Path, begin: Mapping[str, Any]) -> None:
        self.job, self.folder = job, folder
        self.point: Point = begin["point"]
        self.start = Path(begin["start"]) if begin["start"] else None
        self.work = folder / begin["work"]
        self.seed = read_trial(folder).seed
        self.said: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self.decided: SimpleQueue[bool] = SimpleQueue()
        self.goes_on = not begin["copied"]
        self.thread = Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        """The function from beginning to end, whatever end that is."""
        try:
            self.said.put(self.ending())
        except BaseException as error:
            self.said.put({"bug": error})

    def ending(self) -> dict[str, Any]:
        """What the trial says last; its result is written by then, unless it was told to stop."""
        self.work.mkdir(parents=True, exist_ok=True)
        try:
            metrics = self.job.function(self.point, self.work, self)
        except Stop:
            return {"done": True}
        except BaseException as error:
            message = {"error": message_of(error), "traceback": traceback.format_exc()}
            return self.finish("failed", **message)
        return self.finish("done", metrics=finite(metrics))

    def finish(self, status: Status, **more: Any) -> dict[str, Any]:
        """Write the result."""
        write_event(self.folder, "end")
        write_json(self.folder / "result.json", ending(self.folder, status, **more))
        return {"done": True, "spent": spent(read_events(self.folder))}

    def __call__(
        self, tokens: int, metrics: Mapping[str, float], checkpoint: Path | None = None
    ) -> None:
        """A report, in the function's thread."""
        if self.goes_on:
            mend(self.folder, before=tokens)
            self.goes_on = False
        write_event(self.folder, "report", tokens=tokens, metrics=finite(metrics))
        known = {"tokens": tokens, "spent": spent(read_events(self.folder)), "point": self.point}
        if checkpoint is not None:
            known["checkpoint"] = str(checkpoint)
        self.said.put(known | score_of(metrics, self.job))
        if not self.decided.get():
            raise Stop


def score_of(metrics: Mapping[str, float], job: Job) -> dict[str, float]:
    """What schedulers compare: less is better; nothing where the metric was not measured."""
    if job.metric not in metrics:
        return {}
    value = float(metrics[job.metric])
    if not math.isfinite(value):
        return {"score": WORST}
    return {"score": value if job.mode == "min" else -value}


def finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Figures as JSON has them; what is no number is null."""
    return {key: float(v) if math.isfinite(v) else None for key, v in metrics.items()}


def message_of(error: BaseException) -> str:
    """An error in a line."""
    if isinstance(error, UserError):
        return str(error)
    return f"{type(error).__name__}: {error}"


# -- the actor -------------------------------------------------------------------------------------


class TrialActor(tune.Trainable):
    """What Ray Tune sees of a trial: a step is a report."""

    def setup(self, config: dict[str, Any], job: Job | None = None) -> None:
        """A process for this trial and those after it."""
        assert job is not None
        self.job = job
        self.attempt: Attempt | None = None
        self.begin_with(config)

    def begin_with(self, config: dict[str, Any]) -> None:
        """Which trial it is from now on."""
        self.folder = self.job.root / "trials" / config["name"]
        self.first = config["point"]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Leave one trial and take up another, or the same one with other values."""
        self.cleanup()
        self.begin_with(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Up to the next report, or the end."""
        if (self.folder / ORDER).exists():
            self.cleanup()
        if self.attempt is None:
            self.attempt = self.begin()
        else:
            self.attempt.decided.put(True)
        said = self.attempt.said.get()
        if "bug" in said:
            raise said["bug"]
        return said

    def begin(self) -> Attempt:
        """Write down with what the function begins, and let it begin."""
        mend(self.folder)
        order = self.folder / ORDER
        before = [event for event in read_events(self.folder) if event["event"] == "begin"]
        begin = {"point": self.first, "work": "work", "start": None, "copied": None}
        if order.exists():
            begin = json.loads(order.read_text())
        elif before:
            begin |= {key: before[-1][key] for key in ("point", "work", "start")}
        write_event(self.folder, "begin", **begin)
        order.unlink(missing_ok=True)
        return Attempt(self.job, self.folder, begin)

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Ray asks before a pause; all that is needed lies in the trial's folder."""
        return {}

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing, for the same reason."""

    def cleanup(self) -> None:
        """End the function where it waits."""
        if self.attempt is not None:
            self.attempt.decided.put(False)
            self.attempt.thread.join()
            self.attempt = None

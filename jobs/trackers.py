"""Those who are shown a training's figures: TensorBoard, MLflow, Weights & Biases.

A tracker takes figures by step, nothing else. It works in a thread of its own: a server that is
slow or away never holds up a training, let alone ends it. The first mistake is said in one line,
and the tracker is left out from then on.

A training that goes on from a checkpoint goes on in the same place: runs are found by the
artifact's fingerprint.
"""

import os
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from jobs.tracking_config import TrackingConfig
from llm.metrics import Event

Figures = Mapping[str, float]

NO_FIGURES = ("event", "step", "steps", "eta", "time", "pid")
GROUPS = {"step": "train", "validation": "validation", "checkpoint": "checkpoint", "again": "fall"}
"""Events with figures, and what theirs are called."""

LAST_WORDS = 10.0
"""Seconds that a tracker has at the end."""

MOST_WAITING = 10_000
"""Figures for a tracker that does not keep up; further ones it does not get."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A training: what its figures are filed under."""

    run: str
    stage: str
    folder: Path
    spec: Mapping[str, Any] = field(default_factory=dict)

    @property
    def artifact(self) -> str:
        """The fingerprint."""
        return self.folder.name


class Tracker(Protocol):
    """Where figures go."""

    def started(self, step: int) -> None:
        """An attempt goes on after this step: figures of later ones come again."""

    def figures(self, step: int, values: Figures) -> None:
        """Figures of a step, under names such as `train/loss`."""

    def close(self) -> None:
        """That was all."""


class TensorBoard:
    """Event files in `tensorboard` of the artifact; `tensorboard --logdir runs` shows all runs."""

    def __init__(self, subject: Subject) -> None:
        from tensorboardX import SummaryWriter

        self.make = partial(SummaryWriter, str(subject.folder / "tensorboard"))
        self.writer: Any = None
        self.count = 0

    def started(self, step: int) -> None:
        """Later steps of an earlier attempt are no longer shown."""
        self.close()
        self.count += 1  # two files of one second would have the same name
        name = f".{os.getpid()}.{self.count}"
        self.writer = self.make(purge_step=step + 1, filename_suffix=name)

    def figures(self, step: int, values: Figures) -> None:
        """One curve for each."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self) -> None:
        """Force to disk."""
        if self.writer is not None:
            self.writer.close()


class MLflow:
    """A run of an MLflow experiment."""

    def __init__(self, uri: str, subject: Subject) -> None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking_uri=uri)
        found = self.client.get_experiment_by_name(subject.run)
        experiment = found.experiment_id if found else self.client.create_experiment(subject.run)
        same = f"tags.artifact = '{subject.artifact}'"
        runs = self.client.search_runs([experiment], same, max_results=1)
        self.run = runs[0].info.run_id if runs else self.begin(experiment, subject)

    def begin(self, experiment: str, subject: Subject) -> str:
        """A new run, with what the stage was told."""
        tags = {"artifact": subject.artifact, "stage": subject.stage}
        made = self.client.create_run(experiment, tags=tags, run_name=subject.stage)
        run: str = made.info.run_id
        for name, value in flat(subject.spec):
            self.client.log_param(run, name, str(value)[:500])
        return run

    def started(self, step: int) -> None:
        """It runs, again; figures that come again stand beside those that were."""
        self.client.update_run(self.run, status="RUNNING")

    def figures(self, step: int, values: Figures) -> None:
        """All of a step in one request."""
        import time

        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, step) for name, value in values.items()]
        self.client.log_batch(self.run, metrics=metrics)

    def close(self) -> None:
        """It is over."""
        self.client.set_terminated(self.run)


class WeightsAndBiases:
    """A run of a W&B project."""

    def __init__(self, project: str, subject: Subject) -> None:
        import wandb

        online = bool(os.environ.get("WANDB_API_KEY"))
        self.run = wandb.init(
            project=project,
            group=subject.run,
            name=f"{subject.run}/{subject.stage}",
            id=f"{subject.stage}-{subject.artifact}",
            resume="allow",
            dir=str(subject.folder),
            config=dict(subject.spec),
            mode=os.environ.get("WANDB_MODE", "online" if online else "offline"),
            settings=wandb.Settings(console="off", silent=True),
        )

    def started(self, step: int) -> None:
        """W&B itself leaves out figures of steps that it has."""

    def figures(self, step: int, values: Figures) -> None:
        """All of a step."""
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        """Send the rest."""
        self.run.finish()


def trackers_of(config: TrackingConfig, subject: Subject) -> dict[str, Callable[[], Tracker]]:
    """How to begin each of those that a spec asks for, by name."""
    made: dict[str, Callable[[], Tracker]] = {"tensorboard": partial(TensorBoard, subject)}
    if config.mlflow is not None:
        made["mlflow"] = partial(MLflow, config.mlflow, subject)
    if config.wandb is not None:
        made["wandb"] = partial(WeightsAndBiases, config.wandb, subject)
    return made


class Behind:
    """A tracker in a thread of its own; an event is taken at once, whatever becomes of it."""

    def __init__(self, name: str, make: Callable[[], Tracker], say: Callable[[str], None]) -> None:
        self.name, self.make, self.say = name, make, say
        self.events: queue.Queue[Event | None] = queue.Queue(MOST_WAITING)
        self.thread = threading.Thread(target=self._work, daemon=True, name=name)
        self.thread.start()

    def __call__(self, event: Event) -> None:
        """Take an event; the first is a `start`."""
        if self.thread.is_alive() and not self.events.full():
            self.events.put(event)

    def close(self) -> None:
        """Let it have its last words."""
        if self.thread.is_alive():
            with suppress(queue.Full):
                self.events.put(None, timeout=LAST_WORDS)
            self.thread.join(LAST_WORDS)
            if self.thread.is_alive():
                self.say(f"{self.name}: does not answer, so it lacks the last figures")

    def _work(self) -> None:
        try:
            tracker = self.make()
            while (event := self.events.get()) is not None:
                if event["event"] == "start":
                    tracker.started(event["step"])
                elif values := figures_of(event):
                    tracker.figures(event["step"], values)
            tracker.close()
        except ModuleNotFoundError as error:
            remedy = f"pip install {error.name}, or leave tracking.{self.name} out"
            self.say(f"{self.name}: is not installed, so it gets no figures; {remedy}")
        except Exception as error:  # whatever a foreign client raises
            first = str(error).strip().splitlines()[:1]
            why = f"{type(error).__name__}: {first[0]}" if first else type(error).__name__
            self.say(f"{self.name}: gets no more figures: {why[:200]}")


def figures_of(event: Event) -> dict[str, float]:
    """`train/loss` and others of an event; none of one that has no figures."""
    if event["event"] == "statistics":
        return of_layers(event["layers"])
    group = GROUPS.get(event["event"])
    if group is None:
        return {}
    return {
        f"{group}/{name}": float(value)
        for name, value in event.items()
        if name not in NO_FIGURES and isinstance(value, int | float)
    }


def of_layers(layers: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """`layers/gradient/3` and others."""
    return {
        f"layers/{name}/{layer['layer']}": value
        for layer in layers
        for name, value in layer.items()
        if name != "layer" and value is not None
    }


def flat(values: Mapping[str, Any], path: str = "") -> list[tuple[str, Any]]:
    """`optim.lr` and its value, of nested mappings."""
    made: list[tuple[str, Any]] = []
    for name, value in values.items():
        inner = f"{path}.{name}".lstrip(".")
        made += flat(value, inner) if isinstance(value, Mapping) else [(inner, value)]
    return made

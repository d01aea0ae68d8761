"""TensorBoard, MLflow and W&B get a training's figures, and none of them can harm it."""

import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event as Record

from jobs.trackers import Behind, Subject, Tracker, figures_of, flat, trackers_of
from jobs.tracking_config import TrackingConfig
from llm.metrics import Event

EVENTS: list[Event] = [
    {"event": "start", "step": 0, "steps": 20, "workers": 2, "pid": 7},
    {"event": "step", "step": 10, "steps": 20, "loss": 3.5, "mfu": 0.4, "eta": 9.0},
    {"event": "validation", "step": 10, "bpb": 1.25},
    {"event": "sample", "step": 10, "prompt": "Once", "text": "upon"},
    {"event": "step", "step": 15, "steps": 20, "loss": 3.0, "mfu": 0.4, "eta": 4.0},
    {"event": "start", "step": 10, "steps": 20, "workers": 1, "pid": 8},
    {"event": "step", "step": 15, "steps": 20, "loss": 3.25, "mfu": 0.4, "eta": 4.0},
    {"event": "checkpoint", "step": 15, "path": "x", "seconds": 0.5, "stall": 0.1},
]


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    folder = tmp_path / "verse" / "pretrain" / "0123456789ab"
    folder.mkdir(parents=True)
    spec = {"kind": "pretrain", "optim": {"lr": 1e-3}}
    return Subject(run="verse", stage="pretrain", folder=folder, spec=spec)


def shown(name: str, subject: Subject, **config: Any) -> list[str]:
    """Show the events to a tracker; what was said of it."""
    said: list[str] = []
    make = trackers_of(TrackingConfig(**config), subject)[name]
    behind = Behind(name, make, said.append)
    for event in EVENTS:
        behind(event)
    behind.close()
    return said


def records(folder: Path) -> list[Record]:
    """What stands in TensorBoard's event files: length, checksum, protobuf, checksum."""
    made = []
    for path in sorted(folder.glob("events.*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            size = int.from_bytes(content[at : at + 8], "little")
            made.append(Record.FromString(content[at + 12 : at + 12 + size]))
            at += size + 16
    return sorted(made, key=lambda one: one.wall_time)


def test_figures_are_numbers_under_the_name_of_their_event() -> None:
    assert figures_of(EVENTS[1]) == {"train/loss": 3.5, "train/mfu": 0.4}
    assert figures_of(EVENTS[2]) == {"validation/bpb": 1.25}
    assert figures_of(EVENTS[7]) == {"checkpoint/seconds": 0.5, "checkpoint/stall": 0.1}
    assert figures_of(EVENTS[0]) == figures_of(EVENTS[3]) == {}
    layers = [{"layer": "2", "gradient": 0.5, "rms": None}]
    event = {"event": "statistics", "step": 10, "layers": layers}
    assert figures_of(event) == {"layers/gradient/2": 0.5}
    assert flat({"a": {"b": 1}, "c": 2}) == [("a.b", 1), ("c", 2)]


def test_tensorboard_is_always_there_and_forgets_steps_that_come_again(subject: Subject) -> None:
    assert shown("tensorboard", subject) == []
    assert len(list((subject.folder / "tensorboard").iterdir())) == 2  # attempts
    found = records(subject.folder / "tensorboard")
    losses = [
        (one.step, value.simple_value)
        for one in found
        for value in one.summary.value
        if value.tag == "train/loss"
    ]
    assert losses == [(10, 3.5), (15, 3.0), (15, 3.25)]
    starts = [one.step for one in found if one.session_log.status == 1]
    assert starts[-1] == 11  # what lies behind it in earlier files is not shown


def test_mlflow_goes_on_in_the_run_of_the_same_artifact(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs pip install mlflow-skinny")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (subject.folder.parent.parent.parent / "mlruns").as_uri()
    for _ in range(2):
        assert shown("mlflow", subject, mlflow=uri) == []
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("verse")
    [run] = client.search_runs([experiment.experiment_id])
    assert run.data.params == {"kind": "pretrain", "optim.lr": "0.001"}
    assert run.data.metrics["validation/bpb"] == 1.25
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(one.step, one.value) for one in history][:3] == [(10, 3.5), (15, 3.0), (15, 3.25)]
    assert run.info.status == "FINISHED"


class FakeRun:
    def __init__(self, log: list[Any]) -> None:
        self.made = log

    def log(self, values: dict[str, float], step: int) -> None:
        self.made.append((step, values))

    def finish(self) -> None:
        self.made.append("finished")


def test_wandb_is_offline_without_a_key(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def init(**asked: Any) -> FakeRun:
        made.append(asked)
        return FakeRun(made)

    fake: Any = types.ModuleType("wandb")
    fake.init, fake.Settings = init, dict
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert shown("wandb", subject, wandb="nursery") == []
    asked, *logged = made
    assert (asked["project"], asked["mode"], asked["group"]) == ("nursery", "offline", "verse")
    assert asked["id"] == "pretrain-0123456789ab" and asked["resume"] == "allow"
    assert logged[0] == (10, {"train/loss": 3.5, "train/mfu": 0.4}) and logged[-1] == "finished"


def test_real_wandb_takes_figures_offline(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="needs pip install wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setattr("jobs.trackers.LAST_WORDS", 60.0)
    assert shown("wandb", subject, wandb="nursery") == []
    assert list(subject.folder.glob("wandb/offline-run-*/*.wandb"))


def test_a_server_that_is_away_costs_a_line_and_nothing_else(subject: Subject) -> None:
    pytest.importorskip("mlflow", reason="needs pip install mlflow-skinny")
    [said] = shown("mlflow", subject, mlflow="http://127.0.0.1:9")
    assert said.startswith("mlflow: gets no more figures: ")


def test_a_package_that_is_missing_is_named_with_what_to_do(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    [said] = shown("wandb", subject, wandb="nursery")
    assert said == (
        "wandb: is not installed, so it gets no figures; pip install wandb, or leave "
        "tracking.wandb out"
    )


class Stuck:
    """Never answers."""

    def __init__(self, forever: threading.Event) -> None:
        self.forever = forever

    def started(self, step: int) -> None:
        self.forever.wait()

    def figures(self, step: int, values: Any) -> None:
        raise AssertionError

    def close(self) -> None:
        raise AssertionError


def behind(make: Callable[[], Tracker], said: list[str]) -> Behind:
    return Behind("stuck", make, said.append)


def test_one_that_never_answers_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.trackers.LAST_WORDS", 0.01)
    monkeypatch.setattr("jobs.trackers.MOST_WAITING", 4)
    said: list[str] = []
    forever = threading.Event()
    stuck = behind(lambda: Stuck(forever), said)
    for event in EVENTS * 3:
        stuck(event)  # would block for ever if it waited for room
    stuck.close()
    forever.set()
    assert said == ["stuck: does not answer, so it lacks the last figures"]

"""Whatever befalls a group of workers is noticed, said in one line and made good."""

import os
import re
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray

from cluster.config import ClusterConfig
from llm.errors import Stopped, TrainingError
from llm.events import read
from llm.files import sha256
from llm.metrics import Event
from llm.processes import children, title
from llm.step_log import NAME
from llm.task import read_task
from tests.faults import Fault, divide, killed, learn_with, locked, pretrain_by, stopped
from tests.tasks import losses, run_plain, write_task

pytestmark = [pytest.mark.ray, pytest.mark.slow]

STEPS, EVERY = 30, 5


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training in plain python, with its task beside it."""
    folder = tmp_path_factory.mktemp("falls")
    run_plain(write_task(folder, steps=STEPS, save_every=EVERY), folder / "plain")
    return folder


def train(
    undisturbed: Path, folder: Path, *faults: Fault, watch: Any = lambda _: None, **cluster: Any
) -> None:
    task = replace(read_task(undisturbed / "task.json"), folder=str(folder))
    config = ClusterConfig(workers=2, cpus_per_worker=1, **cluster)
    pretrain_by(partial(learn_with, faults), task, config, watch)


def same(undisturbed: Path, folder: Path) -> bool:
    assert (folder / NAME).read_bytes() == (undisturbed / "plain" / NAME).read_bytes()
    return losses(folder) == pytest.approx(losses(undisturbed / "plain"), abs=1e-4)


def causes(folder: Path) -> list[str]:
    return [event["cause"] for event in read(folder) if event["event"] == "fall"]


@pytest.mark.long
def test_a_stopped_worker_and_a_dead_controller_cost_no_step(
    ray_cluster: None, undisturbed: Path, tmp_path: Path
) -> None:
    def watch(event: Event) -> None:
        if event["event"] == "step" and event["step"] == 22 and not killed:
            killed.append(controller_pid())
            os.kill(killed[0], signal.SIGKILL)

    killed: list[int] = []
    folder = tmp_path / "run"
    train(undisturbed, folder, Fault(stopped, rank=1, step=7), watch=watch, hang_timeout=10.0)
    assert same(undisturbed, folder)
    silent, controller = causes(folder)
    assert re.match(r"rank 1 on \S+ silent for 10 s", silent)
    assert controller == "the controller of Ray Train died"
    assert begins(folder) == [0, 5, 20]


@pytest.mark.chaos
def test_a_deadlock_costs_no_step(ray_cluster: None, undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(undisturbed, folder, Fault(locked, rank=0, step=13), hang_timeout=10.0)
    assert same(undisturbed, folder)
    [hung] = causes(folder)
    assert re.match(r"rank 0 on \S+ and rank 1 on \S+ hung: nothing for 10 s since", hung)
    assert begins(folder) == [0, 10]


@pytest.mark.chaos
def test_a_killed_worker_that_held_a_part_of_the_model_costs_no_step(
    ray_cluster: None, undisturbed: Path, tmp_path: Path
) -> None:
    whole, fallen = tmp_path / "whole", tmp_path / "fallen"
    train(undisturbed, whole, strategy="fsdp")
    train(undisturbed, fallen, Fault(killed, rank=1, step=13), strategy="fsdp")
    assert same(undisturbed, whole)
    assert begins(fallen) == [0, 10] and causes(fallen) == ["the worker was killed"]
    assert list(fallen.glob("checkpoints/*/model-00001-of-00002.safetensors"))
    assert losses(fallen) == losses(whole)
    assert sha256(fallen / "model.safetensors") == sha256(whole / "model.safetensors")


def begins(folder: Path) -> list[int]:
    """Steps at which a group began."""
    return [event["step"] for event in read(folder) if event["event"] == "begin"]


def controller_pid() -> int:
    """Of this cluster's youngest controller of Ray Train; other tests' clusters have theirs."""
    [raylet] = ray._private.worker._global_node.all_processes["raylet"]
    running = children(raylet.process.pid)
    return max(pid for pid in running if "ray::TrainController" in title(pid))


@pytest.mark.long
def test_an_error_is_told_in_one_line_once_trying_again_does_not_help(
    ray_cluster: None, undisturbed: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(TrainingError) as raised:
        train(undisturbed, folder, Fault(divide, 1, 12, once=False), max_failures=1)
    assert re.fullmatch(
        r"rank 1, step 12: ZeroDivisionError: integer division or modulo by zero "
        r"\(faults\.py:\d+\); fell 2 times, 1 allowed between two checkpoints "
        rf"\(cluster\.max_failures\); the checkpoint of step 10 is kept; the whole traceback: "
        rf"{re.escape(str(folder))}/error\.txt",
        str(raised.value),
    )
    trace = (folder / "error.txt").read_text()
    assert "Traceback" in trace and "_ = 1 // 0" in trace
    falls = [event for event in read(folder) if event["event"] == "fall"]
    assert [(event["rank"], event["step"]) for event in falls] == [(1, 12)] * 2


def test_sigterm_saves_and_stops_and_the_same_goes_on(
    ray_cluster: None, undisturbed: Path, tmp_path: Path
) -> None:
    told: list[Event] = []

    def stop_at_8(event: Event) -> None:
        told.append(event)
        if event["event"] == "step" and event["step"] == 8:
            os.kill(os.getpid(), signal.SIGTERM)

    folder = tmp_path / "run"
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match=r"stopped after step (\d+)"):
        train(undisturbed, folder, watch=stop_at_8)
    assert signal.getsignal(signal.SIGTERM) == before
    assert [event["saves"] for event in told if event["event"] == "stopping"] == [True]
    train(undisturbed, folder)
    assert same(undisturbed, folder)
    assert not causes(folder)

"""Ray Train takes the steps of plain python, with any number of workers and over a fall."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.config import ClusterConfig
from llm.errors import DataError, TrainingError
from llm.metrics import Event
from llm.task import PretrainTask, read_task
from tests.tasks import losses, run_plain, write_task

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def run_ray(task: PretrainTask, folder: Path, workers: int, watch: Any = lambda _: None) -> Event:
    from cluster.train import pretrain

    folder.mkdir(exist_ok=True)
    cluster = ClusterConfig(workers=workers, cpus_per_worker=1)
    return pretrain(replace(task, folder=str(folder)), cluster, watch)


def test_ray_with_one_and_two_workers_takes_the_steps_of_plain_python(
    ray_cluster: None, tmp_path: Path
) -> None:
    path = write_task(tmp_path, steps=50, model={"dropout": 0.1})
    run_plain(path, tmp_path / "plain")
    seen: list[Event] = []
    task = read_task(path)
    figures = run_ray(task, tmp_path / "one", 1, seen.append)
    run_ray(task, tmp_path / "two", 2)
    plain = losses(tmp_path / "plain")
    assert losses(tmp_path / "one") == plain
    assert losses(tmp_path / "two") == pytest.approx(plain, abs=1e-4)
    assert [event["event"] for event in seen[:2]] == ["start", "validation"]
    assert seen[-1]["event"] == "end"
    assert figures["bpb"] == pytest.approx(seen[-1]["bpb"])
    assert not (tmp_path / "one" / "ray").exists()


def test_a_run_that_fell_in_plain_python_goes_on_under_ray_and_over_a_killed_worker(
    ray_cluster: None, tmp_path: Path
) -> None:
    path = write_task(tmp_path, steps=40, save_every=10, model={"dropout": 0.1})
    run_plain(path, tmp_path / "plain")
    fallen = tmp_path / "fallen"
    command = [sys.executable, "-m", "tests.tasks", str(path), str(fallen), "17"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 9
    killed: list[int] = []

    def kill_at_25(event: Event) -> None:
        if event["event"] == "start":
            pids.append(event["pid"])
        if event["event"] == "step" and event["step"] == 25 and not killed:
            killed.append(pids[-1])
            os.kill(pids[-1], signal.SIGKILL)

    pids: list[int] = []
    run_ray(read_task(path), fallen, 2, kill_at_25)
    assert killed and len(pids) == 2
    assert losses(fallen) == pytest.approx(losses(tmp_path / "plain"), abs=1e-4)


def test_a_users_mistake_is_raised_here_and_not_tried_again(
    ray_cluster: None, tmp_path: Path
) -> None:
    task = read_task(write_task(tmp_path, steps=5))
    wild = replace(task.train, optim=replace(task.train.optim, lr=1e30, warmup=0))
    starts: list[Event] = []
    with pytest.raises(TrainingError, match=r"is (nan|inf).*optim\.lr"):
        run_ray(
            replace(task, train=wild),
            tmp_path / "wild",
            1,
            lambda event: starts.append(event) if event["event"] == "start" else None,
        )
    assert len(starts) == 1


def test_text_that_is_gone_is_said_before_workers_start(ray_cluster: None, tmp_path: Path) -> None:
    task = read_task(write_task(tmp_path))
    gone = replace(task, data=replace(task.data, shards=(str(tmp_path / "nowhere"),)))
    with pytest.raises(DataError, match="nowhere"):
        run_ray(gone, tmp_path / "run", 1)

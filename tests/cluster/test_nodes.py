"""Nodes leave, with and without a warning, and join: the training goes on with what is there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm.events import read
from llm.metrics import Event
from llm.step_log import NAME
from tests.drive import Driver
from tests.machines import Machines, machines
from tests.tasks import losses, run_plain, write_task

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.long]

STEPS, EVERY = 150, 10

PACE = 0.1


@pytest.fixture(scope="module")
def cluster() -> Iterator[Machines]:
    """Two nodes of room for a worker each; the first has a CPU more, for the stream."""
    with machines() as cluster:
        cluster.add(3)
        cluster.add(2)
        yield cluster


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training in plain python, with its task beside it."""
    folder = tmp_path_factory.mktemp("nodes")
    run_plain(write_task(folder, steps=STEPS, save_every=EVERY), folder / "plain")
    return folder


def drive(undisturbed: Path, folder: Path, cluster: Machines, **config: Any) -> Driver:
    task = undisturbed / "task.json"
    return Driver(task, folder, cluster.environment, cpus_per_worker=2, pace=PACE, **config)


def require_same(undisturbed: Path, folder: Path) -> None:
    assert (folder / NAME).read_bytes() == (undisturbed / "plain" / NAME).read_bytes()
    assert losses(folder) == pytest.approx(losses(undisturbed / "plain"), abs=1e-4)


def noted(folder: Path, event: str) -> list[Event]:
    return [one for one in read(folder) if one["event"] == event]


def test_from_two_workers_to_one_and_back_the_steps_are_the_same(
    cluster: Machines, undisturbed: Path, tmp_path: Path
) -> None:
    driver = drive(undisturbed, tmp_path / "run", cluster, workers=[1, 2])
    killed = joined = False
    for event in driver.events():
        if event["event"] == "step" and event["step"] == 25 and not killed:
            killed = True
            cluster.kill(1)
        if event["event"] == "again" and not joined:
            joined = True
            cluster.add(2)
    assert driver.wait() == 0
    require_same(undisturbed, tmp_path / "run")
    sizes = [(one["workers_from"], one["workers_to"]) for one in noted(tmp_path / "run", "resized")]
    assert sizes == [(2, 1), (1, 2)]
    fell, grew = noted(tmp_path / "run", "begin")[1:]
    assert fell["reached"] - fell["step"] <= 2 * EVERY
    assert grew["reached"] == grew["step"], "a group that makes room loses no step"


def test_a_node_that_is_reclaimed_costs_a_few_steps_and_no_failure(
    cluster: Machines, undisturbed: Path, tmp_path: Path
) -> None:
    driver = drive(undisturbed, tmp_path / "run", cluster, max_failures=0)
    node = len(cluster.raylets) - 1
    saved: list[int] = []
    gone = False
    for event in driver.events():
        if event["event"] == "step" and event["step"] == 25 and not gone:
            cluster.reclaim(node, 60)
        if event["event"] == "saved_early":
            saved.append(event["step"])
        if len(saved) == 2 and not gone:
            gone = True
            cluster.kill(node)
            cluster.add(2)
    assert driver.wait() == 0
    require_same(undisturbed, tmp_path / "run")
    [fall] = noted(tmp_path / "run", "fall")
    assert fall["cause"] == "its node was reclaimed"
    _, again = noted(tmp_path / "run", "begin")
    assert again["step"] >= saved[1]
    assert again["reached"] - again["step"] < EVERY

"""Which cluster a run works on: that of RAY_ADDRESS, or one of its own, never a third."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster import session
from cluster.config import ClusterConfig
from cluster.session import environment
from llm.errors import UserError
from llm.processes import title

ROOT = Path(__file__).parents[2]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What Ray would have been asked for."""
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(session.ray, "init", lambda **options: asked.append(options))
    monkeypatch.setattr(session, "require_listener", lambda address: None)
    monkeypatch.setattr(session, "quieten", lambda: None)
    for name, value in session.QUIET.items():
        monkeypatch.setenv(name, value)
    return asked


@pytest.mark.parametrize("address", [None, "", "local"])
def test_without_an_address_a_run_has_a_cluster_of_its_own(
    address: str | None, started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    session.connect(ClusterConfig(workers=2, cpus_per_worker=1), actors=0)
    [options] = started
    assert options["address"] == "local"


@pytest.mark.parametrize("address", ["auto", "10.0.0.1:6379"])
def test_with_an_address_a_run_joins_and_brings_what_workers_need(
    address: str, started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    session.connect(ClusterConfig(), actors=0)
    [options] = started
    assert options["address"] == address
    assert "num_cpus" not in options
    assert options["runtime_env"] == {"env_vars": session.MEMORY}


@pytest.mark.parametrize("address", ["http://h:8265", "https://h", "ray://h:10001"])
def test_what_is_no_address_for_a_run_is_refused_with_the_way_there_is(
    address: str, started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError, match="python -m jobs submit"):
        session.connect(ClusterConfig(), actors=0)
    assert not started


def test_a_machine_too_busy_for_ray_is_told_without_a_traceback(
    started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(**_: Any) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(session.ray, "init", late)
    with pytest.raises(UserError, match=r"did not start .* in 120 s.*run the same command"):
        session.connect(ClusterConfig(workers=2, cpus_per_worker=1), actors=0)


def test_where_nobody_listens_no_cluster_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"127.0.0.1:1: no cluster answers there"):
        session.join("127.0.0.1:1")


def test_a_cluster_that_does_not_let_us_in_is_told_with_the_remedy(
    started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> None:
        raise ConnectionError("Failed to connect\nmore")

    monkeypatch.setattr(session.ray, "init", refuse)
    with pytest.raises(UserError, match="if it has a token, set RAY_AUTH_MODE"):
        session.join("10.0.0.1:6379")


def test_processes_started_inside_have_the_variables_and_those_behind_have_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HUMPTY_A", "before")
    with environment({"HUMPTY_A": "1", "HUMPTY_B": "2"}):
        assert (os.environ["HUMPTY_A"], os.environ["HUMPTY_B"]) == ("1", "2")
    assert os.environ["HUMPTY_A"] == "before" and "HUMPTY_B" not in os.environ


@pytest.mark.ray
@pytest.mark.slow
def test_a_process_that_cannot_exit_does_not_outlive_its_cluster(tmp_path: Path) -> None:
    program = """
import atexit, os, sys, threading, time, ray
from cluster.config import ClusterConfig
from cluster.session import session

exiting = sys.argv[1]

def stay():
    open(exiting, "w").close()
    threading.Event().wait()

@ray.remote(num_cpus=0)
class Stuck:
    def pid(self):
        atexit.register(stay)
        return os.getpid()

with session(ClusterConfig(cpus_per_worker=1)):
    stuck = Stuck.remote()
    pid = ray.get(stuck.pid.remote())
    del stuck
    while not os.path.exists(exiting):
        time.sleep(0.05)
print(pid)
"""
    environment = {key: os.environ[key] for key in os.environ if not key.startswith("RAY_")}
    command = [sys.executable, "-c", program, str(tmp_path / "exiting")]
    told = subprocess.check_output(command, text=True, cwd=ROOT, env=environment, timeout=300)
    assert not title(int(told.split()[-1])).startswith("ray::")

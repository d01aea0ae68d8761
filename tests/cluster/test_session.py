"""How a driver comes to its cluster, and parts from it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.session import environment
from llm.processes import title

ROOT = Path(__file__).parents[2]


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

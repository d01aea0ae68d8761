"""The private cluster of a rehearsal, and the processes in it that are to be killed."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from llm.errors import TrainingError
from llm.processes import children, title

ROOT = Path(__file__).resolve().parent.parent

LEARNERS = ("ray::RayTrainWorker",)
FEEDERS = ("ray::MapBatches", "ray::ReadRange", "ray::StreamingRepartition")
"""What Ray calls the processes that train, and those that read and tokenise for them."""

PATIENCE = 30.0
"""Seconds."""


class Playground:
    """A cluster whose parts may be killed; `environment` lets `jobs run` join it."""

    def __init__(
        self, process: subprocess.Popen[str], environment: dict[str, str], log: Path
    ) -> None:
        self.process, self.log = process, log
        self._listen()
        self.environment = {**environment, "RAY_ADDRESS": self.address}

    def kill_node(self) -> None:
        """The node and all that runs on it is gone at once, and another one joins."""
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self._listen()

    def _listen(self) -> None:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            said = self.log.read_text().strip().rpartition("\n")[2]
            raise TrainingError(f"the cluster of the rehearsal does not start: {said}")
        ready = json.loads(line)
        self.address, self.raylet = ready["address"], ready["raylet"]

    def learners(self) -> list[int]:
        """Processes that train."""
        return self._named(LEARNERS)

    def feeders(self) -> list[int]:
        """Processes that read and tokenise what it trains on."""
        return self._named(FEEDERS)

    def wait_for_no_learners(self) -> None:
        """Workers outlive a driver that was killed by about a second."""
        deadline = time.monotonic() + PATIENCE
        while self.learners():
            assert time.monotonic() < deadline, "workers outlive their driver"
            time.sleep(0.05)

    def _named(self, names: tuple[str, ...]) -> list[int]:
        return [pid for pid in children(self.raylet) if title(pid).startswith(names)]


@contextmanager
def playground(folder: Path, cpus: int, path: Path) -> Iterator[Playground]:
    """A cluster that ends with the block; its log is in `folder`, its processes import from `path`.

    The folder's name must be short, since sockets lie below it.
    """
    environment = {
        **os.environ,
        "RAY_TMPDIR": str(folder),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "PYTHONPATH": os.pathsep.join((str(path), str(ROOT))),
    }
    environment.pop("RAY_ADDRESS", None)
    log = folder / "cluster.log"
    with open(log, "w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "cluster.rehearsal", str(cpus)],
            env=environment,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            start_new_session=True,  # Ctrl-C is for us to tell it of
        )
    try:
        yield Playground(process, environment, log)
    finally:
        assert process.stdin
        process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)


def kill(pid: int) -> None:
    """Kill a process, if it is still there."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)

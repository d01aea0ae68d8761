"""The head of a cluster as an operator starts it: `ray start`, a token, ports of its own."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

RAY = Path(sys.executable).with_name("ray")

PORTS = (
    "--port",
    "--dashboard-port",
    "--ray-client-server-port",
    "--object-manager-port",
    "--node-manager-port",
    "--dashboard-agent-listen-port",
    "--dashboard-agent-grpc-port",
    "--metrics-export-port",
    "--runtime-env-agent-port",
)

TRIES = 3

PATIENT = {"RAY_raylet_start_wait_time_s": "120"}
"""Ray's 30 s pass where the other core's tests compile."""


@dataclass(frozen=True)
class Head:
    """A cluster of one node, seen from outside."""

    url: str
    gcs: str
    token: str

    @property
    def environment(self) -> dict[str, str]:
        """Of somebody who knows the token; nothing else of Ray's."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        # Jobs say `python`, which a cluster has; here it is that of the tests.
        path = os.pathsep.join((str(RAY.parent), own.get("PATH", "")))
        return {**own, "PATH": path, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}


@contextmanager
def head(cpus: int) -> Iterator[Head]:
    """A head that ends with the block."""
    with tempfile.TemporaryDirectory(prefix="h", dir="/tmp", ignore_cleanup_errors=True) as folder:
        known, process = started(cpus, folder)
        try:
            yield known
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def started(cpus: int, folder: str) -> tuple[Head, subprocess.Popen[str]]:
    """A head that is up: a port that was free may be another's before Ray has taken it."""
    for attempt in range(TRIES):
        own = Path(folder) / str(attempt)
        own.mkdir()
        flags = {name: str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)}
        known = Head(
            f"http://127.0.0.1:{flags['--dashboard-port']}",
            f"127.0.0.1:{flags['--port']}",
            secrets.token_hex(16),
        )
        command = [str(RAY), "start", "--head", "--block", "--disable-usage-stats"]
        command += [f"--num-cpus={cpus}", f"--object-store-memory={200 << 20}"]
        command += [word for flag in flags.items() for word in flag]
        process = subprocess.Popen(
            command,
            env={**known.environment, **PATIENT, "RAY_TMPDIR": str(own)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said = heard("--block", process)
        if process.poll() is None:
            return known, process
    raise AssertionError(said)


def heard(words: str, process: subprocess.Popen[str]) -> str:
    """What a process says until it says this, or ends."""
    assert process.stdout
    said = []
    for line in process.stdout:
        said.append(line)
        if words in line:
            return "".join(said)
    process.wait()
    return "".join(said)


def free_ports(count: int) -> list[int]:
    """Where nobody listens now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]

"""Hosts on this machine with names, addresses and cables of their own, and a Ray cluster on them.

A host is a network namespace, joined to the others by a veth pair and a bridge that lies in a
namespace of its own, so that nothing of this machine's network changes. Ray is started as on real
machines (`ray start --head`, `--address`), and again whenever it ends there, as a service would be.
A cable can be cut. Needs root and `ip`; tests skip where they are not to be had.

    python -m tests.hosts MARK FOLDER

is the process that removes all hosts of a mark, with all that runs on them, when its input ends:
when the test has ended, or was killed.
"""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

NETWORK = "10.77.0"

PORT = 6379
"""Of the cluster; nobody else is in the head's namespace."""

STORE_BYTES = 200 << 20

SERVE = 'hostname "$1"; [ -z "$2" ] || mount -t tmpfs none "$2"; shift 2; exec "$@"'
"""Runs a command under a host's name, an empty disk of its own being mounted if one is named."""

AGAIN = 'while :; do "$@"; sleep 1; done'
"""Runs a command again whenever it ends."""


def ip(*arguments: str) -> None:
    """The `ip` of iproute2."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def require_namespaces() -> None:
    """Skip where network namespaces cannot be made."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("needs root and `ip` to make network namespaces")
    probe = f"probe{os.getpid()}"
    try:
        ip("netns", "add", probe)
        ip("netns", "del", probe)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces are not to be had: {error.stderr.strip()}")


@dataclass
class Hosts:
    """All hosts of a test; the first is the cluster's head, which computes nothing."""

    folder: Path
    """Short, since Ray puts sockets below it."""
    mark: str
    """What the names of all its namespaces begin with."""
    addresses: dict[str, str] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self.environment = {
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(16),
            "RAY_TMPDIR": str(self.folder),
            "RAY_raylet_start_wait_time_s": "300",  # two cores start many processes at once
            "PYTHONPATH": str(ROOT),
        }
        self.environment.pop("RAY_ADDRESS", None)
        self._namespace("switch")
        ip("-n", self._name("switch"), "link", "add", "bridge", "type", "bridge")
        ip("-n", self._name("switch"), "link", "set", "bridge", "up")

    # -- cables ------------------------------------------------------------------------------------

    def plug(self, host: str) -> None:
        """A new host with a cable."""
        self._namespace(host)
        own, switch = self._name(host), self._name("switch")
        self.addresses[host] = f"{NETWORK}.{next(self.numbers)}"
        ip("-n", switch, "link", "add", host, "type", "veth", "peer", "eth0", "netns", own)
        ip("-n", switch, "link", "set", host, "master", "bridge", "up")
        ip("-n", own, "addr", "add", f"{self.addresses[host]}/24", "dev", "eth0")
        ip("-n", own, "link", "set", "eth0", "up")

    def cut(self, host: str) -> None:
        """Nothing gets through any more, and nobody is told."""
        ip("-n", self._name("switch"), "link", "set", host, "down")

    def mend(self, host: str) -> None:
        """The cable is whole again."""
        ip("-n", self._name("switch"), "link", "set", host, "up")

    def forbid(self, host: str, other: str) -> None:
        """A host is kept from another one by a rule."""
        ip("-n", self._name(host), "route", "add", "prohibit", f"{self.addresses[other]}/32")

    # -- Ray ---------------------------------------------------------------------------------------

    def on(self, host: str, private: Path | None = None) -> list[str]:
        """What comes before a command that is to run on a host."""
        enter = ["ip", "netns", "exec", self._name(host), "unshare", "--uts"]
        return [*enter, "sh", "-c", SERVE, "sh", host, str(private or "")]

    def start_head(self, config: str) -> None:
        """The cluster, with settings of Ray's own."""
        self.plug("head")
        options = ["--head", f"--port={PORT}", "--num-cpus=0", f"--system-config={config}"]
        process, log = self._ray("head", [], options)
        self.environment["RAY_ADDRESS"] = f"{self.addresses['head']}:{PORT}"
        wait_for(process, log, "Ray runtime started")

    def start(self, host: str, cpus: int, private: Path | None = None) -> None:
        """A host that joins the cluster, again whenever it falls out of it."""
        self.plug(host)
        options = [f"--address={self.environment['RAY_ADDRESS']}", f"--num-cpus={cpus}"]
        again = ["sh", "-c", AGAIN, "sh"]
        process, log = self._ray(host, again, options, private)
        wait_for(process, log, "Ray runtime started")

    def _ray(
        self, host: str, before: list[str], options: list[str], private: Path | None = None
    ) -> tuple[subprocess.Popen[bytes], Path]:
        ray = str(Path(sys.executable).with_name("ray"))
        log = self.folder / f"{host}.log"
        common = [
            "--block",
            f"--node-ip-address={self.addresses[host]}",
            f"--object-store-memory={STORE_BYTES}",
            "--disable-usage-stats",
        ]
        command = [*self.on(host, private), *before, ray, "start", *options, *common]
        environment = {n: v for n, v in self.environment.items() if n != "RAY_ADDRESS"}
        with open(log, "wb") as out:
            return subprocess.Popen(command, env=environment, stdout=out, stderr=out), log

    # -- namespaces --------------------------------------------------------------------------------

    def _name(self, host: str) -> str:
        return f"{self.mark}-{host}"

    def _namespace(self, host: str) -> None:
        ip("netns", "add", self._name(host))
        ip("-n", self._name(host), "link", "set", "lo", "up")


def wait_for(process: subprocess.Popen[bytes], log: Path, words: str) -> None:
    """Until they stand in the log of a process that runs."""
    while words not in log.read_text(errors="replace"):
        assert process.poll() is None, log.read_text(errors="replace")
        time.sleep(0.2)


@contextmanager
def hosts() -> Iterator[Hosts]:
    """Hosts that are gone, with all that runs on them, when the block ends, however it ends."""
    require_namespaces()
    folder = Path(tempfile.mkdtemp(prefix="h", dir="/tmp"))
    mark = folder.name  # also where two of them are up at once
    remover = subprocess.Popen(
        [sys.executable, "-m", "tests.hosts", mark, str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield Hosts(folder, mark)
    finally:
        assert remover.stdin
        remover.stdin.close()
        remover.wait(timeout=60)


def remove(mark: str, folder: Path) -> None:
    """End all that runs on the hosts of a mark, then the hosts, then what they have written."""
    listed = subprocess.check_output(["ip", "netns", "list"], text=True).splitlines()
    for name in (line.split()[0] for line in listed if line.startswith(f"{mark}-")):
        while pids := subprocess.check_output(["ip", "netns", "pids", name], text=True).split():
            for pid in map(int, pids):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
        ip("netns", "del", name)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.stdin.read()
    remove(sys.argv[1], Path(sys.argv[2]))

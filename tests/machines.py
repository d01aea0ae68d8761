"""A Ray cluster whose machines come, are reclaimed and die, as a test says.

    python -m tests.machines     (with RAY_TMPDIR, RAY_AUTH_MODE and RAY_AUTH_TOKEN set)

A process of its own, since Ray takes such settings when it is imported and knows one cluster. Its
head computes nothing, so that drivers outlive all other nodes. A node is a raylet with its own
object store and workers on this machine.
"""

import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llm.processes import children, title

ROOT = Path(__file__).parent.parent

OBJECT_STORE_BYTES = 200 << 20


class Machines:
    """The test's end of the cluster."""

    def __init__(self, process: subprocess.Popen[str], environment: dict[str, str]) -> None:
        self.process = process
        self.environment = environment | {"RAY_ADDRESS": self._answer()["address"]}
        self.raylets: list[int] = []
        self.ids: list[str] = []
        """Of the nodes, by Ray."""

    def add(self, cpus: int, **labels: str) -> int:
        """Let a node join; returns its number."""
        answer = self._ask("add", cpus, labels)
        self.raylets.append(answer["raylet"])
        self.ids.append(answer["id"])
        return len(self.raylets) - 1

    def kill(self, node: int) -> None:
        """A node is gone at once, as if its power had failed."""
        self._ask("kill", node)

    def reclaim(self, node: int, seconds: float) -> None:
        """Announce that a node will be gone in so many seconds."""
        self._ask("reclaim", node, seconds)

    def processes(self, name: str) -> list[int]:
        """Ray's processes of that title on all nodes, oldest first."""
        running = [pid for raylet in self.raylets for pid in children(raylet)]
        return sorted(pid for pid in running if name in title(pid))

    def _ask(self, *command: Any) -> dict[str, Any]:
        assert self.process.stdin
        print(json.dumps(command), file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise AssertionError("the cluster did not start; see what it wrote above")


@contextmanager
def machines() -> Iterator[Machines]:
    """A cluster without a node yet; it ends with the block."""
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as folder:
        environment = {
            **os.environ,
            "RAY_TMPDIR": folder,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(16),
        }
        environment.pop("RAY_ADDRESS", None)
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.machines"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield Machines(process, environment)
        finally:
            assert process.stdin
            process.stdin.close()
            process.wait(timeout=60)


def serve() -> None:
    """The cluster's end: start a head, then do what the lines of stdin say."""
    from cluster.rehearsal import die, raylet, started

    os.environ["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] = "0"
    cluster = started()
    nodes: list[Any] = []
    tell(address=cluster.address)
    try:
        for line in sys.stdin:
            match json.loads(line):
                case ["add", cpus, labels]:
                    store = OBJECT_STORE_BYTES
                    nodes.append(
                        cluster.add_node(num_cpus=cpus, object_store_memory=store, labels=labels)
                    )
                    tell(raylet=raylet(nodes[-1]), id=nodes[-1].node_id)
                case ["kill", node]:
                    die(cluster, nodes[node])
                    tell()
                case ["reclaim", node, seconds]:
                    reclaim(cluster, nodes[node], seconds)
                    tell()
    finally:
        cluster.shutdown()


def tell(**values: Any) -> None:
    """Answer."""
    print(json.dumps(values), flush=True)


def reclaim(cluster: Any, node: Any, seconds: float) -> None:
    """Tell Ray what a cloud tells of a spot machine."""
    from ray._raylet import GcsClient
    from ray.core.generated.autoscaler_pb2 import DrainNodeReason

    deadline = int((time.time() + seconds) * 1000)
    GcsClient(address=cluster.address).drain_node(
        node.node_id, DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION, "reclaimed", deadline
    )


if __name__ == "__main__":
    serve()

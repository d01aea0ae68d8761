"""A cluster to fall in: a head for drivers and Ray Train's controllers, and a node that computes.

    python -m cluster.rehearsal CPUS     (with RAY_TMPDIR, RAY_AUTH_MODE and RAY_AUTH_TOKEN set)

A process of its own, since Ray takes these settings when it is imported. It prints a line of JSON
when the cluster is ready: its address and the process id of the node's raylet. Every line that it
reads lets the node die at once, with all that runs on it, and another one join; then it prints the
like again. When its input ends the cluster does, too.
"""

import json
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

from ray.cluster_utils import Cluster

from cluster.session import OBJECT_STORE_BYTES, QUIET, WORKER_ENVIRONMENT
from llm.processes import children

NOTICES_FAST = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 3,
    "health_check_timeout_ms": 1000,
}
"""1.4 s until a node that is gone counts as dead (measured); with Ray's own settings 16 s."""


def main(cpus: int) -> None:
    """Start the cluster and serve the lines of stdin."""
    cluster = started()
    try:
        node = joined(cluster, cpus)
        for _ in sys.stdin:
            die(cluster, node)
            node = joined(cluster, cpus)
    finally:
        cluster.shutdown()


def started() -> Cluster:
    """A head that computes nothing."""
    os.environ.update({**WORKER_ENVIRONMENT, **QUIET})
    head = {
        "num_cpus": 0,
        "include_dashboard": True,
        "dashboard_port": free_port(),
        "_system_config": NOTICES_FAST,
    }
    return Cluster(initialize_head=True, head_node_args=head)


def free_port() -> int:
    """Where nobody listens now; Ray's usual port for a dashboard may be another cluster's."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def joined(cluster: Cluster, cpus: int) -> Any:
    """A node that joins, and its line."""
    node = cluster.add_node(num_cpus=cpus, object_store_memory=OBJECT_STORE_BYTES)
    print(json.dumps({"address": cluster.address, "raylet": raylet(node)}), flush=True)
    return node


def die(cluster: Cluster, node: Any) -> None:
    """Everything on a node is gone at once, as if its power had failed."""
    for pid in (raylet(node), *children(raylet(node))):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    cluster.remove_node(node, allow_graceful=False)


def raylet(node: Any) -> int:
    """The process that starts all others of a node."""
    return node.all_processes["raylet"][0].process.pid


if __name__ == "__main__":
    main(int(sys.argv[1]))

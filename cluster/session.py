"""One Ray session: the cluster that RAY_ADDRESS names, or a small one of our own on this machine.

Inside a job Ray has set RAY_ADDRESS, so a job never starts a cluster of its own.

Our own has more logical CPUs than the machine has cores, because Ray Data gets none of those that
training workers hold, and an ingest without a CPU never starts. It is closed to others by the
token that Ray keeps for this user, and its dashboard listens on loopback.

How soon a node that has lost its power counts as gone is up to who starts the cluster, and takes
16 s with Ray's own settings; `ray start --head --system-config` with the four health checks of
`cluster.rehearsal.NOTICES_FAST` makes it 1.4 s (measured).
"""

import logging
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray.data import DataContext  # sets up log handlers, which `quieten` turns down
from ray.exceptions import AuthenticationError

from cluster.access import require_listener
from cluster.config import ClusterConfig
from cluster.datasets import work_on
from cluster.stop import hangups_kept_away
from llm.allocator import MEMORY
from llm.errors import UserError
from llm.processes import children, title

ROOT = Path(__file__).resolve().parent.parent

LEAVE_S = 2.0
"""Seconds that processes of our own cluster may take to exit when it has ended."""

LIGHT_CPUS = 2
"""Logical CPUs for those parts of a stream that only move rows."""

OBJECT_STORE_BYTES = 1 << 30

WORKER_ENVIRONMENT = {
    **MEMORY,
    "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
}

NEVER_RECLAIMED = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}
"""Nobody takes this machine back; saves every group a process that would listen for it."""

START_WAIT_S = 120
"""A machine that others keep busy has taken longer than Ray's 30."""

QUIET = {
    # The controller notices ends and falls at this interval (Ray's default is 2 s).
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    # A place for workers is there at once or not at all, since we look before we begin.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20",
    # A node that will be reclaimed leaves us half a minute.
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray warns on the terminal of ten processes that start together where there are two cores.
    "RAY_worker_maximum_startup_concurrency": "8",
    "RAY_raylet_start_wait_time_s": str(START_WAIT_S),
}


@contextmanager
def session(config: ClusterConfig, actors: int = 0, cpus: int = 0) -> Iterator[None]:
    """Be connected to Ray inside the block; an own cluster ends with it.

    It has room for the workers, the stream and so many actors of a worker's size, and at least so
    many logical CPUs. All work on text that begins in this process goes
    to the nodes that are there for it.
    """
    work_on(config.data.labels, DataContext.get_current())
    if ray.is_initialized():
        yield
        return
    connect(config, actors, cpus)
    try:
        yield
    finally:
        leave()


def leave() -> None:
    """Part from the cluster; our own ends with all its processes.

    One may wait for ever for a thread of its own as it exits (seen once in forty trainings, of Ray
    Train's controller, which kept 450 MB), and nobody would be left to end it.
    """
    node = ray._private.worker._global_node
    raylets: list[Any] = node.all_processes.get("raylet", []) if node else []  # of our own cluster
    started = [pid for raylet in raylets for pid in children(raylet.process.pid)]
    ray.shutdown()
    deadline = time.monotonic() + LEAVE_S
    while left := [pid for pid in started if title(pid).startswith("ray::")]:
        if time.monotonic() > deadline:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return
        time.sleep(0.05)


def quieten() -> None:
    """Leave Ray's chatter to its log files; what goes wrong reaches us as exceptions."""
    for name in ("ray", "ray.data"):
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, logging.StreamHandler):
                handler.setLevel(logging.ERROR)
    # Its raylet's messages come past all loggers, also those of calls that it goes on to repeat.
    ray._private.worker.print_to_stdstream = lambda *_, **__: None


def is_connected() -> bool:
    """Whether this process already has a cluster."""
    return ray.is_initialized()


def dashboard() -> str | None:
    """Where the cluster that this process is connected to shows itself."""
    url = ray._private.worker.get_dashboard_url()
    return f"http://{url}" if url else None


def cpus_of(config: ClusterConfig, actors: int = 0) -> int:
    """Logical CPUs that a training takes, with its stream and actors of a worker's size."""
    busy = (config.most_workers + actors) * config.cpus_per_worker
    return busy + config.ingest_cpus + LIGHT_CPUS


def connect(config: ClusterConfig, actors: int = 0, cpus: int = 0) -> None:
    """Join the cluster of RAY_ADDRESS, else start one here."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    quieten()
    if (address := os.environ.get("RAY_ADDRESS", "")) not in ("", "local"):
        join(address)
        return
    with environment({**WORKER_ENVIRONMENT, **NEVER_RECLAIMED}), hangups_kept_away(), in_time():
        ray.init(
            address="local",
            num_cpus=max(os.cpu_count() or 1, cpus_of(config, actors), cpus),
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=True,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )


@contextmanager
def in_time() -> Iterator[None]:
    """Ray that does not come up for long, which it tells by a bare Exception, is a UserError."""
    try:
        yield
    except Exception as error:
        if "timed out" not in str(error):
            raise
        raise UserError(
            f"Ray did not start on this machine in {START_WAIT_S} s: it is too busy or short of "
            "memory; end other work and run the same command again, what is done stays done "
            "(its logs: /tmp/ray/session_latest/logs)"
        ) from error


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Processes started inside the block, and all that those start, have these variables.

    As a `runtime_env` they would cost every worker process a second start of Python, half a second
    of a core (measured), and a training's group is eight such processes.
    """
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def join(address: str) -> None:
    """Be a driver of the cluster at an address; UserError if that is none, or does not let us."""
    if address.startswith(("http://", "https://", "ray://")):
        raise UserError(
            f"RAY_ADDRESS={address}: a run here cannot reach into a cluster from outside; send it "
            "there with `python -m jobs submit`, or give, on a node of it, its GCS, HOST:6379"
        )
    if address != "auto":
        require_listener(address)
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": MEMORY},
        )
    except (ConnectionError, RuntimeError, AuthenticationError) as error:
        said = str(error).strip().partition("\n")[0]
        raise UserError(
            f"RAY_ADDRESS={address}: the cluster cannot be joined ({said}); if it has a token, set "
            "RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
        ) from error

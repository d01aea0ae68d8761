"""A service on a small Ray cluster, for tests: stand-in engines, and what they are doing."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import serve

from cluster.session import QUIET, WORKER_ENVIRONMENT
from deploy.config import AutoscalingConfig, EngineConfig, LimitsConfig, ServeConfig
from deploy.serve import Server, start
from deploy.service import APP, ENGINES, ModelSource
from tests.deploy.stand_in import write_stand_in

STAND_IN = "tests.deploy.stand_in:StandIn"


@contextmanager
def small_cluster() -> Iterator[None]:
    """A cluster of four logical CPUs, or the one that is there."""
    if ray.is_initialized():
        yield
        return
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    ray.init(
        address="local",
        num_cpus=4,
        object_store_memory=300 << 20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": WORKER_ENVIRONMENT},
    )
    try:
        yield
    finally:
        ray.shutdown()


def config(
    *, slots: int = 16, replicas: tuple[int, int] = (1, 1), queue: int = 128, **autoscaling: Any
) -> ServeConfig:
    """Open to all, with room for crowds."""
    scaling = {"target": slots * 0.75, "upscale_delay": 0.5, "downscale_delay": 2.0, **autoscaling}
    return ServeConfig(
        port=0,
        auth=False,
        engine=EngineConfig(slots=slots, tokens=4096 * slots, cpus=1),
        autoscaling=AutoscalingConfig(min=replicas[0], max=replicas[1], **scaling),
        limits=LimitsConfig(
            queue=queue, concurrency=10_000, requests_per_minute=1_000_000, drain=5.0
        ),
    )


def model(folder: Path, name: str, id: str = "humpty", **settings: Any) -> ModelSource:
    """A stand-in's folder."""
    return ModelSource(id, str(write_stand_in(folder / name, **settings)), created=1)


@contextmanager
def service(models: list[ModelSource], config: ServeConfig, **more: Any) -> Iterator[Server]:
    """Served inside the block."""
    server = start(models, config, **{"keys": None, "feedback": None, "engine": STAND_IN, **more})
    try:
        yield server
    finally:
        server.stop()


def replicas(deployment: str = ENGINES) -> dict[str, Any]:
    """Actors of a deployment's replicas that are there, by name."""
    named = ray.util.list_named_actors(all_namespaces=True)
    start = f"SERVE_REPLICA::{APP}#{deployment}#"
    return {
        each["name"]: ray.get_actor(each["name"], namespace=each["namespace"])
        for each in named
        if each["name"].startswith(start)
    }


def loads() -> list[Any]:
    """What every replica's engines are doing."""
    answers = serve.get_deployment_handle(ENGINES, APP).broadcast("load").results()
    return [load for answer in answers for load in answer.values()]


def running() -> int:
    """Texts that have a slot, and those that wait for one, in all replicas."""
    return sum(load.running + load.waiting for load in loads())


def until(true: Callable[[], bool], seconds: float, what: str) -> float:
    """Ask again and again, since another process tells nobody; the seconds that it took."""
    begin = time.monotonic()
    while not true():
        assert time.monotonic() - begin < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - begin

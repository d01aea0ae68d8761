"""How many workers the cluster has room for.

Ray Train can resize groups by itself, but by a list of nodes that is up to 20 s old, waits 60 s for
a place on a node that has died, takes every CPU including those that the stream needs, and ends a
group without a warning (measured, Ray 2.60). So we count ourselves and begin a group of a fixed
size each time.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import ray
import ray._private.state
from ray.autoscaler.sdk import request_resources

from cluster.config import ClusterConfig
from cluster.labels import meets

Resources = dict[str, float]

STREAM_CPUS = 1
"""That a stream needs besides the workers: it never starts without one."""


@dataclass(frozen=True)
class Demand:
    """What a training needs of a cluster."""

    worker: Resources
    """Of one worker."""
    least: int
    most: int
    """Workers."""
    spare_cpus: float
    """Besides all workers, on the same nodes: for actors that write or judge, and for the stream
    unless it has nodes of its own."""
    labels: dict[str, str] = field(default_factory=dict)
    """That the workers' nodes have."""


def demand_of(cluster: ClusterConfig, spare_cpus: float = 0) -> Demand:
    """What a cluster config asks for."""
    worker: Resources = {"CPU": cluster.cpus_per_worker, **cluster.train.resources}
    if cluster.gpus_per_worker:
        worker["GPU"] = cluster.gpus_per_worker
    labels = cluster.train.labels
    return Demand(worker, cluster.least_workers, cluster.most_workers, spare_cpus, labels)


def stream_cpus(cluster: ClusterConfig) -> int:
    """What is kept for a stream on the workers' nodes: nothing if either have nodes of their own
    (`cluster.fit` sees to it that the stream has a CPU somewhere)."""
    return 0 if cluster.data.labels or cluster.train.labels else STREAM_CPUS


def room_in(nodes: Iterable[Resources], demand: Demand) -> int:
    """Workers that fit on nodes of these resources, `most` of them at most."""
    nodes = list(nodes)
    fit = sum(workers_on(node, demand) for node in nodes)
    cpus = sum(node.get("CPU", 0) for node in nodes) - demand.spare_cpus
    return max(0, min(fit, int(cpus / demand.worker["CPU"] + 1e-6), demand.most))


def workers_on(node: Resources, demand: Demand) -> int:
    """Workers that fit on a node of these resources."""
    return min(int(node.get(name, 0) / wanted + 1e-6) for name, wanted in demand.worker.items())


def usable_nodes(demand: Demand) -> list[Resources]:
    """Resources of the nodes that are alive, stay, and have the labels."""
    leaving = ray._private.state.state.get_draining_nodes()
    return [
        node["Resources"]
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] not in leaving and meets(node["Labels"], demand.labels)
    ]


def alive_nodes() -> set[str]:
    """Ray's names of the nodes that there are."""
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def ask_for(demand: Demand, workers: int) -> None:
    """Have an autoscaler, if there is one, hold this much ready; no workers: nothing."""
    spare = [{"CPU": 1.0}] * int(demand.spare_cpus if workers else 0)
    bundles = [demand.worker] * workers + spare
    request_resources(bundles=bundles, bundle_label_selectors=[demand.labels] * len(bundles))

"""Whether a stage has room on a cluster as it is now: what nodes there are in, findings out.

Ray waits for ever for a place that no node offers. So before a stage starts its needs are held
against the nodes as Ray lists them; everything here is pure. `cluster.looks` goes on with what
nodes say of themselves.

A finding names a key of the spec, what it asks for, what there is, and the remedy. Of several that
have one cause only the first is told.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from cluster.config import ClusterConfig
from cluster.labels import meets, written
from cluster.room import Demand, Resources, room_in, workers_on
from llm.metrics import size_of

SHOWN = 4
"""Nodes that a finding names before it counts the rest."""

Keys = tuple[str | int, ...]


class Finding(NamedTuple):
    """What does not fit."""

    keys: Keys
    """Of the spec."""
    text: str
    more: bool = False
    """More or other nodes would mend it, so an autoscaler might."""


@dataclass(frozen=True)
class Node:
    """A node as Ray lists it."""

    id: str
    name: str
    """Tells it from all others."""
    address: str
    resources: Resources
    labels: Mapping[str, str]

    @property
    def cpus(self) -> float:
        """Cores that Ray gives to tasks and workers."""
        return self.resources.get("CPU", 0)


@dataclass(frozen=True)
class Needs:
    """What a stage needs of a cluster."""

    cluster: ClusterConfig
    stage: Keys
    """Its place in the spec."""
    demand: Demand | None = None
    """Of its workers; None if it trains nothing."""
    text: bool = True
    """It reads text by Ray Data."""
    worker_bytes: int = 0
    """Memory of a worker, 0 if nobody knows."""
    chunk_bytes: int = 0
    """The largest block of the stream that feeds its workers; 0: there is none."""
    storage: str = ""
    """Folder that all nodes share."""
    texts: Mapping[Keys, tuple[str, ...]] = field(default_factory=dict)
    """Patterns of the local files that its tasks read, by their place in the spec."""

    def trains_on(self, node: Node) -> bool:
        """Whether its workers may be there."""
        return self.demand is not None and meets(node.labels, self.demand.labels) and node.cpus > 0

    def reads_on(self, node: Node) -> bool:
        """Whether its work on text may be there."""
        return self.text and meets(node.labels, self.cluster.data.labels) and node.cpus > 0

    def uses(self, node: Node) -> bool:
        """Whether anything of it may be there."""
        return self.trains_on(node) or self.reads_on(node)


def of_room(nodes: list[Node], needs: Needs) -> list[Finding]:
    """What the nodes lack."""
    found = [*of_workers(nodes, needs)] if needs.demand else []
    if needs.text:
        found += of_data(nodes, needs, placed=not found)
    return found


def of_workers(nodes: list[Node], needs: Needs) -> Iterator[Finding]:
    """The workers' part: at most one finding."""
    demand = needs.demand
    assert demand is not None
    fitting = [node for node in nodes if meets(node.labels, demand.labels)]
    if not fitting:
        yield no_label(("cluster", "train", "labels"), demand.labels, nodes)
        return
    for name, wanted in demand.worker.items():
        most = max(fitting, key=lambda node: node.resources.get(name, 0))
        there = most.resources.get(name, 0)
        if there + 1e-6 < wanted:
            yield too_large(name, wanted, there, most.name, demand.labels)
            return
    room = room_in([node.resources for node in fitting], demand)
    if room < demand.least:
        yield too_few(fitting, demand, room)
    elif crowded := [*of_memory(fitting, needs)]:
        yield crowded[0]


def no_label(keys: Keys, selector: Mapping[str, str], nodes: list[Node]) -> Finding:
    """Labels that no node has."""
    counts: dict[str, int] = {}
    for node in nodes:
        for key, value in node.labels.items():
            if not key.startswith("ray.io/"):
                counts[f"{key}={value}"] = counts.get(f"{key}={value}", 0) + 1
    there = ", ".join(f"{label} ({count})" for label, count in sorted(counts.items()))
    there = f"its nodes have {there}" if there else "none of its nodes has a label"
    wanted = written(selector)
    remedy = f"correct it, or start nodes with `ray start --labels {wanted.replace(', ', ',')}`"
    return Finding(keys, f"no node of the cluster has {wanted}; {there}; {remedy}", more=True)


def too_large(
    name: str, wanted: float, there: float, where: str, labels: Mapping[str, str]
) -> Finding:
    """A worker that fits on no node."""
    who = f"node with {written(labels)}" if labels else "node"
    largest = f"the most that one has is {there:g} ({where})" if there else "none has any"
    if name == "GPU":
        keys: Keys = ("cluster", "gpus_per_worker")
        remedy = "lower it" if there else "set it to 0 to train on CPUs"
        ready = "add nodes with more GPUs"
    elif name == "CPU":
        keys = ("cluster", "cpus_per_worker")
        remedy, ready = "lower it", "add larger nodes"
    else:
        keys = ("cluster", "train", "resources", name)
        remedy = "lower it" if there else "correct the name"
        ready = f"start nodes with `ray start --resources '{{\"{name}\": {wanted:g}}}'`"
    unit = name if name in ("CPU", "GPU") else f"'{name}'"
    return Finding(
        keys, f"no {who} has {wanted:g} {unit} for a worker; {largest}; {remedy}, or {ready}", True
    )


def too_few(nodes: list[Node], demand: Demand, room: int) -> Finding:
    """Fewer places than workers."""
    each = " and ".join(f"{amount:g} {name}" for name, amount in demand.worker.items())
    besides = f" besides {demand.spare_cpus:g} CPU for other work" if demand.spare_cpus else ""
    nodes = [node for node in nodes if node.cpus]
    there = ", ".join(holdings(node, demand) for node in nodes[:SHOWN])
    rest = f", and {len(nodes) - SHOWN} more" if len(nodes) > SHOWN else ""
    lower = f"set it to {room}, " if room else "lower cluster.cpus_per_worker, "
    return Finding(
        ("cluster", "workers"),
        f"no room for {demand.least} workers of {each} each{besides}, but for {room}: {there}{rest}"
        f"; {lower}or add nodes",
        more=True,
    )


def holdings(node: Node, demand: Demand) -> str:
    """`a has 4 CPU and 1 GPU`"""
    amounts = (f"{node.resources.get(name, 0):g} {name}" for name in demand.worker)
    return f"{node.name} has {' and '.join(amounts)}"


def of_memory(nodes: list[Node], needs: Needs) -> Iterator[Finding]:
    """Nodes on which the workers that Ray packs onto them do not fit into memory."""
    assert needs.demand is not None
    if not needs.worker_bytes or "GPU" in needs.demand.worker:
        return
    for node in nodes:
        there = node.resources.get("memory", float("inf"))
        workers = min(needs.demand.least, workers_on(node.resources, needs.demand))
        if workers and workers * needs.worker_bytes > there:
            what = f"{workers} workers" if workers > 1 else "a worker"
            each = f" of {size_of(needs.worker_bytes)} each" if workers > 1 else ""
            need = "" if workers > 1 else f" of {size_of(needs.worker_bytes)}"
            yield Finding(
                needs.stage,
                f"{node.name} has {size_of(int(there))} of memory, too little for {what}{each}"
                f"{need}; lower micro_batch or the model's size, raise cluster.cpus_per_worker so "
                "that fewer share a node, set cluster.strategy to fsdp, or add larger nodes",
            )


def of_data(nodes: list[Node], needs: Needs, placed: bool) -> Iterator[Finding]:
    """The part of reading and tokenising: at most one finding.

    Its CPUs are counted besides those of workers only if these have found a place.
    """
    cluster = needs.cluster
    keys: Keys = ("cluster", "data", "labels")
    labels = cluster.data.labels
    if not any(meets(node.labels, labels) for node in nodes):
        yield no_label(keys, labels, nodes)
        return
    reading = [node for node in nodes if needs.reads_on(node)]
    who = f"nodes with {written(labels)}" if labels else "the cluster's nodes"
    where = keys if labels else ("cluster",)
    if not reading:
        text = f"{who} have no CPU to read text with; start them with `ray start --num-cpus N`"
        yield Finding(where, text, more=True)
    elif placed and needs.chunk_bytes and cpus_left(nodes, needs) < 1 - 1e-6:
        yield Finding(
            where,
            f"{who} have no CPU besides those of the workers, so their text would never be read; "
            "lower cluster.workers or cluster.cpus_per_worker, or add nodes",
            more=True,
        )
    elif (store := sum(node.resources.get("object_store_memory", 0) for node in reading)) < (
        needs.chunk_bytes * BLOCKS_AT_ONCE
    ):
        yield Finding(
            needs.stage,
            f"{who} have {size_of(int(store))} of object store, too little for the stream, whose "
            f"blocks take {size_of(needs.chunk_bytes)} each and {BLOCKS_AT_ONCE} are on their way; "
            "lower batch or context, or start nodes with a larger --object-store-memory",
        )


BLOCKS_AT_ONCE = 4
"""One for each operator of a stream."""


def cpus_left(nodes: list[Node], needs: Needs) -> float:
    """CPUs for text, when as many workers as there may be least are on other nodes."""
    demand = needs.demand
    assert demand is not None
    training = [node for node in nodes if needs.trains_on(node)]
    elsewhere = [node.resources for node in training if not needs.reads_on(node)]
    here = max(0, demand.least - sum(workers_on(one, demand) for one in elsewhere))
    cpus = sum(node.cpus for node in nodes if needs.reads_on(node))
    return cpus - here * demand.worker["CPU"]

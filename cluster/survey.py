"""Asks every node of a cluster about itself: versions, storage, texts, GPUs, network.

One actor on each node that a stage may use, without a CPU of its own, all at the same time; a node
that does not answer in `ANSWER_S` is named in place of being waited for. A cluster that is the
driver's own machine alone is not asked, since the driver knows it. What a node's actor cannot even
import says that the code is not there.
"""

import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import ray._private.state
from ray import ObjectRef
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.fit import Needs, Node
from cluster.looks import Look, Silent
from cluster.network import neighbours
from cluster.scout import Errand, Scout, read_soon, versions

ANSWER_S = 30.0
"""Seconds that all nodes together may take to answer a question; actors start in one or two."""


def nodes_of_cluster() -> list[Node]:
    """The nodes that are alive and stay, those with most CPUs first."""
    leaving = ray._private.state.state.get_draining_nodes()
    alive = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] not in leaving]
    hosts = [node["NodeManagerHostname"] for node in alive]
    nodes = [
        Node(
            node["NodeID"],
            host if hosts.count(host) == 1 else f"{host}/{node['NodeID'][-6:]}",
            node["NodeManagerAddress"],
            node["Resources"],
            node["Labels"],
        )
        for node, host in zip(alive, hosts, strict=True)
    ]
    return sorted(nodes, key=lambda node: (-node.cpus, node.name))


def survey(nodes: list[Node], needs: Needs) -> tuple[list[Node], dict[str, Look | Silent], Look]:
    """The nodes that the stage may use but the driver's, what they say, and the driver's look."""
    here = ray.get_runtime_context().get_node_id()
    asked = [node for node in nodes if needs.uses(node) and node.id != here]
    driver = Look(versions())
    if not asked:
        return [], {}, driver
    texts = tuple(pattern for patterns in needs.texts.values() for pattern in patterns)
    gpus = needs.demand is not None and "GPU" in needs.demand.worker
    with meeting(Path(needs.storage)) as folder, scouts(asked) as sent:
        errands = [Errand(folder, texts, gpus and needs.trains_on(node)) for node in asked]
        looks = answers([s.look.remote(e) for s, e in zip(sent, errands, strict=True)])
        looks = [came_back(folder, n, look) for n, look in zip(asked, looks, strict=True)]
        training = [
            (node, scout)
            for node, scout, look in zip(asked, sent, looks, strict=True)
            if needs.trains_on(node) and isinstance(look, Look)
        ]
        unreached = knocked([node for node, _ in training], [scout for _, scout in training])
    told = dict(zip([node.id for node in asked], looks, strict=True))
    for node, found in unreached.items():
        look = told[node]
        assert isinstance(look, Look)
        told[node] = replace(look, unreached=found)
    return asked, told, driver


@contextmanager
def meeting(storage: Path) -> Iterator[Path]:
    """A folder in the storage that no node can have heard of, with a word of the driver's."""
    folder = storage / f".meeting-{secrets.token_hex(6)}"
    folder.mkdir(parents=True)
    (folder / "driver").write_text(folder.name)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def scouts(nodes: list[Node]) -> Iterator[list[Any]]:
    """An actor on each node."""
    sent: list[Any] = [
        ray.remote(Scout)
        .options(
            num_cpus=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
        )
        .remote(node.id, node.address)
        for node in nodes
    ]
    try:
        yield sent
    finally:
        for scout in sent:
            ray.kill(scout)


def answers(asked: list[ObjectRef]) -> list[Any]:
    """What each call gives, or why it gives nothing."""
    end = time.monotonic() + ANSWER_S
    return [answer(one, max(0.0, end - time.monotonic())) for one in asked]


def answer(asked: ObjectRef, seconds: float) -> Any:
    """What a call gives."""
    try:
        return ray.get(asked, timeout=seconds)
    except GetTimeoutError:
        return Silent(
            f"has not answered for {ANSWER_S:g} s; see whether it is overloaded or cut off "
            "(`ray status`), or take it out of the cluster"
        )
    except RayError as error:
        return Silent(why_silent(str(error)))


def why_silent(error: str) -> str:
    """An actor's death in our words."""
    missing = next((line for line in error.splitlines() if "No module named" in line), None)
    if missing:
        return (
            f"cannot run the code ({missing.strip()}); put the checkout and its packages there, "
            "or start the run by `ray job submit --working-dir .`"
        )
    return f"cannot be asked: {error.strip().splitlines()[0]}; see `ray status`"


def came_back(folder: Path, node: Node, look: Look | Silent) -> Look | Silent:
    """The look, with whether the driver sees what the node has written."""
    if isinstance(look, Silent) or look.storage:
        return look
    if read_soon(folder / node.id) == folder.name:
        return look
    return replace(look, storage="the driver does not see what is written")


def knocked(nodes: list[Node], sent: list[Any]) -> dict[str, dict[str, str]]:
    """Of each node's id, by name, why it does not get through to others."""
    if len(nodes) < 2:
        return {}
    ports = answers([scout.open.remote() for scout in sent])
    doors = {
        node.name: (node.address, port)
        for node, port in zip(nodes, ports, strict=True)
        if isinstance(port, int)
    }
    names = list(doors)
    calls = [
        scout.knock.remote(
            {name: doors[name] for name in neighbours(names, names.index(node.name))}
        )
        for node, scout in zip(nodes, sent, strict=True)
        if node.name in doors
    ]
    said = answers(calls)
    ids = [node.id for node in nodes if node.name in doors]
    return {id: found for id, found in zip(ids, said, strict=True) if isinstance(found, dict)}

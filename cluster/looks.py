"""Whether nodes are fit for a stage by what they say of themselves (`cluster.survey` asks them).

A worker that cannot read the storage or reach its neighbours, or that runs other code, fails late
and in other words. All of this is pure, and goes by what the driver says of itself.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from cluster.fit import SHOWN, Finding, Keys, Needs, Node
from llm.metrics import size_of


@dataclass(frozen=True)
class Look:
    """What a node said of itself; the driver's own is what it is held against."""

    versions: Mapping[str, str]
    """Of python, ray, torch, and of our own code, by name."""
    storage: str = ""
    """Why it cannot use what the driver has written to the storage; empty: it can."""
    missing: tuple[str, ...] = ()
    """Patterns of texts of which it finds no file."""
    gpu_bytes: int | None = None
    """Memory of its smallest GPU; 0: torch finds none; None: nobody asked."""
    unreached: Mapping[str, str] = field(default_factory=dict)
    """Why it does not get through to other nodes, by their names."""


@dataclass(frozen=True)
class Silent:
    """In place of a look: why there is none."""

    why: str


def of_looks(
    nodes: list[Node], looks: Mapping[str, Look | Silent], driver: Look, needs: Needs
) -> list[Finding]:
    """What is wrong with nodes, of which `looks` has what they said, by id."""
    silent = [(node, look) for node in nodes if isinstance(look := looks[node.id], Silent)]
    if silent:
        return [
            Finding(("cluster",), f"node {node.name} ({node.address}) {look.why}")
            for node, look in silent
        ]
    seen = [(node, look) for node in nodes if isinstance(look := looks[node.id], Look)]
    return [
        *of_versions(seen, driver, needs),
        *of_storage(seen, needs),
        *of_texts(seen, needs),
        *of_gpus(seen, needs),
        *of_network(seen),
    ]


Seen = list[tuple[Node, Look]]


def of_versions(seen: Seen, driver: Look, needs: Needs) -> Iterator[Finding]:
    """All nodes run what the driver runs; those that only read text need no like torch."""
    for name, ours in driver.versions.items():
        others: dict[str, list[str]] = {}
        for node, look in seen:
            theirs = look.versions.get(name, "none")
            matters = name != "torch" or needs.trains_on(node)
            if matters and public(theirs) != public(ours):
                others.setdefault(theirs, []).append(node.name)
        if others:
            there = ", ".join(f"{version} on {named(on)}" for version, on in others.items())
            what = "the code" if name == "code" else name
            remedy = (
                "use one checkout or image everywhere"
                if name == "code"
                else "install the same version everywhere, or use one image"
            )
            yield Finding(("cluster",), f"{what} differs: {ours} here, {there}; {remedy}")


def public(version: str) -> str:
    """Without what a build adds to it: 2.10.0+cu128 and 2.10.0+cpu get along."""
    return version.partition("+")[0]


def of_storage(seen: Seen, needs: Needs) -> Iterator[Finding]:
    """What the driver writes is there for every node, and back."""
    reasons: dict[str, list[str]] = {}
    for node, look in seen:
        if look.storage:
            reasons.setdefault(look.storage, []).append(node.name)
    for why, on in reasons.items():
        remedy = "mount the same file system there on all nodes (NFS, EFS, a ReadWriteMany volume)"
        text = f"{needs.storage!r} is not shared between the nodes: {why} on {named(on)}; {remedy}"
        yield Finding(("storage",), text)
        return


def of_texts(seen: Seen, needs: Needs) -> Iterator[Finding]:
    """The files that tasks read are there on every node that reads."""
    for keys, patterns in needs.texts.items():
        for pattern in patterns:
            lacking = [n.name for n, look in seen if needs.reads_on(n) and pattern in look.missing]
            if lacking:
                remedy = "put it on storage that all nodes share, or on s3:// or gs://"
                yield Finding(keys, f"{pattern} is not there on {named(lacking)}; {remedy}")
                return


def of_gpus(seen: Seen, needs: Needs) -> Iterator[Finding]:
    """torch can use the GPUs that Ray counts, and a worker fits into one."""
    keys: Keys = ("cluster", "gpus_per_worker")
    asked = [(node, look.gpu_bytes) for node, look in seen if look.gpu_bytes is not None]
    blind = [node.name for node, there in asked if there == 0]
    if blind:
        remedy = "install a CUDA build of torch and the driver, or set it to 0 to train on CPUs"
        yield Finding(keys, f"torch finds no GPU on {named(blind)}, though Ray does; {remedy}")
        return
    small = [(node, there) for node, there in asked if there and there < needs.worker_bytes]
    for node, there in small[:1]:
        yield Finding(
            needs.stage,
            f"a worker takes about {size_of(needs.worker_bytes)}, a GPU of {node.name} has "
            f"{size_of(there)}; lower micro_batch or the model's size, set cluster.strategy to "
            "fsdp, or use larger GPUs",
        )


def of_network(seen: Seen) -> Iterator[Finding]:
    """Workers reach each other."""
    for node, look in seen:
        for other, why in look.unreached.items():
            yield Finding(
                ("cluster",),
                f"{node.name} ({node.address}) cannot reach {other}: {why}; workers talk over any "
                "TCP port: open the firewall between the nodes, or give them a network of their "
                "own by `ray start --node-ip-address`",
            )
            return


def named(nodes: Iterable[str]) -> str:
    """`a, b, c, d and 3 more`"""
    names = list(nodes)
    if len(names) > SHOWN:
        return f"{', '.join(names[:SHOWN])} and {len(names) - SHOWN} more"
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last

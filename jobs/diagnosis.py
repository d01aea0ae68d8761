"""What is wrong with a machine or a cluster, judged from what was found: pure functions.

`Finding`s come in the order in which things are needed. One that is `bad` stops a run or costs it
most of its speed; a `note` is worth knowing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from packaging.requirements import Requirement
from packaging.version import Version

from cluster.config import ClusterConfig
from cluster.examine import PACKAGES
from llm.metrics import size_of

LEAST_PYTHON = Version("3.11")
LEAST_MEMORY = 2 << 30
"""For Ray's own processes and a worker of a toy; what a training needs is for `plan` to say."""
LEAST_SHM = 1 << 30
"""The object store of a cluster of our own; Ray would put it on disk instead."""
LEAST_DISK = 5 << 30
FULL = 0.95
"""Share of Ray's disk above which it writes no more objects there (its own threshold)."""
LEAST_FILES = 4096
MOST_SKEW = 2.0
"""Seconds; leases are compared by one clock only, logs and tokens of clouds are not."""

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """One line of a diagnosis."""

    subject: str
    said: str
    remedy: str = ""
    state: Literal["good", "note", "bad"] = "good"


def good(subject: str, said: str) -> Finding:
    """As it should be."""
    return Finding(subject, said)


def note(subject: str, said: str, remedy: str) -> Finding:
    """It works, though not as well as it could."""
    return Finding(subject, said, remedy, "note")


def bad(subject: str, said: str, remedy: str) -> Finding:
    """To be mended."""
    return Finding(subject, said, remedy, "bad")


def of_node(node: Facts, requirements: Sequence[str] = ()) -> Iterator[Finding]:
    """What a node is like; of requirements those that `node["packages"]` knows."""
    python = node["python"]
    if Version(python) >= LEAST_PYTHON:
        yield good("python", python)
    else:
        yield bad("python", python, f"install Python {LEAST_PYTHON} or newer")
    yield from of_packages(node["packages"], requirements)
    yield of_torch(node)
    if node["compiler"]:
        yield good("compiler", node["compiler"])
    else:
        remedy = "apt-get install gcc; without it models write at about half the speed"
        yield note("compiler", "none", remedy)
    yield from of_room(node)


def of_packages(versions: Mapping[str, str], requirements: Sequence[str]) -> Iterator[Finding]:
    """Whether what is installed is what we need."""
    needed = [Requirement(one) for one in requirements]
    wrong = [
        one
        for one in needed
        if one.name in versions
        and not one.specifier.contains(versions[one.name] or "0", prereleases=True)
    ]
    if not wrong:
        yield good("packages", in_words(versions))
        return
    said = ", ".join(f"{one.name} {versions[one.name] or 'is missing'}" for one in wrong)
    wanted = " ".join(f"'{one}'" for one in wrong)
    yield bad("packages", said, f"pip install {wanted}")


def in_words(versions: Mapping[str, str]) -> str:
    """The versions that matter most."""
    return ", ".join(f"{name} {versions[name]}" for name in PACKAGES if versions[name])


def of_torch(node: Facts) -> Finding:
    """Whether torch can use the GPUs that there are."""
    gpus, cuda = node["gpus"], node["cuda"]
    if gpus and not cuda:
        remedy = "install a build for CUDA: https://pytorch.org/get-started/locally"
        return bad("torch", f"{gpus} GPU{'s' if gpus > 1 else ''}, but a build for CPUs", remedy)
    built = f"CUDA {cuda}" if cuda else "CPUs"
    return good("torch", f"built for {built}; {gpus or 'no'} GPU{'s' if gpus != 1 else ''}")


def of_room(node: Facts) -> Iterator[Finding]:
    """Memory, disks and handles."""
    memory, shm, temp = node["memory"], node["shm"], node["temp"]
    said = f"{size_of(memory['free'])} free of {size_of(memory['total'])}, {node['cores']} cores"
    if memory["free"] >= LEAST_MEMORY:
        yield good("memory", said)
    else:
        yield bad("memory", said, f"end what uses it; {size_of(LEAST_MEMORY)} is the least")
    said = f"{size_of(shm['free'])} free"
    if shm["free"] >= LEAST_SHM:
        yield good("/dev/shm", said)
    else:
        remedy = "docker run --shm-size=2g, or an emptyDir of medium Memory; else Ray uses the disk"
        yield bad("/dev/shm", said, remedy)
    said = f"{size_of(temp['free'])} free in {temp['path']}"
    if temp["free"] < (1 - FULL) * temp["total"] or temp["free"] < LEAST_DISK:
        yield bad("disk", said, "make room; Ray stops writing when it is 95% full; or RAY_TMPDIR")
    else:
        yield good("disk", said)
    if node["open_files"] < LEAST_FILES:
        said = f"{node['open_files']} at once"
        yield note("open files", said, "ulimit -n 65536; Ray opens many on many workers")


def of_storage(path: str, storage: Facts) -> Finding:
    """Whether runs can be kept there."""
    if storage["error"]:
        remedy = "mount it, make it, or give storage=PATH; every node has to reach it"
        return bad("storage", f"{path}: {storage['error']}", remedy)
    said = f"{path}: written and read, {size_of(storage['free'])} free"
    if storage["free"] < LEAST_DISK:
        return bad("storage", said, "make room; a full disk stops a run at its next checkpoint")
    if abs(storage["skew"]) > MOST_SKEW:
        remedy = "have the file server and the nodes keep time (chrony, NTP)"
        return note("storage", f"{said}; its clock is off by {storage['skew']:+.1f} s", remedy)
    return good("storage", said)


# -- clusters --------------------------------------------------------------------------------------


def of_nodes(nodes: Sequence[Facts], storage: str | None) -> Iterator[Finding]:
    """What is wrong with each node of a cluster, and what holds for all of them."""
    answering = [node for node in nodes if "python" in node]
    for node in nodes:
        for problem in node["problems"]:
            yield bad(node["address"], problem, REMEDIES[problem.split(":")[0]])
    for node in answering:
        found = list(of_node(node))
        found += [of_storage(storage, node["storage"])] if storage else []
        for one in found:
            if one.state != "good":
                yield Finding(f"{node['address']} {one.subject}", one.said, one.remedy, one.state)
    yield from of_likeness(answering)
    if answering and len(answering) == len(nodes):
        yield from of_agreement(answering, storage)


REMEDIES = {
    "does not answer": "look at its raylet.out and its dashboard_agent.log; ray status on the head",
    "storage": "mount the same folder on every node, or give storage=PATH of one that is",
    "network": "open all ports between the nodes (security group, NetworkPolicy, firewall)",
}


def of_likeness(nodes: Sequence[Facts]) -> Iterator[Finding]:
    """Whether all nodes run the same programs."""
    kinds = {"python": [node["python"] for node in nodes]}
    for name in nodes[0]["packages"] if nodes else ():
        kinds[name] = [node["packages"][name] for node in nodes]
    for name, versions in kinds.items():
        if len(set(versions)) > 1:
            who = ", ".join(
                f"{node['address']} {version or 'none'}"
                for node, version in zip(nodes, versions, strict=True)
            )
            yield bad(name, f"differs: {who}", "give all nodes the same image")


def of_agreement(nodes: Sequence[Facts], storage: str | None) -> Iterator[Finding]:
    """What was tried between all nodes, where nothing went wrong."""
    first, problems = nodes[0], [problem for node in nodes for problem in node["problems"]]
    yield good("programs", f"Python {first['python']}, {in_words(first['packages'])}")
    skews = [node["skew"] for node in nodes]
    apart = max(skews) - min(skews)
    if apart > MOST_SKEW:
        remedy = "have the nodes keep time (chrony, NTP)"
        yield bad("clocks", f"{apart:.1f} s apart", remedy)
    elif len(nodes) > 1:
        yield good("clocks", f"{apart * 1000:.0f} ms apart")
    if len(nodes) > 1 and not any(problem.startswith("network") for problem in problems):
        yield good("network", "each node reaches the next at any port")
    if storage and not any(problem.startswith("storage") for problem in problems):
        shared = ", shared by all nodes" if len(nodes) > 1 else ""
        yield good("storage", f"{storage}: written and read{shared}")


def of_demand(nodes: Sequence[Facts], cluster: ClusterConfig) -> Finding:
    """Whether a spec's workers have room on the cluster, if it does nothing else."""
    gpus, cpus = cluster.gpus_per_worker, cluster.cpus_per_worker
    each = {"GPU": gpus} if gpus else {}
    each |= {"CPU": cpus} if isinstance(cpus, int) else {"CPU": 1}
    room = sum(
        min(int(node["resources"].get(name, 0) / wanted) for name, wanted in each.items())
        for node in nodes
    )
    wants = f"{cluster.least_workers} worker{'s' if cluster.least_workers > 1 else ''}"
    size = " and ".join(f"{amount:g} {name}" for name, amount in each.items())
    if room < cluster.least_workers:
        remedy = "add nodes, or ask for less: cluster.workers, cluster.cpus_per_worker"
        return bad("room", f"for {room} of {wants} of {size}", remedy)
    return good("room", f"for {wants} of {size}: {room}")

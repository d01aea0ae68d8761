"""What the nodes of a cluster are like, and whether they reach each other and the same storage.

    python -m cluster.examine [STORAGE]      (inside a job: prints one line, MARK and JSON)

It must work where nothing else does, so it needs Python and Ray alone, and each node is asked by
itself: one that is silent is a finding, not an error. On every node sits an examiner; the first of
them, the one where the job runs, writes a file that all others must see, and reads theirs.
"""

import json
import os
import platform
import re
import resource
import secrets
import shutil
import socket
import sys
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

MARK = "examined "

PACKAGES = ("ray", "torch", "numpy", "pyarrow", "sentencepiece")
"""Of which all nodes must have the same version."""

ANSWER_S = 60.0
"""Seconds that a node may take for an answer, its first process included."""

SEEN_S = 5.0
"""Seconds that a file may take to be seen by another node (NFS keeps lists for that long)."""

PINGS = 5


def this_node(storage: str | None = None) -> dict[str, Any]:
    """What can be said of the node where this runs."""
    return {
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "packages": {name: version_of(name) for name in PACKAGES},
        "cuda": cuda_of_torch(),
        "gpus": len(list(Path("/dev").glob("nvidia[0-9]*"))),
        "compiler": next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None),
        "cores": len(os.sched_getaffinity(0)),
        "memory": memory(),
        "shm": free("/dev/shm"),
        "temp": {"path": temp_folder(), **free(temp_folder())},
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "storage": try_storage(storage) if storage else None,
    }


def version_of(package: str) -> str:
    """Of an installed package; empty if there is none."""
    try:
        return distribution(package).version
    except PackageNotFoundError:
        return ""


def cuda_of_torch() -> str:
    """The CUDA that torch was built for; empty: for CPUs. Importing torch would take seconds."""
    with suppress(PackageNotFoundError, OSError):
        text = Path(str(distribution("torch").locate_file("torch/version.py"))).read_text()
        found = re.search(r"^cuda\b[^=]*= '([\d.]+)'", text, re.MULTILINE)
        return found[1] if found else ""
    return ""


def memory() -> dict[str, int]:
    """Bytes of the machine, or of the container if that has fewer."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    known = {line.partition(":")[0]: int(line.split()[1]) << 10 for line in lines}
    total, available = known["MemTotal"], known["MemAvailable"]
    with suppress(OSError, ValueError):  # "max", or an older kernel
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        total, available = min(total, limit), min(available, limit - used)
    return {"total": total, "free": available}


def free(path: str) -> dict[str, int]:
    """Bytes of the file system at a path, or of the nearest folder above that is there."""
    place = Path(path)
    while not place.exists():
        place = place.parent
    total, _, left = shutil.disk_usage(place)
    return {"total": total, "free": left}


def temp_folder() -> str:
    """Where Ray keeps its session."""
    return os.environ.get("RAY_TMPDIR") or "/tmp"


def try_storage(storage: str) -> dict[str, Any]:
    """Whether runs could work there: make a folder, write once, rename, read; and its clock."""
    folder = Path(storage) / f".doctor-{secrets.token_hex(4)}"
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True)
        with open(folder / "a", "xb") as file:
            began = time.time()
            file.write(b"humpty")
            file.flush()
            os.fsync(file.fileno())
        os.replace(folder / "a", folder / "b")
        skew = (folder / "b").stat().st_mtime - began
        whole = (folder / "b").read_bytes() == b"humpty"
        return {
            **free(storage),
            "error": "" if whole else "what is read is not what was written",
            "skew": skew,
        }
    except OSError as error:
        return {**free(storage), "error": f"{error.filename}: {error.strerror}", "skew": 0.0}
    finally:
        with suppress(OSError):
            (folder / "b").unlink(missing_ok=True)
            for one in made:
                one.rmdir()


# -- a whole cluster -------------------------------------------------------------------------------


class Examiner:
    """Sits on a node and answers."""

    def look(self, storage: str | None) -> dict[str, Any]:
        """What the node is like."""
        return this_node(storage)

    def clock(self) -> float:
        """Seconds since 1970, as the node sees it."""
        return time.time()

    def leave(self, path: str, text: str) -> str:
        """Write a file; what went wrong."""
        try:
            Path(path).write_text(text)
        except OSError as error:
            return f"cannot write {path}: {error.strerror}"
        return ""

    def find(self, path: str, text: str) -> str:
        """Read a file of another node; what went wrong."""
        return found(path, text)

    def listen(self) -> tuple[str, int]:
        """Open a port, as a training's processes do to find each other."""
        import ray

        here = ray.util.get_node_ip_address()
        self.socket = socket.create_server((here, 0))
        return here, self.socket.getsockname()[1]

    def reach(self, host: str, port: int) -> str:
        """Call at another node's port; what went wrong."""
        try:
            socket.create_connection((host, port), timeout=5).close()
        except OSError as error:
            return f"cannot reach {host}:{port}: {error.strerror or error}"
        return ""


def found(path: str, text: str) -> str:
    """Wait a little for a file; what went wrong."""
    end = time.monotonic() + SEEN_S
    while True:
        try:
            read = Path(path).read_text()
            return "" if read == text else f"reads something else in {path}"
        except OSError as error:
            if time.monotonic() > end:
                return f"does not see {path}: {error.strerror}"
        time.sleep(0.1)


def examine(storage: str | None) -> list[dict[str, Any]]:
    """A record of every node: what it is like (`this_node`), and `problems` in its own words."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"]]
    here = ray.get_runtime_context().get_node_id()
    nodes.sort(key=lambda node: (node["NodeID"] != here, node["NodeManagerAddress"]))
    actor = ray.remote(num_cpus=0)(Examiner)
    examiners = [
        actor.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote()
        for node in nodes
    ]
    looks = [examiner.look.remote(storage) for examiner in examiners]
    records = [
        {"address": node["NodeManagerAddress"], "resources": node["Resources"], "problems": []}
        for node in nodes
    ]
    ray.wait(looks, num_returns=len(looks), timeout=ANSWER_S)
    well = []
    for record, examiner, look in zip(records, examiners, looks, strict=True):
        try:
            record |= ray.get(look, timeout=0.1)
            well.append((record, examiner))
        except Exception as error:  # whatever it is, it is the finding
            lines = str(error).strip().splitlines() or [type(error).__name__]
            record["problems"].append(f"does not answer: {lines[0]}")
    for record, examiner in well:
        record["skew"] = skew_of(examiner)
    if storage and well:
        compare_storage(storage, well)
    if len(well) > 1:
        compare_network(well)
    return records


def skew_of(examiner: Any) -> float:
    """Seconds by which a node's clock is ahead of this one, by the quickest of a few answers."""
    import ray

    best, skew = float("inf"), 0.0
    for _ in range(PINGS):
        asked = time.time()
        theirs = ray.get(examiner.clock.remote(), timeout=ANSWER_S)
        answered = time.time()
        if answered - asked < best:
            best, skew = answered - asked, theirs - (asked + answered) / 2
    return skew


def compare_storage(storage: str, well: list[tuple[dict[str, Any], Any]]) -> None:
    """Every node must see what this one writes there, and this one what they write."""
    import ray

    folder, text = Path(storage) / f".doctor-{secrets.token_hex(4)}", secrets.token_hex(8)
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True)
        (folder / "here").write_text(text)
    except OSError:
        return  # `try_storage` has said so
    for number, (record, examiner) in enumerate(well):
        path = str(folder / str(number))
        said = ray.get(examiner.find.remote(str(folder / "here"), text), timeout=ANSWER_S)
        said = said or ray.get(examiner.leave.remote(path, text), timeout=ANSWER_S)
        said = said or (found(path, text) and f"writes {path}, which the head does not see")
        record["problems"] += [f"storage: {said}"] if said else []
    shutil.rmtree(folder, ignore_errors=True)
    for one in made[1:]:
        with suppress(OSError):
            one.rmdir()


def compare_network(well: list[tuple[dict[str, Any], Any]]) -> None:
    """Every node must reach the next one at any port."""
    import ray

    for (record, examiner), (_, other) in zip(well, [*well[1:], well[0]], strict=True):
        host, port = ray.get(other.listen.remote(), timeout=ANSWER_S)
        said = ray.get(examiner.reach.remote(host, port), timeout=ANSWER_S)
        record["problems"] += [f"network: {said}"] if said else []


def main(storage: str | None) -> None:
    """Examine the cluster that this job runs on."""
    import ray

    ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
    print(MARK + json.dumps(examine(storage)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)

"""Is this machine, or a cluster, fit for a run? Green, or what to do about it, line by line.

Without an address only this machine is looked at, in a second or two and without starting Ray. With
one, the cluster examines itself by a job that needs nothing but Ray (cluster/examine.py).
"""

import json
import os
import shlex
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from rich.console import Console
from rich.text import Text

from cluster import access, examine
from jobs.diagnosis import Finding, bad, good, note, of_demand, of_node, of_nodes, of_storage
from jobs.load import load
from jobs.parcel import ROOT, declared
from jobs.spec import Spec
from jobs.stages import ServeStage
from jobs.version import installed
from llm.errors import UserError

if TYPE_CHECKING:
    from cluster.submit import Jobs

MARKS = {"good": ("ok", "green"), "note": ("--", "yellow"), "bad": ("!!", "red")}

RAY_PORT, SERVE_PORT = 8265, 8000


def doctor(
    file: str | None, overrides: tuple[str, ...], address: str | None, plain: bool = False
) -> int:
    """Show how a machine or a cluster is: 0, or 1 if something has to be mended."""
    console = Console()
    spec = load(file, overrides) if file else None
    findings = of_cluster(address, plain, spec) if address else of_machine(spec)
    worst = 0
    for finding in findings:
        show(finding, console)
        worst = max(worst, finding.state == "bad")
    return worst


def show(finding: Finding, console: Console) -> None:
    """One line, and one more if there is something to do."""
    mark, colour = MARKS[finding.state]
    line = Text(f"{mark}  ", style=colour).append(f"{finding.subject:10} ", style="bold")
    console.print(line.append(finding.said, style="default"), soft_wrap=True, highlight=False)
    if finding.remedy:
        console.print(Text(f"{'':15}{finding.remedy}", style=colour), soft_wrap=True)


# -- this machine ----------------------------------------------------------------------------------


def of_machine(spec: Spec | None) -> Iterator[Finding]:
    """All that can be seen from here."""
    storage = spec.storage if spec else os.path.abspath("runs")
    requirements = declared()
    packages = {name: examine.version_of(name) for name in map(package_of, requirements)}
    node = examine.this_node(storage) | {"packages": packages}
    yield from of_node(node, requirements)
    yield of_storage(storage, node["storage"])
    yield of_token()
    yield of_ray_address()
    serves = [one for one in spec.stages.values() if isinstance(one, ServeStage)] if spec else []
    yield of_port(RAY_PORT, "Ray's dashboard")
    yield of_port(serves[0].port if serves else SERVE_PORT, "`serve`")


def package_of(requirement: str) -> str:
    """The name in a requirement."""
    return Requirement(requirement).name


def of_token() -> Finding:
    """How Ray will keep others out."""
    mode = os.environ.get("RAY_AUTH_MODE", "")
    if mode == "disabled":
        said = "RAY_AUTH_MODE=disabled: whoever reaches Ray's ports can run programs"
        return note("token", said, "unset it; a cluster of our own makes a token")
    try:
        token = access.token_for("http://127.0.0.1")
    except UserError as error:
        return bad("token", str(error), "correct RAY_AUTH_TOKEN_PATH, or unset it")
    if token is None and mode:
        remedy = "ray get-auth-token --generate, or unset RAY_AUTH_MODE"
        return bad("token", f"RAY_AUTH_MODE={mode}, but there is no token", remedy)
    if token is None:
        return good("token", "none yet; the first run makes one")
    path = Path(token.source)
    if path.is_absolute() and path.stat().st_mode & 0o077:
        return note("token", f"{path} can be read by others", f"chmod 600 {path}")
    return good("token", token.source)


def of_ray_address() -> Finding:
    """Whether runs will join a cluster."""
    address = os.environ.get("RAY_ADDRESS", "")
    if address in ("", "local"):
        return good("cluster", "RAY_ADDRESS is not set: a run starts one of its own here")
    if "://" in address:
        try:
            door = access.open_door(address.rstrip("/"))
        except UserError as error:
            return bad("cluster", str(error), "then: python -m jobs doctor --address ...")
        said = f"{address}: Ray {door.ray}"
        return note(
            "cluster", said, f"look at all of it: python -m jobs doctor --address {address}"
        )
    if address != "auto":
        try:
            access.require_listener(address)
        except UserError as error:
            return bad("cluster", str(error), "or unset RAY_ADDRESS")
    return good("cluster", f"runs join the one at RAY_ADDRESS={address}")


def of_port(port: int, whose: str) -> Finding:
    """Whether somebody else listens there."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError as error:
            said = f"{port} ({whose}): {error.strerror}"
            return note("port", said, "end what listens there, or choose another (serve --port)")
    return good("port", f"{port} ({whose}) is free")


# -- a cluster -------------------------------------------------------------------------------------


def of_cluster(address: str, plain: bool, spec: Spec | None) -> Iterator[Finding]:
    """What a cluster says of itself."""
    from cluster.submit import connect

    jobs = connect(address, plain)
    ours, theirs = installed("ray"), jobs.door.ray
    said = f"{jobs.door.url}: Ray {theirs}{', by token' if jobs.door.headers else ''}"
    if theirs.split(".")[:2] == ours.split(".")[:2]:
        yield good("cluster", said)
    else:
        yield note("cluster", said, f"here is {ours}, which is what is tested")
    storage = spec.storage if spec else None
    nodes = examined(jobs, storage)
    yield good("nodes", ", ".join(node["address"] for node in nodes))
    yield from of_nodes(nodes, storage)
    if spec:
        yield of_demand(nodes, spec.cluster)


def examined(jobs: "Jobs", storage: str | None) -> list[dict]:
    """The records of cluster/examine.py."""
    command = ["python", "-m", "cluster.examine", *([storage] if storage else [])]
    with tempfile.TemporaryDirectory(prefix="humpty-") as name:
        folder = Path(name) / "cluster"
        folder.mkdir()
        for file in ("__init__.py", "examine.py"):
            (folder / file).write_bytes((ROOT / "cluster" / file).read_bytes())
        job = jobs.send(shlex.join(command), name, "doctor", {})
    log = "".join(jobs.follow(job))
    for line in log.splitlines():
        if line.startswith(examine.MARK):
            return json.loads(line.removeprefix(examine.MARK))
    last = log.strip().rpartition("\n")[2] or jobs.look(job).message
    raise UserError(f"{jobs.door.url}: job {job}, which examines the cluster, failed: {last}")

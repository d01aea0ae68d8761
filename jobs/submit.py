"""A spec on its way to a cluster: checked and planned here, packed, sent, and sent again.

Nothing is uploaded before the spec has been found right. What a job needs to be sent again stands
in its metadata on the cluster, so that any terminal can do it. Ray keeps what was uploaded for a
while; behind that it is packed anew, if the files are still the same.
"""

import json
import os
import shlex
import tempfile
from collections.abc import Mapping
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.facts import gather
from jobs.follow import Commands, follow, say
from jobs.inside import SENT
from jobs.parcel import Parcel, not_here, pack, requirements
from jobs.plan import resolve
from jobs.spec import Spec
from jobs.version import installed
from llm.errors import SpecError, UserError


@dataclass(frozen=True)
class Way:
    """Where a job goes and how."""

    address: str | None = None
    plain: bool = False
    """A token may travel unencrypted."""
    pip: tuple[str, ...] = ()
    """What the nodes install before they start."""
    installed: bool = False
    """The cluster has our packages itself."""
    follow: bool = True


def submit(file: str, overrides: tuple[str, ...], way: Way) -> int:
    """Send a run to a cluster and follow it: the exit code that it would have here."""
    spec, parcel = pack(file, overrides, way.installed)
    pip = requirements(way.pip)
    say(plan_here(spec))
    from cluster.submit import connect

    jobs = connect(way.address, way.plain)
    say(f"{jobs.door.url}: Ray {jobs.door.ray}{differs(jobs.door.ray)}")
    say(f"sending {parcel}")
    say(f"storage: {spec.storage} (every node of the cluster has to reach it)")
    command = shlex.join(["python", "-m", "jobs", "run", *parcel.arguments])
    known = {
        SENT: f"humpty {installed('humpty')}",
        "file": os.path.abspath(file),
        "folder": os.getcwd(),
        "overrides": json.dumps(overrides),
        "installed": json.dumps(way.installed),
        "storage": spec.storage,
        "files": parcel.digest,
    }
    with tempfile.TemporaryDirectory(prefix="humpty-") as folder:
        parcel.copy_to(Path(folder))
        job = jobs.send(command, folder, spec.name, known, pip)
    return sent(jobs, job, way)


def resume(name: str, way: Way) -> int:
    """Send a job again that was stopped or fell: it goes on behind its last commit."""
    from cluster.submit import connect

    jobs = connect(way.address, way.plain)
    old, commands = jobs.find(name), Commands(way.address, way.plain)
    if not old.has_ended:
        raise UserError(
            f"{old.id} is still at work ({old.status}); follow it:\n  {commands('logs -f', old.id)}"
        )
    if SENT not in old.metadata:
        raise UserError(f"{old.id} was not sent by `submit`; send it again as you did before")
    if old.status == "SUCCEEDED":
        say(f"{old.id} has finished; there is nothing to go on with")
        return 0
    pip = packages_of(old.environment)
    known = {**old.metadata, "resumes": old.id}
    uploaded = old.environment.get("working_dir", "")
    if jobs.has(uploaded):
        job = jobs.send(old.entrypoint, uploaded, old.run, known, pip)
    else:
        with tempfile.TemporaryDirectory(prefix="humpty-") as folder:
            parcel = same_parcel(old.metadata)
            say(f"sending {parcel}")
            parcel.copy_to(Path(folder))
            job = jobs.send(old.entrypoint, folder, old.run, known, pip)
    return sent(jobs, job, way)


def sent(jobs: Any, job: str, way: Way) -> int:
    """Say what there is now, and follow it."""
    commands = Commands(way.address, way.plain)
    say(f"job {job}; it does not need this terminal: Ctrl-C leaves it alone")
    say(commands.help(job))
    return follow(jobs, job, commands) if way.follow else 0


def same_parcel(known: Mapping[str, str]) -> Parcel:
    """What a job was sent, from the files here; UserError if they are not the same any more."""
    remedy = (
        "so this would be another run; submit it anew, and the stages that are the same go on: "
        f"python -m jobs submit {known['file']}"
    )
    overrides = tuple(json.loads(known["overrides"]))
    try:
        with chdir(known["folder"]):
            _, parcel = pack(known["file"], overrides, json.loads(known["installed"]))
    except (OSError, SpecError) as error:
        raise UserError(
            "the cluster has thrown the job's files away, and they cannot be sent again from "
            f"here ({error}); {remedy}"
        ) from error
    if parcel.digest != known["files"]:
        raise UserError(f"{known['file']}, what it names, or humpty has changed since; {remedy}")
    return parcel


def packages_of(environment: Mapping[str, Any]) -> tuple[str, ...]:
    """What pip installed for a job; Ray has made a record of the list."""
    pip = environment.get("pip") or {}
    return tuple(pip.get("packages", ()) if isinstance(pip, Mapping) else pip)


def plan_here(spec: Spec) -> str:
    """What there is to do, in a line; what is wrong with the spec raises.

    Text that is not on this machine cannot be looked at, so the job itself will see.
    """
    if away := not_here(spec):
        return f"not planned here, since {away[0]} is not on this machine; the job will plan itself"
    stages = [one for one in resolve(spec, gather(spec)).stages if one.status == "will run"]
    return f"{spec.name}: {', '.join(one.name for one in stages) or 'nothing'} to do"


def differs(version: str) -> str:
    """A warning if the cluster's Ray is another one than ours."""
    ours = installed("ray")
    same = ours.split(".")[:2] == version.split(".")[:2]
    return "" if same else f" (here {ours}: what is tested with that may fail with another one)"

"""run.json of a run: what it was asked for, on which machine, and which artifacts are its own.

Artifacts tell of themselves in their manifests; this tells what holds for all of them, and which of
the artifacts in the folder the spec means now, finished or not. It is written anew before every
stage, for whoever reads the folder without the spec: the report.
"""

import os
import platform
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jobs.kinds import as_json
from jobs.planned import Plan, StagePlan
from llm.files import write_json

NAME = "run.json"


def write_record(plan: Plan, began: float) -> None:
    """Write what is known of the run now; `began` is when this attempt did, in unix seconds."""
    write_json(plan.spec.folder / NAME, record_of(plan, began))


def record_of(plan: Plan, began: float) -> dict[str, Any]:
    """All of it."""
    spec = plan.spec
    return {
        "name": spec.name,
        "file": spec.origin.file,
        "overrides": list(spec.origin.overrides),
        "began": began,
        "written": time.time(),
        "machine": machine(),
        "spec": {
            "name": spec.name,
            "seed": spec.seed,
            "storage": spec.storage,
            "cluster": {**asdict(spec.cluster), **asdict(plan.cluster)},
            **({"data": asdict(spec.data)} if spec.data else {}),
        },
        "stages": [stage_record(plan.spec.folder, stage) for stage in plan.stages],
    }


def stage_record(folder: Path, stage: StagePlan) -> dict[str, Any]:
    """One stage; its folder is told from the run's."""
    where = os.path.relpath(stage.folder, folder) if stage.folder else None
    return {
        "name": stage.name,
        "kind": stage.kind,
        "status": stage.status,
        "fingerprint": stage.fingerprint,
        "identity": stage.identity if stage.fingerprint else "",
        "folder": where,
        "parents": dict(stage.parents),
        "spec": as_json(stage.stage or stage.written),
    }


def machine() -> dict[str, Any]:
    """The machine that drives the run."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory": memory,
    }


def processor() -> str:
    """Its name as Linux has it, else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())

"""What is different inside a job: this very program, started on a cluster by `submit` or by
`ray job submit`.

It runs in Ray's copy of the folder that was sent, which is thrown away some time after the job, and
is another one as soon as a file of it changes. So what is to last must not lie there.
"""

import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from llm.errors import UserError

SENT = "sent_by"
"""Metadata of a job that `submit` has sent, since `resume` can send it again."""


STOP_WAIT = "RAY_JOB_STOP_WAIT_TIME_S"
"""Variable of a job's environment: seconds between the request to stop and the end by force."""

RAYS_STOP_WAIT = "3"


@cache
def job() -> dict[str, Any]:
    """What Ray says of the job that this process belongs to; empty outside."""
    written = os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "")  # set by Ray 2.60's supervisor
    return json.loads(written) if written else {}


def job_id() -> str:
    """The job's id; empty outside."""
    return job().get("metadata", {}).get("job_submission_id", "")


def was_submitted() -> bool:
    """Whether `resume` knows this job."""
    return SENT in job().get("metadata", {})


def outputs_from() -> Path:
    """Where relative paths of what is written start: here; in Ray's copy of a folder, at home."""
    here = Path.cwd()
    return Path.home() if job_id() and "runtime_resources" in here.parts else here


def require_place(storage: str) -> None:
    """UserError if a job's storage cannot be meant: a path of the machine that it was sent from."""
    above = Path(storage).parent
    if job_id() and not above.is_dir():
        raise UserError(
            f"storage: {storage}: there is no {above} on this node of the cluster; name a folder "
            "that every node reaches, with storage=PATH, or make this one"
        )


def remarks(storage: str, written: str) -> Iterator[str]:
    """What whoever reads a job's log should know; nothing outside."""
    if not job_id():
        return
    if not os.path.isabs(written):
        yield f"storage: {storage} (relative to home, since this copy of the folder will not last)"
    wait = os.environ.get(STOP_WAIT, RAYS_STOP_WAIT)
    if wait == RAYS_STOP_WAIT:
        yield (
            f"`ray job stop` leaves {wait} s for saving; more with --runtime-env-json "
            f'\'{{"env_vars": {{"{STOP_WAIT}": "300"}}}}\', or `python -m jobs submit`'
        )

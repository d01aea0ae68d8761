"""Jobs on a cluster that is already there: sent, followed, stopped, found again.

A job is a command that Ray runs on the head, in a folder that it was sent; here always
`python -m jobs run ...`. It does not depend on whoever sent it: terminals may close.

Ray gives a job that is to stop 3 s before it is killed, unless the job's own environment says
otherwise (RAY_JOB_STOP_WAIT_TIME_S; read in ray 2.60, dashboard/modules/job/job_supervisor.py, and
measured: after a stop 3 s are enough to save 140k parameters, but not to end). So ours do.
"""

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import requests
from ray.dashboard.utils import get_address_for_submission_client
from ray.job_submission import JobDetails, JobSubmissionClient

from cluster.access import ADDRESSES, AccessError, Door, address_of, open_door, require_listener
from llm.errors import UserError

STOP_WAIT_S = 300
"""Seconds that a job has for saving when it is stopped."""

RUN = "run"
"""Metadata: the name of the run."""

IDLE_S = 15.0
"""Seconds without a word after which we ask whether the job still runs."""

LOST_S = 60.0
"""Seconds without an answer after which following ends."""

CHATTER = (
    "ray.dashboard.modules.job.sdk",
    "ray.dashboard.modules.dashboard_sdk",
    "ray._private.runtime_env.packaging",
    "ray._private.runtime_env.working_dir",
)
"""Loggers of Ray's client."""

FAILURES = (RuntimeError, OSError, aiohttp.ClientError, requests.RequestException)
"""What Ray's client raises when the dashboard does not answer, or answers with an error."""


@dataclass(frozen=True)
class Job:
    """A job, as the cluster knows it."""

    id: str
    status: str
    """PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED."""
    entrypoint: str
    metadata: Mapping[str, str]
    environment: Mapping[str, Any]
    """Ray's runtime environment."""
    message: str
    exit_code: int | None
    """Of its process, if it has ended by itself."""
    started: float
    ended: float | None
    """Unix time."""

    @property
    def run(self) -> str:
        """The name of the run; empty for a job that was not sent from here."""
        return self.metadata.get(RUN, "")

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in ("STOPPED", "SUCCEEDED", "FAILED")


class LostContact(AccessError):
    """The dashboard is silent; the job may well go on."""


class Jobs:
    """The jobs of one cluster."""

    def __init__(self, door: Door) -> None:
        self.door = door
        for name in CHATTER:
            logging.getLogger(name).setLevel(logging.ERROR)  # we say ourselves what is sent
        kept = {name: os.environ.pop(name) for name in ADDRESSES if name in os.environ}
        try:  # they would win over the address that we give
            self.client = JobSubmissionClient(door.url, headers=dict(door.headers))
        except FAILURES as error:
            raise AccessError(f"{door.url}: {first_line(error)}") from error
        finally:
            os.environ.update(kept)

    def send(
        self,
        command: str,
        folder: Path | str,
        run: str,
        metadata: Mapping[str, str],
        pip: tuple[str, ...] = (),
    ) -> str:
        """Upload a folder, or name one that the cluster has, and start a command in it: its id."""
        environment: dict[str, Any] = {
            "working_dir": str(folder),
            "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)},
        }
        if pip:
            environment["pip"] = list(pip)
        try:
            return self.client.submit_job(
                entrypoint=command,
                submission_id=new_id(run),
                runtime_env=environment,
                metadata={**metadata, RUN: run},
            )
        except (*FAILURES, ValueError) as error:
            raise AccessError(
                f"{self.door.url} does not take the job: {last_line(error)}"
            ) from error

    def has(self, package: str) -> bool:
        """Whether the cluster still has an upload; then it keeps it for ten minutes at least."""
        scheme, _, name = package.partition("://")
        url = f"{self.door.url}/api/packages/{scheme}/{name}"
        ask = partial(requests.get, url, headers=self.door.headers, timeout=LOST_S)
        return self._asked(ask).status_code == 200

    def all(self) -> list[Job]:
        """Jobs that were submitted, the newest first."""
        details = self._asked(self.client.list_jobs)
        jobs = [job_of(one) for one in details if one.submission_id]
        return sorted(jobs, key=lambda job: -job.started)

    def find(self, name: str) -> Job:
        """The job with this id, else the newest one of the run with this name."""
        jobs = self.all()
        by_id = [job for job in jobs if job.id == name]
        found = by_id or [job for job in jobs if job.run == name]
        if not found:
            raise UserError(
                f"{name}: {self.door.url} knows no such job, nor a run of that name; "
                "`python -m jobs list` shows those that there are"
            )
        return found[0]

    def look(self, job: str) -> Job:
        """A job as it is now."""
        return job_of(self._asked(lambda: self.client.get_job_info(job)))

    def stop(self, job: str) -> None:
        """Ask a job to save and end; it has STOP_WAIT_S for it."""
        self._asked(lambda: self.client.stop_job(job))

    def log(self, job: str) -> str:
        """All that a job has written so far."""
        return self._asked(lambda: self.client.get_job_logs(job))

    def follow(self, job: str, seen: int = 0) -> Iterator[str]:
        """What a job writes behind the first `seen` characters, until it has ended.

        Connections that break are made again; LostContact once nobody has answered for LOST_S.
        """
        answered = time.monotonic()
        while True:
            try:
                for text in self._tail(job, seen):
                    seen, answered = seen + len(text), time.monotonic()
                    yield text
                if self.look(job).has_ended:
                    yield self.log(job)[seen:]  # what the connection did not bring
                    return
            except (*FAILURES, AccessError) as error:
                if time.monotonic() - answered > LOST_S:
                    raise LostContact(
                        f"{self.door.url}: no contact: {first_line(error)}"
                    ) from error
            time.sleep(1)

    def _tail(self, job: str, skip: int) -> Iterator[str]:
        """One connection's share of the log, which always begins at its beginning."""
        stream = self.client.tail_job_logs(job)
        with asyncio.Runner() as runner:  # which lets Ctrl-C through
            while (text := runner.run(self._next(stream, job))) is not None:
                if new := text[skip:]:
                    yield new
                skip = max(0, skip - len(text))

    async def _next(self, stream: Any, job: str) -> str | None:
        """The next piece; None at the end, also if that was not told."""
        piece = asyncio.ensure_future(anext(stream, None))
        try:
            while not (await asyncio.wait([piece], timeout=IDLE_S))[0]:
                if self.look(job).has_ended:
                    return None
            return piece.result()
        finally:
            piece.cancel()

    def _asked(self, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except FAILURES as error:
            raise AccessError(f"{self.door.url}: {first_line(error)}") from error


def connect(address: str | None, plain: bool = False) -> Jobs:
    """The jobs of the cluster at an address; without one, where the environment says."""
    return Jobs(open_door(address_of(address, dashboard_of), plain))


def dashboard_of(address: str) -> str:
    """The dashboard of a cluster that is named as ray.init would have it."""
    if "://" not in address and address != "auto":
        require_listener(address)
    kept = {name: os.environ.pop(name) for name in ADDRESSES if name in os.environ}
    try:
        return get_address_for_submission_client(address)
    except Exception as error:  # there are many ways not to find it
        raise AccessError(
            f"{address}: no cluster answers there that would name its dashboard "
            f"({first_line(error)}); give the dashboard's address itself, http://HEAD:8265"
        ) from error
    finally:
        os.environ.update(kept)


def new_id(run: str) -> str:
    """quickstart-1122-211830-f3: unlike any other, and readable."""
    return f"{run}-{datetime.now():%m%d-%H%M%S}-{secrets.token_hex(1)}"


def job_of(details: JobDetails) -> Job:
    """The same in our words."""
    assert details.submission_id
    return Job(
        id=details.submission_id,
        status=str(details.status.value),
        entrypoint=details.entrypoint,
        metadata=details.metadata or {},
        environment=details.runtime_env or {},
        message=details.message or "",
        exit_code=details.driver_exit_code,
        started=(details.start_time or 0) / 1000,
        ended=details.end_time / 1000 if details.end_time else None,
    )


def first_line(error: BaseException) -> str:
    """The gist of an error of Ray's."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def last_line(error: BaseException) -> str:
    """The gist of an error that holds a server's traceback."""
    return str(error).strip().rpartition("\n")[2].rstrip(".") or type(error).__name__

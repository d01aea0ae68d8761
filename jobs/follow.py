"""What a terminal shows of jobs on a cluster: their logs as they come, how they end, lists of them.

A job's own words go to stdout, everything else to stderr. Whoever follows may leave: Ctrl-C, a
closed terminal or a broken connection end the following, never the job.
"""

import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from jobs.inside import RAYS_STOP_WAIT, SENT, STOP_WAIT
from llm.metrics import duration

if TYPE_CHECKING:
    from cluster.submit import Job, Jobs

LEFT = 130
"""Exit code of whoever has been stopped, and of whoever leaves."""

OWN = (0, 1, 2, LEFT)
"""Exit codes of `run`."""


@dataclass(frozen=True)
class Commands:
    """Further commands for the same cluster, as they would be typed."""

    address: str | None
    plain: bool = False

    def __call__(self, verb: str, job: str) -> str:
        """One of them."""
        where = ["--address", self.address] if self.address else []
        flags = [*where, "--plain-http"] if self.plain else where
        return shlex.join(["python", "-m", "jobs", *verb.split(), job, *flags])

    def help(self, job: str) -> str:
        """What can be done with a job."""
        return (
            f"  to follow it again:     {self('logs -f', job)}\n"
            f"  to see how it is:       {self('status', job)}\n"
            f"  to have it save and end: {self('stop', job)}"
        )


def say(text: str) -> None:
    """A line that is not the job's."""
    typer.echo(text, err=True)


def follow(jobs: "Jobs", job: str, commands: Commands, seen: int = 0) -> int:
    """Show what a job writes until it ends; the exit code that it would have here."""
    from cluster.submit import LostContact

    try:
        for text in jobs.follow(job, seen):
            sys.stdout.write(text)
            sys.stdout.flush()
    except KeyboardInterrupt:
        say(f"\nLeft; {job} goes on.\n{commands.help(job)}")
        return LEFT
    except LostContact as error:
        say(f"{error}; {job} may well go on.\n{commands.help(job)}")
        return 1
    ended = jobs.look(job)
    say(ending(ended, commands))
    return exit_code(ended)


def exit_code(job: "Job") -> int:
    """0 it succeeded, 130 it was stopped, 2 its spec is wrong, 1 all else."""
    if job.status == "STOPPED":
        return LEFT
    if job.status == "SUCCEEDED":
        return 0
    return job.exit_code if job.exit_code in OWN[1:] else 1


def ending(job: "Job", commands: Commands) -> str:
    """How a job has ended, and what to do about it."""
    known = job.metadata.get(SENT)
    again = f"to go on:\n  {commands('resume', job.id)}" if known else "the same command goes on"
    if job.status == "SUCCEEDED":
        return f"{job.id} has finished"
    if job.status == "STOPPED" or job.exit_code == LEFT:
        return f"{job.id} was stopped; {again}"
    if job.exit_code is None:  # it has not even begun, or its node is gone
        return f"{job.id} failed: {reason(job.message)}; {again}"
    if job.exit_code in OWN:
        return f"{job.id} failed with exit code {job.exit_code}; mend it, then {again}"
    killed = -job.exit_code if job.exit_code < 0 else job.exit_code - 128
    how = f"was killed by signal {killed}" if 0 < killed < 65 else f"ended with {job.exit_code}"
    return f"{job.id} {how} (9: its node had no memory left, or its time was up); {again}"


def reason(message: str) -> str:
    """The last line of a message that may hold a traceback, and what it begins with."""
    lines = [line.strip() for line in message.strip().splitlines() if line.strip()]
    return " ... ".join(dict.fromkeys([*lines[:1], *lines[-1:]])) or "Ray does not say why"


# -- the verbs -------------------------------------------------------------------------------------


def logs(jobs: "Jobs", name: str, follows: bool, commands: Commands) -> int:
    """Show what a job has written, and if asked what it writes from now on."""
    job = jobs.find(name)
    if follows:
        return follow(jobs, job.id, commands)
    sys.stdout.write(jobs.log(job.id))
    return 0


def stop(jobs: "Jobs", name: str, commands: Commands) -> int:
    """Have a job save and end, and show how it does."""
    job = jobs.find(name)
    if job.has_ended:
        say(f"{job.id} has ended already: {job.status}")
        return 0
    seen = len(jobs.log(job.id)) if job.status == "RUNNING" else 0
    jobs.stop(job.id)
    wait = job.environment.get("env_vars", {}).get(STOP_WAIT, RAYS_STOP_WAIT)
    say(f"asked {job.id} to save and end; Ray ends it by force after {wait} s")
    follow(jobs, job.id, commands, seen)
    return 0 if jobs.look(job.id).has_ended else 1


def status(jobs: "Jobs", name: str, commands: Commands) -> int:
    """Show how a job is."""
    job = jobs.find(name)
    rows = {
        "job": job.id,
        "status": job.status if job.exit_code is None else f"{job.status} ({job.exit_code})",
        "command": job.entrypoint,
        "spec": job.metadata.get("file", ""),
        "storage": job.metadata.get("storage", ""),
        "resumes": job.metadata.get("resumes", ""),
        "began": moment(job.started),
        "took" if job.has_ended else "so far": duration((job.ended or time.time()) - job.started),
        "last words": next(iter(reversed(jobs.log(job.id).rstrip().splitlines())), ""),
    }
    width = max(map(len, rows))
    for key, value in rows.items():
        if value:
            typer.echo(f"{key:{width}}  {value}")
    say(ending(job, commands) if job.has_ended else commands.help(job))
    return 0


def listing(jobs: "Jobs") -> Iterator[str]:
    """A line for every job, the newest first."""
    rows = [(job.id, job.run, job.status, moment(job.started), took(job)) for job in jobs.all()]
    if not rows:
        yield f"{jobs.door.url}: no job has been submitted"
        return
    rows.insert(0, ("JOB", "RUN", "STATUS", "BEGAN", "TOOK"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def took(job: "Job") -> str:
    """How long a job has worked."""
    return duration((job.ended or time.time()) - job.started)


def moment(at: float) -> str:
    """A time of day."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))

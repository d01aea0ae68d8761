"""Why a group of workers ended, in one line.

Concluded from what `fit` raised and from what workers said of their own ends. A fall of one worker
ends all: its neighbours lose their connection and say so, often before Ray knows who is gone, so
what they say counts least.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from ray.exceptions import RayActorError
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2._internal.exceptions import (
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
)
from ray.train.v2.api.exceptions import PreemptionError

from cluster.exchange import Sign, Told
from llm.errors import UserError
from llm.faults import RolledBack
from llm.fell import Fell

Kind = Literal["fall", "preemption", "no room", "going back", "leaving"]

COLLATERAL = (
    *("gloo", "NCCL", "Connection closed", "Connection reset", "DistNetworkError"),
    *("ActorDiedError", "ActorUnavailableError", "ObjectLostError", "OwnerDiedError"),
)
"""In the errors of those whose connection to a fallen worker, or to its node, broke."""

KILLED = "the worker was killed"
RECLAIMED = "its node was reclaimed"
NODE_DIED = "its node died"

DEATHS = {
    "low on memory": "killed by Ray, as its machine ran low on memory",
    "ode has died": NODE_DIED,
    "node was terminated": NODE_DIED,
    "node died": NODE_DIED,
    "owner": "its owner died",
}
"""What Ray says of dead actors, in our words."""


@dataclass(frozen=True)
class Fall:
    """Why a group ended."""

    cause: str
    kind: Kind = "fall"
    rank: int | None = None
    step: int | None = None
    trace: str = ""
    """Of a Python error."""
    host: str | None = None
    """Of the rank, if the group had several."""

    def __str__(self) -> str:
        places = [("rank", self.rank), ("step", self.step)]
        known = [f"{name} {value}" for name, value in places if value is not None]
        if self.host and known:
            known[0] += f" on {self.host}"
        where = ", ".join(known)
        return f"{where}: {self.cause}" if where else self.cause


def fall_of(error: BaseException, fallen: list[Told], ranks: Iterable[int]) -> Fall:
    """Why `fit` raised an error. What is no fall is raised: a mistake of the user, or a bug.

    `fallen` are those that workers reported, the first one first; `ranks` those that there were.
    """
    match error:
        case PreemptionError():
            gone = error.preemption_info.preempted_ranks
            return Fall(RECLAIMED, "preemption", gone[0] if gone else None)
        case ControllerError():
            return fall_at_start(error.controller_failure)
        case RayActorError():
            return Fall("the controller of Ray Train died")
        case WorkerGroupError():
            return fall_of_group(error.worker_failures, fallen, ranks)
    raise error


def fall_at_start(failure: Exception) -> Fall:
    """Why a group did not come up."""
    if isinstance(failure, WorkerGroupStartupTimeoutError):
        return Fall("no room for the workers", "no room")
    return Fall(f"the workers did not start: {first_line(failure)}")


def fall_of_group(failures: dict[int, Exception], fallen: list[Told], ranks: Iterable[int]) -> Fall:
    """Why its workers failed: the best that anybody knows."""
    for failure in failures.values():
        if isinstance(failure, UserError):
            raise failure
    for failure in failures.values():
        if isinstance(failure, RolledBack):
            return Fall(str(failure), "going back")
    dead = {rank: one for rank, error in failures.items() if (one := death(error))}
    preempted = [rank for rank, one in dead.items() if one.preempted]
    if preempted:
        return Fall(RECLAIMED, "preemption", preempted[0])
    told: list[Told | Fell] = [
        *fallen,
        *(error for error in failures.values() if isinstance(error, Fell)),
    ]
    own = [one for one in told if not is_collateral(one)]
    if own:
        return Fall(own[0].cause, "fall", own[0].rank, own[0].step, own[0].trace)
    for rank, error in dead.items():
        return Fall(said_of(error), "fall", rank)
    silent = set(ranks) - {one.rank for one in told}
    if silent:
        return Fall(KILLED, "fall", min(silent))
    return Fall(told[0].cause, "fall", told[0].rank, told[0].step, told[0].trace)


def death(error: Exception) -> RayActorError | None:
    """Ray's notice that a worker's process is gone, if the error is one."""
    if isinstance(error, WorkerHealthCheckFailedError):
        error = error.health_check_failure
    return error if isinstance(error, RayActorError) else None


def said_of(error: RayActorError) -> str:
    """A death in our words."""
    text = str(error)
    return next((ours for theirs, ours in DEATHS.items() if theirs in text), KILLED)


def with_node(fall: Fall, signs: Iterable[Sign], alive: set[str]) -> Fall:
    """The same, seen a moment later: a worker is missed sooner than the node that it was on."""
    lost = {sign.rank for sign in signs if sign.node not in alive}
    return replace(fall, cause=NODE_DIED) if fall.cause == KILLED and fall.rank in lost else fall


def is_collateral(fall: Told | Fell) -> bool:
    """Whether it only tells that a process at the other end of a connection is gone."""
    return any(word in fall.cause for word in COLLATERAL)


def first_line(error: BaseException) -> str:
    """`TypeError: what it says first`"""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__

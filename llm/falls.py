"""What falls have cost, worked out from events.jsonl (llm/events.py, noted by llm/pulse.py).

An attempt begins at a checkpoint's step and lasts until it falls. The steps between the checkpoint
and the fall are trained again: they are redone. The seconds from the last step before the fall
until that step is reached again are lost; if it falls once more on the way, the first loss ends
where the second begins, so losses add up. Goodput is the share of the wall time that was neither
lost nor spent waiting for a save; pauses that somebody asked for do not count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from llm.events import read
from llm.metrics import Event, duration, read_log

Kind = Literal["fall", "rolled_back", "resized"]

UNKNOWN = "ended without a word"


@dataclass(frozen=True)
class Fall:
    """One end of an attempt, and how it got up again."""

    at: float
    """Unix time of the last step before it."""
    step: int | None
    """That step; None if it fell before there were any."""
    cause: str
    kind: Kind = "fall"
    """Growing and shrinking on purpose costs steps, too, but is no fall."""
    resumed: int | None = None
    """The step from which it went on; None if it has not yet."""
    redone: int = 0
    lost: float | None = None
    """Seconds; None if it does not yet stand where it fell."""


@dataclass(frozen=True)
class Account:
    """The falls of a training and what they cost. Times are seconds."""

    falls: tuple[Fall, ...] = ()
    stalled: float = 0.0
    """Waiting for saves."""
    wall: float = 0.0

    @property
    def count(self) -> int:
        """Falls, roll backs included."""
        return sum(fall.kind != "resized" for fall in self.falls)

    @property
    def redone(self) -> int:
        """Steps trained again."""
        return sum(fall.redone for fall in self.falls)

    @property
    def lost(self) -> float:
        """Until what had been reached was reached again."""
        return sum(fall.lost or 0.0 for fall in self.falls)

    @property
    def goodput(self) -> float | None:
        """Share of the wall time that went into new steps; None if none was measured."""
        if self.wall <= 0:
            return None
        return max(0.0, 1 - (self.lost + self.stalled) / self.wall)

    def metrics(self) -> dict[str, Any]:
        """For the manifest; nothing of a stage that has neither trained nor fallen."""
        if self.goodput is None and not self.falls:
            return {}
        found: dict[str, Any] = {"falls": self.count, "redone": self.redone}
        found["lost_seconds"] = round(self.lost, 1)
        return found if self.goodput is None else {**found, "goodput": round(self.goodput, 4)}


NOTHING_BEFELL = Account()


def account_of(folder: Path) -> Account:
    """That of the artifact in a folder."""
    log = folder / "metrics.jsonl"
    return account(read(folder), read_log(log) if log.exists() else ())


def account(events: Sequence[Event], log: Sequence[Event]) -> Account:
    """From what befell a training, and its metrics.jsonl."""
    stalls = (event.get("stall", 0.0) for event in log if event["event"] == "checkpoint")
    return Account(tuple(falls_in(events)), sum(stalls), wall_time(events))


def falls_in(events: Sequence[Event]) -> list[Fall]:
    """Every fall, in order."""
    falls: list[Fall] = []
    causes: list[Event] = []
    begin: Event | None = None
    for event in events:
        match event["event"]:
            case "fall" | "rolled_back" | "resized":
                causes.append(event)
            case "begin" if "fell_at" in event:
                close(falls, begin, event["fell_at"], event["fell_after"])
                falls.append(fallen(event, causes))
                begin, causes = event, []
            case "begin":
                falls += [before_any_step(cause, event) for cause in causes]
                begin, causes = event, []
            case "again" | "stopped" | "end":
                close(falls, begin, event["at"], event["step"])
    if begin is None:
        return falls + [before_any_step(cause) for cause in causes]
    return falls + [still_down(cause) for cause in causes[:1]]


def fallen(begin: Event, causes: Sequence[Event]) -> Fall:
    """The fall from which an attempt goes on; of several causes the first led to the others."""
    cause: Event = causes[0] if causes else {"event": "fall"}
    return Fall(
        begin["fell_at"],
        begin["fell_after"],
        cause_of(cause),
        cause["event"],
        resumed=begin["step"],
    )


def before_any_step(cause: Event, begin: Event | None = None) -> Fall:
    """One that cost no step: of a stage that does not train, or does not yet."""
    resumed = begin["step"] if begin else None
    return Fall(cause["at"], None, cause_of(cause), cause["event"], resumed, lost=0.0)


def still_down(cause: Event) -> Fall:
    """One after which nothing has begun yet."""
    return Fall(cause["at"], cause.get("step"), cause_of(cause), cause["event"])


def close(falls: list[Fall], begin: Event | None, at: float, step: int) -> None:
    """The newest fall's loss ends, if it is not over: the attempt after it came up to `step`."""
    if falls and begin and falls[-1].lost is None:
        redone = max(0, min(step, begin["reached"]) - begin["step"])
        falls[-1] = replace(falls[-1], redone=redone, lost=max(0.0, at - falls[-1].at))


def cause_of(event: Event) -> str:
    """In words."""
    match event["event"]:
        case "resized":
            return f"resized from {event['workers_from']} to {event['workers_to']} workers"
        case "rolled_back":
            return f"rolled back: {event['why']}"
    rank = event.get("rank")
    of_rank = f" (rank {rank})" if rank is not None else ""
    return event.get("cause", UNKNOWN) + of_rank


def wall_time(events: Sequence[Event]) -> float:
    """Seconds from beginnings to ends, without pauses between an end and the next beginning."""
    total, began = 0.0, None
    for event in events:
        if event["event"] == "begin" and began is None:
            began = event["at"]
        elif event["event"] in ("stopped", "end") and began is not None:
            total, began = total + event["at"] - began, None
    return total if began is None else total + events[-1]["at"] - began


def falls_line(metrics: Mapping[str, Any]) -> str:
    """`fell 2 times, 31 steps redone, 24s lost, goodput 97.1%`; empty if there is nothing to say"""
    falls, redone, lost = (metrics.get(name, 0) for name in ("falls", "redone", "lost_seconds"))
    if not falls and not redone:
        return ""
    parts = [f"fell {falls} time{'s' if falls != 1 else ''}"] if falls else []
    if redone:
        parts.append(f"{redone:,} step{'s' if redone != 1 else ''} redone")
    if lost:
        parts.append(f"{duration(lost)} lost")
    if metrics.get("goodput") is not None:
        parts.append(f"goodput {metrics['goodput']:.1%}")
    return ", ".join(parts)

"""What saving and training cost here: read off an earlier attempt, or probed."""

import os
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median

from llm import events
from llm.metrics import Event, read_log

PROBE_BYTES = 16 << 20

LONGEST_RESTART = 1800.0
"""Seconds; what took longer waited for a person to start it again."""


@dataclass(frozen=True)
class Measured:
    """Medians over an earlier attempt of a training, in seconds; None: it did not get so far."""

    step: float | None = None
    stall: float | None = None
    write: float | None = None
    restart: float | None = None


def measure(folder: Path) -> Measured:
    """What the training in an artifact's folder cost until it was broken off."""
    path = folder / "metrics.jsonl"
    log = read_log(path) if path.exists() else []
    saves = [event for event in log if event["event"] == "checkpoint"]
    step = middle(log, seconds_of_step)
    return Measured(
        step=step,
        stall=middle(saves, lambda save: save.get("stall")),
        write=middle(saves, lambda save: save["seconds"]),
        restart=middle(events.read(folder), lambda event: seconds_of_restart(event, step or 0.0)),
    )


def seconds_of_step(event: Event) -> float | None:
    """Of a step before the last, from how long those that are left will take."""
    left = event["steps"] - event["step"] if event["event"] == "step" else 0
    return event["eta"] / left if left else None


def seconds_of_restart(event: Event, step: float) -> float | None:
    """From a fall until it trained again: what was lost without the steps that were redone."""
    if event["event"] != "again":
        return None
    seconds = max(0.0, event["lost"] - event["redone"] * step)
    return seconds if seconds <= LONGEST_RESTART else None


def middle(found: Iterable[Event], value: Callable[[Event], float | None]) -> float | None:
    """The median of what events tell; None if none does."""
    values = [one for event in found if (one := value(event)) is not None]
    return median(values) if values else None


@cache
def write_speed(folder: Path) -> float | None:
    """Bytes per second that reach the disk of a folder, probed once; None if it takes none."""
    while not folder.exists():
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            start = time.perf_counter()
            file.write(os.urandom(1 << 20) * (PROBE_BYTES >> 20))
            file.flush()
            os.fsync(file.fileno())
            return PROBE_BYTES / (time.perf_counter() - start)
    except OSError:
        return None

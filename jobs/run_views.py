"""The stages of a run as its folder shows them now, whoever works on it and wherever.

Nothing is asked of the run and nothing is changed. Of files that grow only the ends are read.
"""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from jobs.facts import MANIFEST, read_manifest
from llm.events import read
from llm.falls import account
from llm.lease import holder
from llm.metrics import Event
from llm.pulse import last_pulse

State = Literal["finished", "running", "quiet", "broken off"]

QUIET_S = 120.0
"""Seconds without a step after which a training that runs is called quiet."""

TAIL = 1 << 18
"""Bytes of a log that are read, from its end."""

SIZES_S = 15.0
"""Seconds between two additions of all files' sizes."""


@dataclass(frozen=True)
class View:
    """One stage as its newest artifact shows it."""

    name: str
    state: State
    folder: Path
    step: Event = field(default_factory=dict)
    """The newest step event; none of a stage that does not train."""
    validation: Event = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    """Of a finished one."""
    workers: int | None = None
    falls: int = 0
    goodput: float | None = None
    reached: int | None = None
    """The last step, which is newer than the one logged last."""
    silent: float | None = None
    """Seconds since then."""
    seconds: float | None = None
    """That a finished one took."""


def artifacts(folder: Path) -> Iterator[Path]:
    """Folders of artifacts, finished or not."""
    for path in folder.glob("*/*"):
        if path.is_dir() and any((path / name).exists() for name in (MANIFEST, ".lease")):
            yield path


def views(folder: Path) -> list[View]:
    """The newest artifact of each stage, in the order in which they began."""
    newest: dict[str, Path] = {}
    for path in sorted(artifacts(folder), key=began):
        newest[path.parent.name] = path
    return [view(path) for path in sorted(newest.values(), key=began)]


def began(path: Path) -> float:
    """When work in an artifact began, in unix seconds."""
    first = path / ".lease" / "1"
    return (first if first.exists() else path / MANIFEST).stat().st_mtime


def view(path: Path) -> View:
    """An artifact as it is now."""
    name = path.parent.name
    if not (path / MANIFEST).exists():
        return with_training(View(name, "running" if holder(path) else "broken off", path))
    manifest = read_manifest(path / MANIFEST)
    found = manifest.get("metrics", {}), manifest.get("seconds")
    return with_training(View(name, "finished", path, metrics=found[0], seconds=found[1]))


def with_training(seen: View) -> View:
    """The same with what a training has logged.

    Goodput is exact in the manifest of a finished one; before, of the saves only those that stand
    in the end of the log count as waiting.
    """
    log, events = tail(seen.folder / "metrics.jsonl"), read(seen.folder)
    begins = [event for event in events if event["event"] == "begin"]
    pulse = last_pulse(seen.folder)
    silent = time.time() - pulse[1] if pulse else None
    quiet = seen.state == "running" and silent is not None and silent > QUIET_S
    cost = seen.metrics if "falls" in seen.metrics else account(events, log).metrics()
    return replace(
        seen,
        state="quiet" if quiet else seen.state,
        step=newest(log, "step"),
        validation=newest(log, "validation"),
        workers=begins[-1]["workers"] if begins else None,
        falls=cost.get("falls", 0),
        goodput=cost.get("goodput"),
        reached=pulse[0] if pulse else None,
        silent=silent,
    )


def newest(log: list[Event], kind: str) -> Event:
    """The last event of a kind; an empty one if there is none."""
    return next((event for event in reversed(log) if event["event"] == kind), {})


def tail(path: Path) -> list[Event]:
    """The whole lines at the end of a log; none if it is not there."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return []
    whole = lines[1 if size > TAIL else 0 : -1]
    return [event for line in whole if isinstance(event := value_of(line), dict)]


def value_of(line: bytes) -> Any:
    """A line's value; None if a power cut has torn it."""
    try:
        return json.loads(line)
    except ValueError:
        return None


class Sizes:
    """Bytes below folders, added up every now and then."""

    def __init__(self) -> None:
        self.known: dict[Path, int] = {}
        self.next = 0.0

    def of(self, folders: list[Path]) -> dict[Path, int]:
        """By folder."""
        if time.monotonic() >= self.next or any(one not in self.known for one in folders):
            self.known = {folder: bytes_below(folder) for folder in folders}
            self.next = time.monotonic() + SIZES_S
        return self.known


def bytes_below(folder: Path) -> int:
    """What files take; a file that goes meanwhile takes nothing."""
    total = 0
    for base, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(base, name)).st_size
            except FileNotFoundError:
                continue
    return total

"""A trial on disk: a folder that is all anybody needs to know of it, named by what is tried.

    trials/<hash of point and seed>/point.json    what is tried, written first
                                    log.jsonl     begin and report events, one a line
                                    work/         where the trial itself writes; PBT: work-1, ...
                                    order.json    PBT: go on as a copy of another, from start-1
                                    result.json   how it ended, written last, in one step

A trial with result.json is never run again; one without goes on in its folder. That is all the
state a sweep has: it needs no driver, cluster or Ray version to be read. `Tuner.restore` would also
start trials again that ended while the driver was dying, knows nothing of budgets, and wants
the very class of before; here a raised budget or another scheduler simply goes on.
"""

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from llm.files import write_atomic, write_json
from tune.space import Point

ORDER = "order.json"

Status = Literal["done", "stopped", "failed", "unfinished"]


@dataclass(frozen=True)
class Trial:
    """One point with one seed, in one folder."""

    folder: Path
    number: int
    """Of the point; its trials with other seeds share it."""
    seed: int
    first: Point
    """What it began with; PBT may move on from there."""

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.folder.name

    @cached_property
    def result(self) -> Mapping[str, Any]:
        """How it ended: status, metrics, tokens, seconds, by or error; empty while it has not."""
        return read_result(self.folder)

    @cached_property
    def log(self) -> list[dict[str, Any]]:
        """Its events so far."""
        return read_events(self.folder)

    @property
    def reports(self) -> list[dict[str, Any]]:
        """What it said about itself."""
        return [event for event in self.log if event["event"] == "report"]

    @property
    def begins(self) -> list[dict[str, Any]]:
        """Each start, and each going on: after a fall, a pause or as a copy of another."""
        return [event for event in self.log if event["event"] == "begin"]

    @property
    def point(self) -> Point:
        """What it tries now, or tried at its end."""
        return self.begins[-1]["point"] if self.begins else self.first

    @property
    def status(self) -> Status:
        """How it is."""
        return self.result.get("status", "unfinished")

    @property
    def tokens(self) -> int:
        """How far it came."""
        return int(self.result.get("tokens", self.reports[-1]["tokens"] if self.reports else 0))

    @property
    def seconds(self) -> float:
        """How long it ran, over all attempts."""
        return sum(end - begin for begin, end in spans(self.log))

    def figure(self, metric: str) -> float | None:
        """A metric as it was last known; None if there is none, or it is no number."""
        known = self.result.get("metrics", {})
        if metric not in known:
            known = next((r["metrics"] for r in self.reports[::-1] if metric in r["metrics"]), {})
        value = known.get(metric)
        return float(value) if value is not None and math.isfinite(value) else None


# -- names and files -------------------------------------------------------------------------------


def name_of(point: Point, seed: int) -> str:
    """12 digits that stand for what is tried, whatever the order of its fields."""
    text = json.dumps([sorted(point.items()), seed])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def create(root: Path, number: int, seed: int, point: Point) -> Trial:
    """A trial's folder; what is in it already stays."""
    folder = root / "trials" / name_of(point, seed)
    if not (folder / "point.json").exists():
        write_json(folder / "point.json", {"number": number, "seed": seed, "point": point})
    return read_trial(folder)


def read_trial(folder: Path) -> Trial:
    """The trial of a folder."""
    known = json.loads((folder / "point.json").read_text())
    return Trial(folder, known["number"], known["seed"], known["point"])


def read_trials(root: Path) -> list[Trial]:
    """All trials of a sweep in the order of their numbers."""
    found = (read_trial(path.parent) for path in (root / "trials").glob("*/point.json"))
    return sorted(found, key=lambda trial: (trial.number, trial.seed))


def read_result(folder: Path) -> Mapping[str, Any]:
    """How a trial ended; empty while it has not."""
    path = folder / "result.json"
    return json.loads(path.read_text()) if path.exists() else {}


def end(trial: Trial, status: Status, **more: Any) -> None:
    """Write how a trial ended, unless it has said so itself."""
    if not (trial.folder / "result.json").exists():
        write_json(trial.folder / "result.json", ending(trial.folder, status, **more))


def ending(folder: Path, status: Status, **more: Any) -> dict[str, Any]:
    """What result.json says; figures are those of the last report, unless they are given."""
    events = read_events(folder)
    reports = [event for event in events if event["event"] == "report"]
    last = reports[-1] if reports else {"tokens": 0, "metrics": {}}
    seconds = sum(after - before for before, after in spans(events))
    figures = {"metrics": last["metrics"], "tokens": last["tokens"], "seconds": round(seconds, 3)}
    return {"status": status, **figures, **more}


def hold(checkpoint: Path, target: Path) -> Path:
    """The same files under another name, which outlives the first and takes no room."""
    if target.exists():
        return target
    link: Any = os.link
    temporary = target.with_name(f".{target.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    target.parent.mkdir(exist_ok=True)
    shutil.copytree(checkpoint, temporary, copy_function=link)
    return temporary.rename(target)


def order_copy(trial: Trial, better: Trial, held: Path, tokens: int, point: Point) -> None:
    """Tell a trial to go on from another's checkpoint, with these values; it keeps its name.

    The checkpoint is linked at once, since the other goes on and drops it.
    """
    number = 1 + sum(bool(begin["copied"]) for begin in trial.begins)
    start = trial.folder / f"start-{number}"
    shutil.rmtree(start, ignore_errors=True)
    hold(held, start)
    known = {"copied": better.name, "tokens": tokens}
    begin = {"point": point, "work": f"work-{number}", "start": str(start), **known}
    write_json(trial.folder / ORDER, begin)


# -- logs ------------------------------------------------------------------------------------------


def read_events(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of log.jsonl; a last one that a fall cut off does not count."""
    path = folder / "log.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


def write_event(folder: Path, event: str, **values: Any) -> None:
    """Append an event."""
    with open(folder / "log.jsonl", "a") as file:
        file.write(json.dumps({"event": event, "time": time.time(), **values}) + "\n")


def mend(folder: Path, before: float = math.inf) -> None:
    """Leave out a line that a fall cut off, and reports from so many tokens on.

    A trial that goes on from its last checkpoint passes the tokens after it a second time. What
    it reported before it became a copy of another stays.
    """
    events = read_events(folder)
    copied = max((i for i, event in enumerate(events) if event.get("copied")), default=0)
    again = {i for i, e in enumerate(events) if e["event"] == "report" and e["tokens"] >= before}
    kept = [event for i, event in enumerate(events) if i < copied or i not in again]
    text = "".join(json.dumps(event) + "\n" for event in kept)
    path = folder / "log.jsonl"
    if path.exists() and path.read_text() != text:
        write_atomic(path, text)


def spent(events: Iterable[Mapping[str, Any]]) -> int:
    """Tokens that a trial itself has trained on; a copy of another begins at that one's."""
    total = at = 0
    for event in events:
        if event["event"] == "report":
            total += max(0, event["tokens"] - at)
            at = event["tokens"]
        elif event.get("copied"):
            at = event["tokens"]
    return total


def spans(events: Iterable[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """From when to when a trial is known to have run, attempt by attempt."""
    found: list[tuple[float, float]] = []
    for event in events:
        if event["event"] == "begin":
            found.append((event["time"], event["time"]))
        else:
            found[-1] = (found[-1][0], event["time"])
    return found


def seconds_at_work(trials: Iterable[Trial]) -> float:
    """Seconds in which at least one trial ran; pauses of the whole sweep do not count."""
    total, until = 0.0, -math.inf
    for begin, finish in sorted(span for trial in trials for span in spans(trial.log)):
        total += max(0.0, finish - max(begin, until))
        until = max(until, finish)
    return total

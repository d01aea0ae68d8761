"""A run as its folder shows it, for its report: whatever is there, whole or not, and by whomever.

Nothing is asked of the run and nothing is changed. What cannot be read is told in `troubles`, and
everything else is read all the same.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.facts import MANIFEST
from jobs.run_record import NAME as RECORD
from jobs.run_views import artifacts, began
from llm.events import read as read_events
from llm.falls import NOTHING_BEFELL, Account, account
from llm.lease import holder
from llm.metrics import Event

EVALUATION = "evaluation.json"
"""What a stage that measures models leaves behind."""

MOST_BYTES = 1 << 30
"""Of a file that is read whole."""

STATES = {
    "not needed": "in the trials of a search",
    "on demand": "started by `serve`",
}
"""What a stage without an artifact is called, by its status in the plan."""


@dataclass(frozen=True)
class Seen:
    """One stage."""

    name: str
    kind: str
    state: str
    folder: Path | None = None
    identity: str = ""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    """Empty if it is not finished."""
    planned: Mapping[str, Any] = field(default_factory=dict)
    """Its entry in run.json."""
    log: tuple[Event, ...] = ()
    account: Account = NOTHING_BEFELL
    troubles: tuple[str, ...] = ()

    @property
    def metrics(self) -> Mapping[str, Any]:
        """What a finished one measured."""
        return mapping(self.manifest.get("metrics"))

    @property
    def spec(self) -> Mapping[str, Any]:
        """What it was told, without any `auto` if it has begun."""
        return mapping(self.manifest.get("spec")) or mapping(self.planned.get("spec"))

    @property
    def parents(self) -> Mapping[str, Any]:
        """What it was made of, by the key that names it."""
        return mapping(self.manifest.get("parents")) or mapping(self.planned.get("parents"))

    @property
    def start(self) -> Event:
        """The newest start of a training; an empty one if there is none."""
        starts = (event for event in reversed(self.log) if event["event"] == "start")
        return next(starts, {})

    @property
    def seconds(self) -> float:
        """At work, over all attempts as far as they are on record."""
        told = self.manifest.get("seconds")
        known = float(told) if isinstance(told, int | float) else 0.0
        return max(known, self.account.wall)


@dataclass(frozen=True)
class RunSeen:
    """A whole run."""

    folder: Path
    name: str
    stages: tuple[Seen, ...]
    record: Mapping[str, Any] = field(default_factory=dict)
    """run.json; empty if there is none."""
    troubles: tuple[str, ...] = ()

    @property
    def cluster(self) -> Mapping[str, Any]:
        """The machines it asked for."""
        return mapping(mapping(self.record.get("spec")).get("cluster"))

    def of(self, *kinds: str) -> list[Seen]:
        """Its stages of some kinds that have begun."""
        return [one for one in self.stages if one.kind in kinds and one.folder]


def read_run(folder: Path) -> RunSeen:
    """What lies in a run's folder."""
    troubles: list[str] = []
    record = mapping(read_json(folder / RECORD, troubles))
    planned = [one for one in listed(record.get("stages")) if isinstance(one.get("name"), str)]
    stages = [planned_stage(folder, one) for one in planned] or newest_stages(folder)
    name = record.get("name")
    name = name if isinstance(name, str) else folder.name
    return RunSeen(folder, name, tuple(stages), record, tuple(troubles))


def planned_stage(folder: Path, planned: Mapping[str, Any]) -> Seen:
    """A stage that run.json tells of."""
    where = planned.get("folder")
    path = (folder / where) if isinstance(where, str) else None
    if path is None or not path.is_dir():
        state = STATES.get(str(planned.get("status")), "not begun")
        identity = str(planned.get("identity") or "")
        return Seen(planned["name"], str(planned.get("kind")), state, None, identity, {}, planned)
    return stage_at(path, planned["name"], planned)


def newest_stages(folder: Path) -> list[Seen]:
    """The newest artifact of each stage in the order in which they began."""
    newest: dict[str, Path] = {}
    for path in sorted(artifacts(folder), key=began):
        newest[path.parent.name] = path
    return [stage_at(path, path.parent.name, {}) for path in sorted(newest.values(), key=began)]


def stage_at(path: Path, name: str, planned: Mapping[str, Any]) -> Seen:
    """An artifact."""
    troubles: list[str] = []
    manifest = mapping(read_json(path / MANIFEST, troubles))
    log = tuple(read_log(path / "metrics.jsonl", troubles))
    return Seen(
        name=name,
        kind=str(manifest.get("kind") or planned.get("kind") or "stage"),
        state=state_of(path, manifest),
        folder=path,
        identity=identity_of(manifest, planned, path),
        manifest=manifest,
        planned=planned,
        log=log,
        account=account_of(path, log, troubles),
        troubles=tuple(troubles),
    )


def state_of(path: Path, manifest: Mapping[str, Any]) -> str:
    """Whether it is finished, and if not whether somebody works on it."""
    if manifest:
        return "finished"
    try:
        return "running" if holder(path) else "broken off"
    except (OSError, ValueError, KeyError, TypeError):
        return "broken off"  # with a lease that nobody could have written


def identity_of(manifest: Mapping[str, Any], planned: Mapping[str, Any], path: Path) -> str:
    """What later stages know it by; that of a search names its best trial."""
    key = str(manifest.get("fingerprint") or path.name)
    best = mapping(mapping(manifest.get("metrics")).get("best"))
    return f"{key}.{best['trial']}" if "trial" in best else key


def account_of(path: Path, log: tuple[Event, ...], troubles: list[str]) -> Account:
    """What befell it."""
    try:
        return account(read_events(path), log)
    except (OSError, KeyError, TypeError, ValueError, ArithmeticError) as error:
        troubles.append(f"events.jsonl: {type(error).__name__}: {error}")
        return NOTHING_BEFELL


# -- files -----------------------------------------------------------------------------------------


def read_json(path: Path, troubles: list[str]) -> Any:
    """A file's value; None if it is not there or not readable, which is a trouble."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("it is too large")
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        troubles.append(f"{path.name} could not be read: {error}")
        return None


def read_log(path: Path, troubles: list[str]) -> list[Event]:
    """The events of whole lines that are some; how many are not is a trouble."""
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    except OSError as error:
        troubles.append(f"{path.name} could not be read: {error}")
        return []
    events = [event for line in lines if is_event(event := value_of(line))]
    if bad := len(lines) - len(events):
        troubles.append(f"{path.name}: {bad:,} of {len(lines):,} lines could not be read")
    return events


def value_of(line: bytes) -> Any:
    """A line's value; None if it has none."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def is_event(value: Any) -> bool:
    """Whether it has what every event has."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("event"), str)
        and isinstance(value.get("step"), int)
    )


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is one, else an empty one."""
    return value if isinstance(value, dict) else {}


def listed(value: Any) -> list[Mapping[str, Any]]:
    """The mappings of a list; none of anything else."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def moment(at: float) -> str:
    """A time of day, for anybody anywhere."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))

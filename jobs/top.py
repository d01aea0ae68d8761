"""`python -m jobs top`: how a run gets on, from its folder alone.

Nothing is asked of the run, so it works for one on another machine, for one that has fallen, and
for one that ended a year ago. On a terminal the table stays and is drawn anew; elsewhere it is
printed once. Of files that grow only the ends are read.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from jobs.facts import MANIFEST, read_manifest
from jobs.load import load
from jobs.run_log import NAME as LOG
from llm.errors import SpecError, UserError
from llm.events import read
from llm.falls import account_of
from llm.lease import holder
from llm.metrics import Event, duration, quantity, size_of
from llm.pulse import last_pulse

State = Literal["finished", "running", "quiet", "broken off"]

STYLES: dict[State, str] = {
    "finished": "green",
    "running": "bold cyan",
    "quiet": "bold yellow",
    "broken off": "yellow",
}

QUIET_S = 120.0
"""Seconds without a step after which a training that runs is called quiet."""

TAIL = 1 << 18
"""Bytes of a log that are read, from its end."""

EVERY_S = 1.0
"""Seconds between two looks."""

SIZES_S = 15.0
"""Seconds between two additions of all files' sizes."""

NEWS = 5
"""Lines of what was out of the ordinary."""

WIDE = 160
"""Columns where there is no terminal."""

COLUMNS = {
    "step": 40,
    "figures": 64,
    "tok/s": 72,
    "eta": 84,
    "falls": 96,
    "workers": 104,
    "disk": 114,
}
"""What is told of a stage besides name and state, and how wide a terminal must be for it."""


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


def top(target: str, overrides: list[str]) -> None:
    """Show a run until Ctrl-C; once if nobody is there to press it."""
    folder = folder_of(target, overrides)
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=WIDE)
    sizes = Sizes()
    if not console.is_terminal:
        console.print(picture(folder, sizes, console.width))
        return
    try:
        with Live(console=console, auto_refresh=False) as live:
            while True:
                live.update(picture(folder, sizes, console.width), refresh=True)
                time.sleep(EVERY_S)
    except KeyboardInterrupt:
        return


def folder_of(target: str, overrides: list[str]) -> Path:
    """The run's folder, given itself or by its spec."""
    folder = Path(target)
    if not folder.is_dir():
        if not folder.exists():
            raise SpecError(f"{target}: is not there; give a spec, or the folder of a run")
        folder = load(target, overrides).folder
    if not any(artifacts(folder)):
        raise UserError(
            f"{folder}: holds no stage of a run; give a spec that has run, or a folder such as "
            "runs/NAME"
        )
    return folder


# -- what there is ---------------------------------------------------------------------------------


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
    if (path / MANIFEST).exists():
        manifest = read_manifest(path / MANIFEST)
        done = View(name, "finished", path, metrics=manifest.get("metrics", {}))
        done = View(**{**vars(done), "seconds": manifest.get("seconds")})
    else:
        done = View(name, "running" if holder(path) else "broken off", path)
    return with_training(done)


def with_training(seen: View) -> View:
    """The same with what a training has logged."""
    log = tail(seen.folder / "metrics.jsonl")
    steps = [event for event in log if event["event"] == "step"]
    if not steps and not (seen.folder / "metrics.jsonl").exists():
        return seen
    events = read(seen.folder)
    begins = [event for event in events if event["event"] == "begin"]
    account, pulse = account_of_tail(seen), last_pulse(seen.folder)
    silent = time.time() - pulse[1] if pulse else None
    quiet = seen.state == "running" and silent is not None and silent > QUIET_S
    return View(
        seen.name,
        "quiet" if quiet else seen.state,
        seen.folder,
        step=steps[-1] if steps else {},
        validation=next((e for e in reversed(log) if e["event"] == "validation"), {}),
        metrics=seen.metrics,
        workers=begins[-1]["workers"] if begins else None,
        falls=account["falls"],
        goodput=account["goodput"],
        reached=pulse[0] if pulse else None,
        silent=silent,
        seconds=seen.seconds,
    )


def account_of_tail(seen: View) -> dict[str, Any]:
    """Falls and goodput: of a finished stage those of its manifest, else worked out anew."""
    found = seen.metrics if "falls" in seen.metrics else account_of(seen.folder).metrics()
    return {"falls": found.get("falls", 0), "goodput": found.get("goodput")}


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
    return [event for line in whole if isinstance(event := parsed(line), dict)]


def parsed(line: bytes) -> Any:
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


# -- what is drawn ---------------------------------------------------------------------------------


def picture(folder: Path, sizes: Sizes, width: int) -> RenderableType:
    """All of it."""
    seen = views(folder)
    taken = sizes.of([one.folder.parent for one in seen])
    free = shutil.disk_usage(folder).free
    title = Text.assemble(
        (folder.name, "bold"),
        f"  {folder.parent}  {size_of(sum(taken.values()))} used, {size_of(free)} free",
        f"  {time.strftime('%H:%M:%S')}",
        no_wrap=True,
        overflow="ellipsis",
    )
    news = [Text(line, style="yellow", no_wrap=True, overflow="ellipsis") for line in new(folder)]
    return Group(title, table(seen, taken, width), *news)


def table(seen: list[View], taken: dict[Path, int], width: int) -> Table:
    """A row for each stage, with what there is room for."""
    told = [name for name, least in COLUMNS.items() if width >= least]
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    made.add_column("stage", no_wrap=True, min_width=8)
    made.add_column("state", no_wrap=True, min_width=8)
    for name in told:
        made.add_column(name, justify="left" if name == "figures" else "right", no_wrap=True)
    for one in seen:
        cells = cells_of(one) | {"disk": size_of(taken[one.folder.parent])}
        state = Text(one.state, style=STYLES[one.state])
        made.add_row(Text(one.name), state, *(Text(cells[name]) for name in told))
    return made


def cells_of(seen: View) -> dict[str, str]:
    """What is told of a stage, by column."""
    speed = speed_of(seen)
    return {
        "step": progress(seen),
        "figures": figures(seen),
        "tok/s": quantity(speed) if speed is not None else "",
        "eta": remaining(seen),
        "falls": (str(seen.falls) if seen.falls else "") + goodput(seen),
        "workers": str(seen.workers or ""),
    }


def progress(seen: View) -> str:
    """`120/2000`"""
    if not seen.step:
        return ""
    return f"{max(seen.reached or 0, seen.step['step'])}/{seen.step['steps']}"


def figures(seen: View) -> str:
    """What was measured last: loss or reward, and on held-out text."""
    parts = []
    for name, digits in (("loss", 3), ("reward", 3), ("kl", 2)):
        if name in seen.step:
            parts.append(f"{name} {seen.step[name]:.{digits}f}")
    for name in ("bpb", "accuracy"):
        if name in seen.validation:
            parts.append(f"{name} {seen.validation[name]:.3f}")
    if not parts and "kept" in seen.metrics:
        parts.append(f"{seen.metrics['kept']:,} documents")
    if not parts and "vocab_size" in seen.metrics:
        parts.append(f"{seen.metrics['vocab_size']:,} tokens")
    return " ".join(parts)


def speed_of(seen: View) -> float | None:
    """Tokens a second: of all of a finished training, else of its last steps."""
    whole: float | None = seen.metrics.get("tokens_per_second")
    return whole if whole is not None else seen.step.get("tokens_per_second")


def remaining(seen: View) -> str:
    """Until the end, since the last step, or how long it took."""
    if seen.state == "finished":
        return f"took {duration(seen.seconds)}" if seen.seconds is not None else ""
    if seen.state == "running":
        return duration(seen.step["eta"]) if "eta" in seen.step else ""
    return f"{duration(seen.silent)} ago" if seen.silent is not None else ""


def goodput(seen: View) -> str:
    """` 97%`, if there were falls"""
    return f" {seen.goodput:.0%}" if seen.falls and seen.goodput is not None else ""


def new(folder: Path) -> list[str]:
    """The newest lines of what was out of the ordinary."""
    grave = [event for event in tail(folder / LOG) if event.get("level") == "warning"]
    return [told(event) for event in grave[-NEWS:]]


def told(event: Event) -> str:
    """`14:02:11 pretrain step 120: fall, worker 1 was killed`"""
    why = next((event[key] for key in ("cause", "why", "message", "text") if key in event), "")
    step = f" step {event['step']}" if "step" in event else ""
    clock = time.strftime("%H:%M:%S", time.localtime(event["at"]))
    line = f"{clock} {event['stage']}{step}: {event['event']}, {why}"
    plain = "".join(sign if sign.isprintable() else " " for sign in line)  # nothing for terminals
    return " ".join(plain.split())

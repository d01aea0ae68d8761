"""`python -m jobs top`: how a run gets on, from its folder alone.

Nothing is asked of the run, so it works for one on another machine, for one that has fallen, and
for one that ended a year ago. On a terminal the table stays and is drawn anew; elsewhere it is
printed once.
"""

import os
import shutil
import time
from pathlib import Path

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from jobs.load import load
from jobs.progress import draws
from jobs.run_log import NAME as LOG
from jobs.run_views import Sizes, State, View, artifacts, tail, views
from llm.errors import SpecError, UserError
from llm.metrics import Event, duration, quantity, size_of

STYLES: dict[State, str] = {
    "finished": "green",
    "running": "bold cyan",
    "quiet": "bold yellow",
    "broken off": "yellow",
}

EVERY_S = 1.0
"""Seconds between two looks."""

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


def top(target: str, overrides: list[str]) -> None:
    """Show a run until Ctrl-C; once if nobody is there to press it."""
    folder = folder_of(target, overrides)
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=WIDE)
    sizes = Sizes()
    if not draws(console):
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
    for name in ("bpb", "accuracy", "filled", "restored"):
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

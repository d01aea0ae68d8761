"""What a person sees while a stage runs: one live line on a terminal, plain lines elsewhere.

`Watch` takes the events of `llm.metrics` and nothing else, so it looks the same whatever trains.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from llm.metrics import Event, duration, quantity, size_of, step_line, validation_line


def unheard(event: Event) -> None:
    """Nobody else wants to know."""


BETWEEN_LINES = 10.0
"""Seconds."""


BAR, WIDE = 24, 80
"""Columns of the bar, and of a terminal that has room for it."""


def draws(console: Console) -> bool:
    """Whether a line can be drawn anew: not where output is kept, nor on a dumb terminal."""
    return console.is_terminal and not console.is_dumb_terminal


def live_line(event: Event, room: int) -> str:
    """How far a training is, in so many columns: what matters least goes first."""
    ppo = "reward" in event and "loss" not in event
    figure = f"reward {event['reward']:.3f}" if ppo else f"loss {event['loss']:.3f}"
    parts = {
        0: f"step {event['step']}/{event['steps']}",
        2: figure,
        3: f"kl {event['kl']:.2f}" if ppo else "",
        4: f"{quantity(event['tokens_per_second'])} tok/s",
        1: f"eta {duration(event['eta'])}",
    }
    kept = sorted(key for key in parts if parts[key])
    while len(line := " ".join(parts[key] for key in parts if key in kept)) > room and kept[1:]:
        kept.pop()
    return line


class Watch:
    """Shows events as they come; use it in a `with` block."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self.console, self.clock = console, clock
        self.live = draws(console)
        self.next = -BETWEEN_LINES
        self.room = console.width - (BAR + 1 if console.width >= WIDE else 0)
        bar = [BarColumn(bar_width=BAR)] if console.width >= WIDE else []
        self.bar = Progress(TextColumn("{task.description}"), *bar, console=console)
        self.task = self.bar.add_task("starting the workers", total=None)
        self.chat = False

    def __enter__(self) -> "Watch":
        if self.live:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.bar.live.transient = not self.bar.finished  # "saving" is not true any more
            self.bar.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        show = SHOW.get(event["event"])
        if show is not None:
            show(self, event)

    def say(self, text: str, style: str | None = None) -> None:
        """Print a line above the live one."""
        self.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    def started(self, event: Event) -> None:
        """The workers are up."""
        again = f", continuing after step {event['step']}" if event["step"] else ""
        workers = f"{event['workers']} worker{'s' if event['workers'] > 1 else ''}"
        parameters = quantity(event["parameters"])
        precision, device = event["precision"], event["device"]
        compiled = ", compiled" if event.get("compiled") else ""
        self.say(f"{parameters} parameters on {workers} ({device}, {precision}{compiled}){again}")
        self.chat = "held_out_bytes" not in event  # prompts are answered, not continued
        if event.get("held_out_bytes", 1) == 0:
            self.say("no document is held out, so the model is not validated")
        if "padding" in event:
            rows, padding = event["rows"], event["padding"]
            self.say(
                f"{event['conversations']:,} conversations in {rows:,} rows, {padding:.1%} empty"
            )
        if "memory" in event:
            parts = ", ".join(f"{role} {size_of(size)}" for role, size in event["memory"].items())
            self.say(f"memory of each worker: {parts}")

    def stepped(self, event: Event) -> None:
        """Some more steps are done."""
        if not self.live:
            if self.clock() >= self.next or event["step"] == event["steps"]:
                self.next = self.clock() + BETWEEN_LINES
                self.say(step_line(event))
            return
        self.bar.update(
            self.task,
            total=event["steps"],
            completed=event["step"],
            description=live_line(event, self.room),
        )

    def validated(self, event: Event) -> None:
        """The model was measured on held-out text."""
        self.say(f"step {event['step']}: {validation_line(event)}", style="bold")

    def warned(self, event: Event) -> None:
        """A guard of PPO has acted."""
        self.say(f"step {event['step']}: {event['message']}", style="bold yellow")

    def fell(self, event: Event) -> None:
        """A group of workers has ended, and the next is started."""
        self.say(f"fell: {event['cause']}; starting again", style="bold yellow")
        self.bar.update(self.task, description="starting the workers again")

    def stands_again(self, event: Event) -> None:
        """The steps from a checkpoint to a fall are trained again."""
        redone, lost = event["redone"], duration(event["lost"])
        steps = f"{redone:,} step{'s' if redone != 1 else ''} redone"
        self.say(f"step {event['step']}: up again, {steps}, {lost} lost", style="bold green")

    def passed_over(self, event: Event) -> None:
        """A checkpoint is damaged."""
        name = Path(event["path"]).name
        self.say(f"checkpoint {name} is set aside: {event['why']}", style="bold yellow")

    def left_out(self, event: Event) -> None:
        """A step would have spoiled the weights."""
        done = FAULTS[event["action"]]
        self.say(f"step {event['step']}: {event['why']}; {done}", style="bold yellow")

    def resized(self, event: Event) -> None:
        """The cluster has become smaller or larger."""
        self.say(f"from {event['workers_from']} to {event['workers_to']} workers", style="bold")

    def placed(self, event: Event) -> None:
        """Where the workers of a group on several hosts are."""
        where = ", ".join(f"{count} on {host}" for host, count in event["hosts"].items())
        self.say(f"workers: {where}")

    def waits_for(self, event: Event) -> None:
        """All wait for some that do not get on."""
        hosts, ranks = event["hosts"], event["ranks"]
        where = ", ".join(hosts[:4]) + (f" and {len(hosts) - 4} more" if len(hosts) > 4 else "")
        which = f"rank {ranks[0]}" if len(ranks) == 1 else f"{len(ranks)} ranks"
        text = f"step {event['step']}: waiting for {where} ({which}, {event['doing']})"
        self.say(text, style="bold yellow")

    def waits(self, event: Event) -> None:
        """The cluster has no room for the workers."""
        wanted = f"{event['workers']} worker{'s' if event['workers'] > 1 else ''}"
        self.say(f"waiting for room for {wanted} on the cluster; there is for {event['room']}")

    def crowded(self, event: Event) -> None:
        """The cluster is large enough, yet there was no place for the workers."""
        wanted = f"{event['workers']} worker{'s' if event['workers'] > 1 else ''}"
        self.say(f"others use the places of {wanted} (see `ray status`); trying again")

    def saved_early(self, event: Event) -> None:
        """Somebody asked for a save."""
        self.say(f"step {event['step']}: saved early ({event['why']})", style="bold")

    def stopping(self, event: Event) -> None:
        """Somebody asked for the end."""
        doing = "finishing the step and saving" if event["saves"] else "no step was taken yet"
        self.say(f"stopping: {doing}; once more ends at once", style="bold yellow")
        self.bar.update(self.task, description="saving" if event["saves"] else "stopping")

    def not_compiled(self, event: Event) -> None:
        """It trains, but slower."""
        self.say(f"layers are not compiled, so steps take longer: {event['why']}")

    def not_mirrored(self, event: Event) -> None:
        """A copy of a checkpoint could not be made."""
        self.say(f"step {event['step']}: no copy in the mirror: {event['why']}", "bold yellow")

    def sampled(self, event: Event) -> None:
        """The model wrote something."""
        between = "  ->  " if self.chat else ""
        text = " ".join((event["prompt"] + between + event["text"]).split())
        width = min(self.console.width, 100) - 4
        self.say(f"  {shortened(text, width)}", style="italic")


SPINNER = 3
"""Columns that turn, before a line of `telling`."""


@contextmanager
def telling(console: Console, first: str) -> Iterator[Callable[[str], None]]:
    """A way to say how far a stage is: one live line on a terminal, a few plain ones elsewhere."""
    if not draws(console):
        log = Log(lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True))
        try:
            yield log
        finally:
            log.flush()
        return
    with console.status(first) as status:
        yield lambda text: status.update(Text(shortened(text, console.width - SPINNER)))


class Log:
    """Lines of which those that tell of the same in other numbers come every ten seconds.

    The first and the last of them always come.
    """

    def __init__(
        self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.write, self.clock = write, clock
        self.subject = ""
        self.waiting = ""
        self.next = 0.0

    def __call__(self, text: str) -> None:
        """Write a line, now or later or not at all."""
        subject = re.sub(r"[\d.,]+", "0", text)
        if subject != self.subject:
            self.flush()
            self.subject, self.next = subject, self.clock()
        self.waiting = text
        if self.clock() >= self.next:
            self.flush()
            self.next = self.clock() + BETWEEN_LINES

    def flush(self) -> None:
        """Write the line that waits."""
        if self.waiting:
            self.write(self.waiting)
            self.waiting = ""


def shortened(text: str, width: int) -> str:
    """A text cut to so many terminal cells; a Chinese character takes two."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 3).rstrip() + "..."


SHOW: dict[str, Callable[[Watch, Any], None]] = {
    "start": Watch.started,
    "step": Watch.stepped,
    "validation": Watch.validated,
    "sample": Watch.sampled,
    "guard": Watch.warned,
    "fall": Watch.fell,
    "again": Watch.stands_again,
    "damaged": Watch.passed_over,
    "fault": Watch.left_out,
    "resized": Watch.resized,
    "waiting": Watch.waits,
    "crowded": Watch.crowded,
    "placed": Watch.placed,
    "awaited": Watch.waits_for,
    "saved_early": Watch.saved_early,
    "stopping": Watch.stopping,
    "mirror_failed": Watch.not_mirrored,
    "not_compiled": Watch.not_compiled,
}

FAULTS = {
    "skip": "its update is left out",
    "roll_back": "back to the last checkpoint, without it",
}
"""What is done about a step that would spoil the weights."""

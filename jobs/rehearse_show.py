"""The table of a rehearsal, which grows while it goes on."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.live import Live
from rich.table import Table

from jobs.progress import draws
from jobs.rehearse_compare import Comparison
from llm.metrics import duration


@dataclass(frozen=True)
class Outcome:
    """What became of a fall."""

    stage: str
    fall: str
    """In words."""
    step: int | None = None
    """It fell after this step."""
    recovered: float | None = None
    """Seconds until it stood where it fell."""
    redone: int = 0
    """Steps trained again."""
    comparison: Comparison | None = None
    """With the undisturbed training; None: it never ended."""
    skipped: str | None = None
    """Why it was not tried."""
    broken: str | None = None
    """What went wrong."""

    @property
    def held(self) -> bool:
        """Whether the training is the one that nothing befell."""
        return not self.broken and not self.skipped

    @property
    def cells(self) -> tuple[str, ...]:
        """Its row of the table."""
        if self.skipped:
            return self.stage, self.fall, "", "", "", "", "", "", "skipped"
        compared = self.comparison
        equal = ("", "", "")
        if compared is not None:
            wrong = (compared.steps, compared.weights, compared.ledger)
            equal = tuple("differ" if one else "equal" for one in wrong)  # type: ignore[assignment]
        step = "" if self.step is None else str(self.step)
        recovered = "" if self.recovered is None else f"{self.recovered:.1f} s"
        verdict = "held" if self.held else "BROKEN"
        return self.stage, self.fall, step, recovered, str(self.redone), *equal, verdict

    @property
    def reason(self) -> str | None:
        """What there is to explain."""
        what = self.skipped or self.broken
        return f"{self.stage}, {self.fall}: {what}" if what else None


COLUMNS = {
    "stage": 8,
    "fall": 11,
    "step": 4,
    "up in": 7,
    "redone": 6,
    "losses": 6,
    "weights": 7,
    "ledger": 6,
    "verdict": 7,
}
"""And their least widths: so they stay where they are while the table grows, in 80 cells."""

NUMBERS = ("step", "up in", "redone")


class Show:
    """Shows outcomes as they come: a table that grows on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console, live: Live | None) -> None:
        self.console, self.live = console, live
        self.outcomes: list[Outcome] = []

    def doing(self, what: str) -> None:
        """What goes on now."""
        if self.live:
            self.live.update(table(self.outcomes, what))
        else:
            self.console.print(what, markup=False, highlight=False, soft_wrap=True)

    def done(self, outcome: Outcome) -> None:
        """A fall more."""
        self.outcomes.append(outcome)
        if self.live:
            self.live.update(table(self.outcomes, ""))


@contextmanager
def showing(console: Console) -> Iterator[Show]:
    """The table at work; without a terminal it comes at the end."""
    if draws(console):
        with Live(table([], "starting a cluster"), console=console) as live:
            yield Show(console, live)
        return
    show = Show(console, None)
    try:
        yield show
    finally:
        console.print(table(show.outcomes, ""))


def table(outcomes: Sequence[Outcome], doing: str) -> Table:
    """All rows so far, and what goes on below them."""
    made = Table(box=None, padding=(0, 2, 0, 0), caption=doing or None, caption_justify="left")
    for name, width in COLUMNS.items():
        justify: Literal["left", "right"] = "right" if name in NUMBERS else "left"
        made.add_column(name, justify=justify, min_width=width, no_wrap=True)
    for outcome in outcomes:
        style = "yellow" if outcome.skipped else "green" if outcome.held else "bold red"
        made.add_row(*outcome.cells[:-1], f"[{style}]{outcome.cells[-1]}[/]")
    return made


def summary(outcomes: Sequence[Outcome], seconds: float, next_command: str) -> str:
    """What it comes to, and what to do next."""
    broken = [one for one in outcomes if one.broken]
    skipped = sum(one.skipped is not None for one in outcomes)
    held = sum(one.held for one in outcomes)
    slowest = max((one.recovered or 0.0 for one in outcomes), default=0.0)
    head = f"{held} of {len(outcomes) - skipped} falls held in {duration(seconds)}"
    left_out = f", {skipped} skipped" if skipped else ""
    recovery = f"; the longest recovery took {slowest:.0f} s" if slowest else ""
    reasons = [one.reason for one in outcomes if one.reason]
    if broken:
        next_step = "do not rely on it yet: what the broken runs said is kept (see above)"
    else:
        next_step = f"next: {next_command}"
    return "\n".join([f"{head}{left_out}{recovery}", *map(str, reasons), next_step])

"""What a person sees while trials run: a live table on a terminal, plain lines elsewhere."""

import time
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from jobs.progress import draws
from llm.metrics import duration
from tune.config import SweepConfig
from tune.results import Tried, best, lines, objectives
from tune.search import trials_of
from tune.space import short
from tune.trials import Trial

STYLES = {"done": "green", "stopped": "dim", "failed": "bold red", "unfinished": "yellow"}
"""How a trial looks, by its status."""

MOST_ROWS = 20
"""Trials in the live table: those under way, and the best of the others."""


class TrialWatch:
    """Shows trials as they begin, report and end; use it in a `with` block."""

    def __init__(self, console: Console, config: SweepConfig) -> None:
        self.console, self.config = console, config
        self.trials: dict[str, Trial] = {}
        self.began = time.monotonic()
        self.live = Live(console=console, get_renderable=self.view, refresh_per_second=2)

    def __enter__(self) -> "TrialWatch":
        if draws(self.console):
            self.live.start()
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if draws(self.console):
            self.live.stop()

    def __call__(self, trial: Trial) -> None:
        """Take in how a trial is now."""
        before = self.trials.get(trial.name)
        self.trials[trial.name] = trial
        if trial.status == "failed" and (before is None or before.status != "failed"):
            self.say(f"trial {trial.number} failed: {trial.result['error']}")
            self.say(f"  its log: {trial.folder}")
        elif not draws(self.console):
            self.tell(trial, before)

    def say(self, text: str) -> None:
        """Print a line above the table."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def tell(self, trial: Trial, before: Trial | None) -> None:
        """A plain line when a trial begins and when it ends."""
        if before is not None and trial.status == "unfinished":
            return
        values = " ".join(f"{path}={short(value)}" for path, value in trial.point.items())
        figure = trial.figure(self.config.metric)
        known = "" if figure is None else f" {self.config.metric} {figure:.4g}"
        by = f" by {trial.result['by']}" if trial.result.get("by") else ""
        how = "begins" if trial.status == "unfinished" else f"{trial.status}{by}"
        at = f" at {trial.tokens:,}" if trial.tokens else ""
        self.say(f"trial {trial.number} {how}{at}:{known} {values}")

    def view(self) -> Group:
        """The trials, the newest state of each, and how all of them get on."""
        known = sorted(self.trials.values(), key=lambda trial: (trial.number, trial.seed))
        leader = best(known, self.config)
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        names = [path.split(".")[-1] for path in self.config.space]
        for name in ("trial", "", "tokens", *objectives(self.config), *names):
            table.add_column(name, overflow="fold")
        shown = [*known[-MOST_ROWS:]]
        if leader and leader.trials[0] not in shown:
            shown = [leader.trials[0], *shown[1:]]
        for trial, cells in zip(shown, lines(shown, self.config), strict=True):
            style = STYLES[trial.status]
            if leader and trial in leader.trials:
                style = "bold green"
            table.add_row(*(Text(cell) for cell in cells), style=style)
        return Group(table, Text(self.summary(leader), style="dim"))

    def summary(self, leader: Tried | None) -> str:
        """`5 of 8 ended after 2m 10s; best so far: trial 0, bpb 2.459`"""
        ended = sum(trial.status != "unfinished" for trial in self.trials.values())
        known = trials_of(self.config) * self.config.seeds
        text = f"{ended} of {known} ended after {duration(time.monotonic() - self.began)}"
        figure = leader.figure(self.config.metric) if leader else None
        if leader is None or figure is None:
            return text
        one = f"trial {leader.trials[0].number}, {self.config.metric} {figure:.4g}"
        return f"{text}; best so far: {one}"

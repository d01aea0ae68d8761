"""Two runs side by side: one table each for what was wanted, read, used and measured."""

import os
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.diff import ABSENT, Difference, What, compare, is_number, read_run, two_runs
from jobs.figures import counted
from jobs.fingerprint import canonical

TITLES: dict[What, str] = {
    "stage": "Stages",
    "spec": "Spec",
    "data": "Data",
    "code": "Code",
    "figure": "Figures",
}

STYLES = {"better": "green", "worse": "red", "changes no result": "dim", "of the machine": "dim"}

WIDEST = 48
"""Characters of a value that are shown."""

DIGITS = 64
"""Of a whole digest, of which the first twelve are shown."""

WIDE = 160
"""Columns where there is no terminal."""


def print_diff(words: Sequence[str]) -> int:
    """Compare the two runs that a command line names; its exit code."""
    targets = two_runs(words)
    found = compare(*(read_run(*target) for target in targets))
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=WIDE)
    (a, of_a), (b, of_b) = targets
    show_diff(found, (" ".join([a, *of_a]), " ".join([b, *of_b])), console)
    return int(any(one.counts for one in found))


def show_diff(found: Sequence[Difference], names: tuple[str, str], console: Console) -> None:
    """Print what differs between two runs, or that nothing does."""
    for letter, name in zip("AB", names, strict=True):
        console.print(Text.assemble((f"{letter}  ", "bold"), name), soft_wrap=True)
    for what, title in TITLES.items():
        if rows := [one for one in found if one.what == what]:
            console.print(f"\n{title}", style="bold")
            console.print(table(rows, with_change=what == "figure"))
    console.print(f"\n{summary(found)}", highlight=False)


def summary(found: Sequence[Difference]) -> str:
    """`3 differences in spec, 2 in figures; stages: ppo, evaluate`"""
    counting = [one for one in found if one.counts]
    if not counting:
        return "The same: spec, data, code and figures."
    numbers = {what: sum(one.what == what for one in counting) for what in TITLES}
    listed = ", ".join(TITLES[what].lower() for what, number in numbers.items() if number)
    stages = dict.fromkeys(one.stage for one in counting)
    return f"{counted(len(counting), 'difference')} in {listed}; stages: {', '.join(stages)}"


def table(rows: Sequence[Difference], with_change: bool) -> Table:
    """One line a difference; a stage is named on its first."""
    made = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    columns = ["stage", "", "A", "B", *(["B - A"] if with_change else []), ""]
    for column in columns:
        right = with_change and column in ("A", "B", "B - A")
        made.add_column(column, justify="right" if right else "left", overflow="fold")
    before = ""
    for one in rows:
        change = [change_of(one.a, one.b)] if with_change else []
        values = [shown(one.a), shown(one.b), *change]
        note = Text(one.note, STYLES.get(one.note, ""))
        made.add_row(one.stage if one.stage != before else "", one.path, *map(Text, values), note)
        before = one.stage
    return made


def shown(value: Any) -> str:
    """A value as a spec or a table would have it, cut if it is long."""
    if value is ABSENT:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value if isinstance(value, str) and value else canonical(value)
    if len(text) == DIGITS and " " not in text:
        return text[:12]
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 3]}..."


def change_of(a: Any, b: Any) -> str:
    """`+0.12`; nothing where one of the two is missing."""
    return f"{b - a:+.4g}" if is_number(a) and is_number(b) else ""

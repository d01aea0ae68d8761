"""What the plan says of saving and falling."""

from collections.abc import Iterator

from jobs.figures import counted
from jobs.saving import Saving
from llm.metrics import duration

Rows = Iterator[tuple[str, str]]


def saving_rows(saving: Saving, mtbf_hours: float) -> Rows:
    """How often it saves and should, and how much of the time then trains."""
    yield "checkpoints", f"{interval(saving)}best is {recommended(saving)}"
    own, *others = saving.goodputs
    larger = ", ".join(f"{share(saving.goodputs[count])} with {count}" for count in others)
    at_best = f"; at best {larger}" if larger else ""
    yield "goodput", f"{share(saving.goodput)} with {counted(own, 'worker')}{at_best}"
    yield "if", f"{costs(saving)}, a worker fails every {mtbf_hours:g} h"
    if saving.wasted:
        yield (
            "warning",
            f"checkpoint.every {saving.every} costs {saving.wasted:.0%} of the time more than "
            f"checkpoint.every={saving.best_every}",
        )


def costs(saving: Saving) -> str:
    """`a save stalls 0.03 s, takes 0.2 s (measured), a restart 30s (assumed)`"""
    stall, write, restart = (
        brief(seconds) for seconds in (saving.costs.stall, saving.costs.write, saving.costs.restart)
    )
    known = "measured" if saving.known_restart else "assumed"
    return f"a save stalls {stall}, takes {write} ({saving.source}), a restart {restart} ({known})"


def interval(saving: Saving) -> str:
    """`every 18 steps (2m 10s); `"""
    if saving.every is None:
        return ""
    seconds = f" ({brief(saving.every * saving.step)})" if saving.step else ""
    return f"every {counted(saving.every, 'step')}{seconds}; "


def recommended(saving: Saving) -> str:
    """`every 240 (29m 03s)`"""
    seconds = brief(saving.best)
    return f"every {saving.best_every:,} ({seconds})" if saving.best_every else f"every {seconds}"


def share(value: float) -> str:
    """A share near one, as many nines as it has and a digit: 99.97%, 98%, 40%."""
    return f"{value:.{2 if value > 0.999 else 1 if value > 0.99 else 0}%}"


def brief(seconds: float) -> str:
    """0.012 s, 4.2 s, 2m 10s"""
    return f"{seconds:.2g} s" if seconds < 9.95 else duration(seconds)

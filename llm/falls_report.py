"""The part of a training's report that tells of its falls: a table, and marks for the curves."""

import time
from collections.abc import Iterator, Sequence

from llm.falls import Account, Fall
from llm.metrics import Event, duration
from llm.page import shown

MOST_ROWS = 50
"""Of the table; the newest are the most telling."""

STYLE = """
.falls { overflow-x: auto; margin-top: .75rem; }
.falls table { border-collapse: collapse; min-width: 100%; font-size: .9rem;
  font-variant-numeric: tabular-nums; }
.falls th, .falls td { padding: .4rem .75rem .4rem 0; text-align: right; vertical-align: top;
  border-bottom: 1px solid var(--line); white-space: nowrap; }
.falls th { color: var(--soft); font-weight: 500; font-size: .8rem; white-space: normal; }
.falls :is(th, td):nth-child(2) { text-align: left; white-space: normal; min-width: 6rem;
  width: 100%; overflow-wrap: anywhere; }
.falls :is(th, td):last-child { padding-right: 0; }
@media (min-width: 40rem) { .falls th { white-space: nowrap; } }
"""

HEADINGS = ("after step", "why", "went on from", "redone", "lost")


def falls_section(account: Account) -> Iterator[str]:
    """What befell the training; nothing if nothing did."""
    if not account.falls:
        return
    rows = "".join(row(fall) for fall in account.falls[-MOST_ROWS:])
    head = "".join(f"<th>{heading}</th>" for heading in HEADINGS)
    yield "<h2>Falls</h2>"
    yield f"<p>{shown(summary(account))}</p>"
    yield f'<div class="falls" tabindex="0"><table><tr>{head}</tr>{rows}</table></div>'


def summary(account: Account) -> str:
    """What falls have cost, and how many of them the table leaves out."""
    text = (
        "Steps from the last checkpoint to a fall are trained again, with the same data and the "
        f"same result: {account.redone:,} in all. {duration(account.lost)} passed until what had "
        f"been reached was reached again, {duration(account.stalled)} waiting for saves. Dotted "
        "lines in the curves show where it fell."
    )
    left_out = len(account.falls) - MOST_ROWS
    return f"{text} The {left_out:,} oldest are not shown." if left_out > 0 else text


def row(fall: Fall) -> str:
    """One line of the table."""
    lost = "not yet up" if fall.lost is None else duration(fall.lost)
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(fall.at))
    cells = (number(fall.step), shown(fall.cause), number(fall.resumed), f"{fall.redone:,}", lost)
    return f'<tr title="{when} UTC">' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def number(step: int | None) -> str:
    """A step, if there is one."""
    return "-" if step is None else f"{step:,}"


def goodput_tile(account: Account) -> str:
    """Which share of the time went into new steps, as a tile; nothing if it never fell."""
    if not account.falls or account.goodput is None:
        return ""
    times = f"{account.count:,} fall{'s' if account.count != 1 else ''}"
    return f"<li><span>goodput</span><b>{account.goodput:.1%}</b><small>{times}</small></li>"


def marks(falls: Sequence[Fall]) -> list[Event]:
    """Where curves are marked: at the last step before each fall."""
    return [{"event": "fall", "step": fall.step} for fall in falls if fall.step is not None]

"""Drawings of a training: events in, SVG text out, to stand inside a page.

matplotlib draws without a display and without pyplot's global state. Colours become CSS variables
of the page (llm/page.py), so a drawing is light or dark as the page is; text stays text, in the
page's font; titles and keys are the page's. Names inside a drawing are removed, since a page has
many, and coordinates are cut to tenths of a point: 3 to 20 kB each, about 70 ms.
"""

import re
from collections.abc import Sequence
from io import StringIO
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from llm.metrics import Event, quantity
from llm.panels import (
    PHASES,
    Curve,
    Panel,
    Points,
    curves_of,
    level_of,
    phase_seconds,
    smooth,
    thin,
)

COLOURS = {
    "text": "#1f2328",
    "soft": "#59636e",
    "line": "#d1d9e0",
    "held": "#2f6fb0",
    "lost": "#c9822b",
    "kept": "#2f7d4f",
    "more": "#8250b0",
}
"""The page's variables and what they are in daylight, which matplotlib draws with."""

PHASE_COLOURS = dict(zip(PHASES, ("held", "lost", "kept", "more"), strict=True))

MARKS: Any = {
    "guard": {"color": COLOURS["lost"], "linewidth": 1.2, "dashes": (1, 1.5)},
    "fall": {"color": COLOURS["soft"], "linewidth": 0.8, "dashes": (1, 2.5)},
}
"""Where something happened."""

WIDTH, HEIGHT = 330, 165
"""In CSS pixels; drawings scale with the page."""

SETTINGS: Any = {
    "axes.axisbelow": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "humpty",
    "font.family": "sans-serif",
    "font.size": 8,
    "text.color": COLOURS["soft"],
    "xtick.color": COLOURS["soft"],
    "ytick.color": COLOURS["soft"],
    "axes.edgecolor": COLOURS["line"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": COLOURS["line"],
    "grid.linewidth": 0.6,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}

MANY = 40
"""Points from which on they are no longer marked one by one."""

ROUGH = 4.0
"""A curve whose way up and down is so many times its height is noise around something."""

FLAT = 0.05
"""Least height of a panel, as a share of its values: three digits tell the ticks apart."""


def draw_panel(panel: Panel, log: Sequence[Event]) -> str:
    """A panel as SVG."""
    start = next((event for event in log if event["event"] == "start"), {})
    with matplotlib.rc_context(SETTINGS):
        figure, axes = canvas()
        for curve, at in curves_of(panel, log):
            draw_curve(axes, curve, at, log)
        level = level_of(panel, start)
        if level is not None:
            axes.axhline(level, color=COLOURS["soft"], linewidth=0.8, dashes=(4, 3))
        open_up(axes, shares=panel.unit == "share")
        finish(axes, log, shares=panel.unit == "share")
        return svg_of(figure, panel.title)


def draw_phases(log: Sequence[Event]) -> str:
    """Where a step's time went, one phase upon the other, as SVG."""
    steps, seconds = phase_seconds(log)
    with matplotlib.rc_context(SETTINGS):
        figure, axes = canvas()
        colours = [COLOURS[PHASE_COLOURS[phase]] for phase in PHASES]
        if len(steps) == 1:
            steps, seconds = np.array([0.0, steps[0]]), np.repeat(seconds, 2, axis=1)
        axes.stackplot(steps, seconds, colors=colours, linewidth=0, alpha=0.85)
        finish(axes, log)
        return svg_of(figure, "Seconds per step")


def canvas() -> tuple[Figure, Axes]:
    """An empty drawing of the right size."""
    figure = Figure(figsize=(WIDTH / 96, HEIGHT / 96), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    return figure, axes


def draw_curve(axes: Axes, curve: Curve, at: Points, log: Sequence[Event]) -> None:
    """A curve: noise as a pale line below its mean, few points as dots, too."""
    colour = COLOURS[curve.colour]
    if curve.low:
        draw_interval(axes, curve, log)
    line = thin(at)
    if is_noise(at):
        axes.plot(*line, color=colour, linewidth=0.7, alpha=0.35, clip_on=False)
        line = thin(smooth(at))
    few = len(at.steps) <= MANY and (curve.event == "validation" or len(at.steps) == 1)
    dots = "o" if few else ""
    axes.plot(*line, color=colour, linewidth=1.6, marker=dots, markersize=3.5, clip_on=False)


def is_noise(at: Points) -> bool:
    """Whether a mean says more than the curve itself."""
    values = at.finite
    way, height = np.abs(np.diff(values)).sum(), np.ptp(values)
    return len(values) > MANY and bool(way > ROUGH * height)


def draw_interval(axes: Axes, curve: Curve, log: Sequence[Event]) -> None:
    """From where to where each value may well be."""
    ends = [[e["step"], e[curve.low], e[curve.high]] for e in log if has_interval(e, curve)]
    if ends:
        steps, low, high = np.array(ends, np.float64).T
        axes.vlines(
            steps, low, high, color=COLOURS[curve.colour], linewidth=4, alpha=0.25, clip_on=False
        )


def has_interval(event: Event, curve: Curve) -> bool:
    """Whether an event tells both ends."""
    return event["event"] == curve.event and curve.low in event and curve.high in event


def open_up(axes: Axes, *, shares: bool) -> None:
    """Show what never changes from 0 on, give small changes little height, keep shares within 1."""
    low, high = axes.get_ylim()
    least = FLAT * max(abs(low), abs(high))
    if axes.dataLim.height == 0:
        value = axes.dataLim.y0
        low, high = (min(0.0, 2 * value), max(0.0, 2 * value)) if value else (0.0, 1.0)
    elif high - low < least:
        middle = (low + high) / 2
        low, high = middle - least / 2, middle + least / 2
    if shares and low >= -0.1 and high <= 1.1:
        low, high = max(low, -0.02), min(high, 1.02)
    axes.set_ylim(low, high)


def finish(axes: Axes, log: Sequence[Event], *, shares: bool = False) -> None:
    """Axes from the first to the last step, ticks for people, marks where something happened."""
    last = max((event["step"] for event in log), default=0)
    axes.set_xlim(0, max(1, last))
    for event in log:
        if event["event"] in MARKS:
            axes.axvline(event["step"], **MARKS[event["event"]])
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: quantity(value)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: label(value, shares)))


def label(value: float, shares: bool = False) -> str:
    """A value for people: 0.25, 12.3k, 1.2e-4, or 25%."""
    if shares:
        return f"{100 * value:.3g}%"
    if 0 < abs(value) < 1e-3:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return quantity(value)


# -- SVG -------------------------------------------------------------------------------------------


def svg_of(figure: Figure, title: str) -> str:
    """A figure as an element of a page."""
    text = StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return fitted(text.getvalue(), title)


def fitted(svg: str, title: str) -> str:
    """matplotlib's file as an element that takes colours, font and size from the page."""
    svg = svg[svg.index("<svg ") :]
    box = re.search(r'viewBox="[^"]+"', svg)
    assert box, "matplotlib writes a viewBox"
    body = svg[svg.index(">") + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = re.sub(r"(\.\d)\d+(?=[ \"\n])", r"\1", body)
    body = re.sub(r"font-family: [^;\"]*; ", "", body)
    body = re.sub(r">\s+<", "><", body)
    for name, colour in COLOURS.items():
        body = body.replace(colour, f"var(--{name})")
    return f'<svg {box[0]} role="img" aria-label="{title}">{body.strip()}'

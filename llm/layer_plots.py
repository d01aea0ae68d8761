"""Heat maps of a training's layers: layers above each other, steps from left to right.

A map's colours are powers of ten, so a gradient that vanishes or explodes from layer to layer is a
slope in brightness. A map is a small picture inside the drawing, whatever the number of steps.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.ticker import FuncFormatter, MaxNLocator

from llm.metrics import Event, quantity
from llm.plots import SETTINGS, canvas, label, svg_of

MOST_COLUMNS = 200
"""Of a map; more steps are thinned out evenly."""

MOST_NAMES = 8
"""Of layers at the side."""


class Map(NamedTuple):
    """A figure of all layers."""

    key: str
    title: str
    note: str


MAPS = (
    Map(
        "gradient",
        "Gradients of layers",
        "Norms before clipping. Darker from layer to layer, downwards, is a gradient that vanishes "
        "on its way to the first; brighter, one that explodes.",
    ),
    Map(
        "update",
        "Updates of layers",
        "Size of a step as a share of the weights; about 1e-3 is usual.",
    ),
    Map("weight", "Weights of layers", "Norms."),
    Map("rms", "Activations of layers", "Root mean square of what a layer puts out."),
    Map("largest", "Largest activations", "Of any token and feature."),
)


def table_of(log: Sequence[Event], key: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names of layers that have the figure, steps (n,), and its values (layers, n)."""
    by_step = {event["step"]: event["layers"] for event in log if event["event"] == "statistics"}
    steps = sorted(by_step)
    if len(steps) > MOST_COLUMNS:
        steps = [steps[round(i)] for i in np.linspace(0, len(steps) - 1, MOST_COLUMNS)]
    values: dict[str, list[float]] = {}
    for column, step in enumerate(steps):
        for layer in by_step[step]:
            row = values.setdefault(layer["layer"], [math.nan] * len(steps))
            row[column] = math.nan if layer[key] is None else layer[key]
    known = {name: row for name, row in values.items() if np.isfinite(row).any()}
    return list(known), np.array(steps), np.array(list(known.values()))


def draw_map(one: Map, log: Sequence[Event]) -> str:
    """A map as SVG, the first layer at the bottom."""
    names, steps, values = table_of(log, one.key)
    positive = values[np.isfinite(values) & (values > 0)]
    low, high = (positive.min(), positive.max()) if len(positive) else (1.0, 1.0)
    with matplotlib.rc_context({**SETTINGS, "axes.grid": False}):
        figure, axes = canvas()
        norm = LogNorm(low, max(high, 1.001 * low), clip=True)
        ends = (0, max(1, int(steps[-1])), -0.5, len(names) - 0.5)
        picture = axes.imshow(
            np.where(values > 0, values, low),
            norm=norm,
            cmap="viridis",
            origin="lower",
            aspect="auto",
            extent=ends,
            interpolation="nearest",
        )
        every = math.ceil(len(names) / MOST_NAMES)
        axes.set_yticks(range(0, len(names), every), names[::every])
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: quantity(value)))
        bar = figure.colorbar(picture, ax=axes, format=FuncFormatter(lambda v, _: label(v)))
        bar.outline.set_visible(False)
        bar.minorticks_off()
        return svg_of(figure, one.title)

"""Drawings of a sweep as SVG in the look of a training's (llm/plots.py).

Green is the best point, orange what was stopped early, blue the rest. Fields lie below each other,
each a line from its lowest to its highest value: names of fields are long, pages may be narrow.
"""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from llm.metrics import quantity
from llm.plots import COLOURS, SETTINGS, WIDTH, canvas, label, svg_of
from tune.config import SweepConfig
from tune.results import Tried, points_of
from tune.space import from_unit, kind_of, short, to_unit, values_of
from tune.trials import Trial

KEY = {"the best": "kept", "went all the way": "held", "stopped early": "lost"}

PLAIN = {"text.parse_math": False}
"""Names are the user's; a $ in them is a $."""

ROW = 48
"""Height of a field, in CSS pixels."""

OUTLIER = 3.0
"""Figures further above the median than so many times the way from the best to the median are cut
off: a diverged trial would press all others together."""


def colour_of(tried: Tried, best: Tried | None) -> str:
    """What a point's lines look like."""
    if best is not None and tried.number == best.number:
        return COLOURS["kept"]
    return COLOURS["held"] if tried.whole else COLOURS["lost"]


def draw_curves(trials: Sequence[Trial], best: Tried | None, metric: str) -> str:
    """How every trial's figure came down; a dot is where a stopped one ended."""
    with matplotlib.rc_context(SETTINGS | PLAIN):
        figure, axes = canvas()
        seen: list[float] = []
        for tried in sorted(points_of(trials), key=lambda one: one == best):
            colour, leads = colour_of(tried, best), tried == best
            for trial in tried.trials:
                at = [(r["tokens"], r["metrics"].get(metric)) for r in trial.reports]
                known = [(tokens, value) for tokens, value in at if value is not None]
                if not known:
                    continue
                x, y = zip(*known, strict=True)
                seen += y
                axes.plot(
                    x, y, color=colour, linewidth=1.8 if leads else 0.9, alpha=1 if leads else 0.6
                )
                if trial.status != "done" or len(x) == 1:
                    axes.plot(x[-1:], y[-1:], "o", color=colour, markersize=3)
        if seen:
            axes.set_ylim(*limits(seen))
        axes.set_xlim(left=0)
        ticks(axes)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: quantity(value)))
        axes.xaxis.set_major_locator(MaxNLocator(4))
        return svg_of(figure, "Curves of all trials")


def limits(values: Sequence[float]) -> tuple[float, float]:
    """From where to where figures are drawn, outliers on either side left out."""
    low, middle, high = np.percentile(values, (5, 50, 95))
    reach = OUTLIER * max(middle - low, high - middle, 1e-9 * max(1.0, abs(middle)))
    kept = [value for value in values if abs(value - middle) <= reach]
    margin = 0.05 * max(max(kept) - min(kept), 1e-9)
    return min(kept) - margin, max(kept) + margin


def ticks(axes: Axes) -> None:
    """Few ticks with figures for people."""
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: label(value)))


# -- parallel coordinates --------------------------------------------------------------------------


def draw_parallel(tried: Sequence[Tried], best: Tried | None, config: SweepConfig) -> str:
    """Every point as a line through its values, down to its figure."""
    paths = list(config.space)
    rated = [(one, value) for one in tried if (value := one.figure(config.metric)) is not None]
    low, high = limits([value for _, value in rated])
    with matplotlib.rc_context(SETTINGS | PLAIN):
        figure = Figure(figsize=(WIDTH / 96, ROW * (len(paths) + 1) / 96), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        axes.axis("off")
        for row, path in enumerate([*paths, config.metric]):
            axes.plot((0, 1), (-row, -row), color=COLOURS["line"], linewidth=1)
            is_figure = row == len(paths)
            ends = (label(low), label(high)) if is_figure else ends_of(config, path)
            name(axes, row, path, ends)
        for one, value in sorted(rated, key=lambda pair: pair[0] == best):
            at = [
                (to_unit(config.space[path], one.point[path]), -row)
                for row, path in enumerate(paths)
                if path in one.point
            ]
            at.append((min(max((value - low) / (high - low), 0.0), 1.0), -len(paths)))
            x, y = zip(*at, strict=True)
            leads = one == best
            width, alpha, dot = (1.8, 1.0, 3.5) if leads else (0.8, 0.45, 2.0)
            colour = colour_of(one, best)
            axes.plot(x, y, "o-", color=colour, linewidth=width, alpha=alpha, markersize=dot)
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-len(paths) - 0.25, 0.55)
        return svg_of(figure, "Every point as a line through its values")


def name(axes: Axes, row: int, text: str, ends: tuple[str, str]) -> None:
    """A field's name and ends, above its line."""
    axes.text(0, -row + 0.2, ends[0], fontsize=7)
    axes.text(1, -row + 0.2, ends[1], fontsize=7, ha="right")
    shown = text if len(text) <= 32 else f"…{text[-31:]}"
    axes.text(0.5, -row + 0.2, shown, ha="center", color=COLOURS["text"], fontsize=8)


def ends_of(config: SweepConfig, path: str) -> tuple[str, str]:
    """A field's lowest and highest value."""
    dimension = config.space[path]
    return short(from_unit(dimension, 0.0)), short(from_unit(dimension, 1.0))


# -- one field at a time ---------------------------------------------------------------------------


def draw_field(tried: Sequence[Tried], best: Tried | None, config: SweepConfig, path: str) -> str:
    """A field's values against the figure that decides."""
    dimension = config.space[path]
    rated = [
        (one, one.point[path], value)
        for one in tried
        if path in one.point and (value := one.figure(config.metric)) is not None
    ]
    with matplotlib.rc_context(SETTINGS | PLAIN):
        figure, axes = canvas()
        values = values_of(dimension)
        for one, at, value in sorted(rated, key=lambda row: row[0] == best):
            x = values.index(at) if values else float(at)
            colour = colour_of(one, best)
            axes.plot(
                [x],
                [value],
                "o",
                markersize=6 if one == best else 4,
                color=colour,
                alpha=1 if one == best else 0.7,
            )
        if rated:
            axes.set_ylim(*limits([value for *_, value in rated]))
        ticks(axes)
        if values:
            places = spread(len(values))
            axes.set_xlim(-0.5, len(values) - 0.5)
            axes.set_xticks(places, [short(values[i]) for i in places])
        else:
            low, high = from_unit(dimension, 0.0), from_unit(dimension, 1.0)
            if kind_of(dimension) == "loguniform":
                axes.set_xscale("log")
            axes.set_xlim(float(low), float(high))
            axes.set_xticks([float(from_unit(dimension, at)) for at in (0, 0.5, 1)])
            axes.set_xticks([], minor=True)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        return svg_of(figure, "The figure by a field's value")


def spread(count: int, most: int = 6) -> list[int]:
    """At most so many of 0 to count - 1, the first and last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})

"""How the best value of one field moves with another: whether a learning rate stays put as a model
grows is seen by curves over the rate, one for each depth (Yang et al. 2022, figure 1)."""

from collections.abc import Iterator, Sequence
from itertools import permutations

import matplotlib
from matplotlib.ticker import FuncFormatter

from llm.page import shown
from llm.plots import SETTINGS, canvas, svg_of
from llm.training_report import framed
from tune.config import Scalar, SweepConfig
from tune.results import Tried
from tune.space import short
from tune.sweep_plots import PLAIN, limits, ticks

MOST_CURVES = 8
LEAST_VALUES = 3
"""Of the field along a curve."""

Curves = dict[Scalar, dict[float, float]]
"""Figures by the value of one field, and by that of the field along the curve."""


def by_pairs(config: SweepConfig, tried: Sequence[Tried]) -> Iterator[str]:
    """A drawing for each pair of fields of which all combinations were tried."""
    drawn = [
        framed(
            f"{shown(across)} by {shown(by)}",
            "",
            draw_pair(curves, config.metric),
            {},
            shown(best_of_each(config, curves, across, by)),
        )
        for across, by in permutations(config.space, 2)
        if (curves := curves_of(config, tried, across, by))
    ]
    if drawn:
        yield f'<h2>Two fields together</h2>\n<div class="plots">{"".join(drawn)}</div>'


def curves_of(config: SweepConfig, tried: Sequence[Tried], across: str, by: str) -> Curves:
    """The curves over `across`, one for each value of `by`; none if they are not whole.

    Of points that differ in further fields the best counts.
    """
    better = min if config.mode == "min" else max
    curves: Curves = {}
    for one in tried:
        figure, at, group = one.figure(config.metric), one.point.get(across), one.point.get(by)
        if figure is None or isinstance(at, str | bool | None) or group is None:
            continue
        curve = curves.setdefault(group, {})
        curve[float(at)] = better(figure, curve.get(float(at), figure))
    values = {at for curve in curves.values() for at in curve}
    whole = all(set(curve) == values for curve in curves.values())
    enough = len(values) >= LEAST_VALUES and 2 <= len(curves) <= MOST_CURVES
    wide = len(values) >= len(curves)  # the field with fewer values tells the curves apart
    return curves if whole and enough and wide else {}


def draw_pair(curves: Curves, metric: str) -> str:
    """Each curve with its lowest point marked; darker ones have larger values."""
    with matplotlib.rc_context(SETTINGS | PLAIN):
        figure, axes = canvas()
        shades = matplotlib.colormaps["viridis"]
        for number, (group, curve) in enumerate(curves.items()):
            x, y = zip(*sorted(curve.items()), strict=True)
            colour = shades(0.85 * number / max(1, len(curves) - 1))
            axes.plot(x, y, "o-", color=colour, linewidth=1.4, markersize=3, label=short(group))
        axes.set_ylim(*limits([y for curve in curves.values() for y in curve.values()]))
        low, high = min(x), max(x)
        if low > 0 and high / low >= 8:
            axes.set_xscale("log")
            axes.set_xticks([], minor=True)
        axes.set_xticks(sorted({low, sorted(x)[len(x) // 2], high}))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        ticks(axes)
        axes.legend(frameon=False, fontsize=7)
        return svg_of(figure, f"{metric} by two fields")


def best_of_each(config: SweepConfig, curves: Curves, across: str, by: str) -> str:
    """`Best pretrain.optim.lr: 0.003 at 2, 0.003 at 4.`"""
    better = min if config.mode == "min" else max
    found = (
        f"{short(better(curve, key=curve.__getitem__))} at {short(group)}"
        for group, curve in curves.items()
    )
    return f"Best {across}: {', '.join(found)} ({by})."

"""report.html of a scaling ladder: the law, what to do with the budget, how far to trust it."""

from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from llm.files import write_atomic
from llm.metrics import quantity
from llm.page import page, shown
from llm.plots import COLOURS, SETTINGS, canvas, label, svg_of
from llm.training_report import STYLE, framed
from tune.scaling import Scaling, rungs, valley_line
from tune.sweep_report import OWN, table

TOO_FAR = 0.02
"""Error of the best loss of the foretold largest rung from which on the page warns of the law."""

END = {"smaller": "smallest", "larger": "largest"}
"""Of the sizes tried, the one beside which better ones lie."""

REACH = 100.0
"""A budget more than so many times the largest rung is far out."""


def write_scaling_report(folder: Path, scaling: Scaling, title: str) -> Path:
    """Write report.html of a ladder."""
    path = folder / "report.html"
    write_atomic(path, scaling_page(title, scaling))
    return path


def scaling_page(title: str, scaling: Scaling) -> str:
    """The whole page."""
    body = [
        f"<h1>{shown(title)}</h1>",
        f"<p>{shown(summary(scaling))}</p>",
        tiles(scaling),
        *(f'<p class="notice">{text}</p>' for text in doubts(scaling)),
        "<h2>The ladder</h2>",
        f'<div class="plots">{rungs_figure(scaling)}{best_figure(scaling)}'
        f"{foretold_figure(scaling)}</div>",
        "<h2>The law</h2>",
        law_table(scaling),
        "<h2>All trainings</h2>",
        trainings_table(scaling),
    ]
    return page(title, STYLE + OWN, "\n".join(part for part in body if part))


def summary(scaling: Scaling) -> str:
    """`16 trainings on 4 rungs of 1e15 to 1e17 FLOPs.`"""
    ladder = rungs(scaling.trainings)
    low, high = (power(rung[0].flops) for rung in (ladder[0], ladder[-1]))
    return f"{len(scaling.trainings)} trainings on {len(ladder)} rungs of {low} to {high} FLOPs."


def tiles(scaling: Scaling) -> str:
    """What to do with the budget."""
    best, budget = scaling.best, power(scaling.best.flops)
    items = [
        ("parameters", quantity(best.parameters), f"95%: {between(scaling, 'parameters')}"),
        ("tokens", quantity(best.tokens), f"95%: {between(scaling, 'tokens')}"),
        ("foretold loss", f"{best.loss:.4g}", f"95%: {between(scaling, 'loss')}"),
    ]
    if scaling.held_out:
        held, rung = scaling.held_out, "largest rung, foretold by the others"
        items.append(("error of the test", f"{held.at_best:.1%}", f"best of the {rung}"))
        items.append(("error at other sizes", f"{held.worst:.1%}", f"worst of the {rung}"))
    texts = "".join(
        f"<li><span>{name}</span><b>{text}</b><small>{note}</small></li>"
        for name, text, note in items
    )
    return f'<h2>With {budget} FLOPs</h2>\n<ul class="tiles">{texts}</ul>'


def between(scaling: Scaling, key: str) -> str:
    """A 95% interval in words."""
    found = scaling.intervals.get(key)
    return f"{quantity(found.low)} to {quantity(found.high)}" if found else ""


def doubts(scaling: Scaling) -> Iterator[str]:
    """Reasons not to believe the law."""
    if side := scaling.one_sided:
        yield (
            f"On every rung the {END[side]} model does best, so the law cannot tell what size is "
            f"worth: what follows from it is made up. Try {side} models."
        )
    if scaling.held_out and scaling.held_out.at_best > TOO_FAR:
        error = f"{scaling.held_out.at_best:.1%}"
        yield (
            f"The best loss of the largest rung was foretold {error} wrong: what lies beyond it is "
            "less certain."
        )
    outside = [power(one.flops) for one in scaling.valleys if not one.inside]
    if outside:
        rungs_of = ", ".join(outside)
        yield f"On the rungs of {rungs_of} FLOPs the best size lies outside the depths tried."
    most = max(one.flops for one in scaling.trainings)
    if scaling.best.flops > REACH * most:
        yield f"The budget is {scaling.best.flops / most:,.0f} times the largest rung."


# -- drawings --------------------------------------------------------------------------------------


def rungs_figure(scaling: Scaling) -> str:
    """Loss by size on every rung, with its parabola."""
    with matplotlib.rc_context(SETTINGS):
        figure, axes = canvas()
        by_cost = {valley.flops: valley for valley in scaling.valleys}
        for rung in rungs(scaling.trainings):
            ordered = sorted(rung, key=lambda one: one.parameters)
            x = [one.parameters for one in ordered]
            axes.plot(x, [one.loss for one in ordered], "o", color=COLOURS["held"], markersize=4)
            if valley := by_cost.get(rung[0].flops):
                fine = np.geomspace(x[0], x[-1], 60)
                line = np.polyval(valley.curve, np.log(fine))
                axes.plot(fine, line, color=COLOURS["held"], linewidth=0.9, alpha=0.6)
                if valley.inside:
                    at = [valley.parameters], [valley.loss]
                    axes.plot(*at, "D", color=COLOURS["kept"], markersize=4)
        log_axis(axes)
        names = {"a training": "held", "lowest point of a rung": "kept"}
        note = "Each parabola is a rung: trainings of equal FLOPs, by parameters."
        drawing = svg_of(figure, "Loss by size on every rung")
    return framed("Loss on every rung", "", drawing, names, note)


def best_figure(scaling: Scaling) -> str:
    """The best size by FLOPs: of the law, and through the valleys."""
    costs = [one.flops for one in scaling.trainings]
    fine = np.geomspace(min(costs), max(*costs, scaling.best.flops), 60)
    with matplotlib.rc_context(SETTINGS):
        figure, axes = canvas()
        law = [scaling.law.best(cost).parameters for cost in fine]
        axes.plot(fine, law, color=COLOURS["held"], linewidth=1.4)
        if line := valley_line(scaling.valleys):
            axes.plot(fine, line[0] * fine ** line[1], color=COLOURS["kept"], dashes=(3, 2))
        inside = [(one.flops, one.parameters) for one in scaling.valleys if one.inside]
        if inside:
            axes.plot(*zip(*inside, strict=True), "D", color=COLOURS["kept"], markersize=4)
        at = [scaling.best.flops], [scaling.best.parameters]
        axes.plot(*at, "*", color=COLOURS["lost"], markersize=9)
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: quantity(value)))
        log_axis(axes, plain=False)
        names = {"law": "held", "lowest points": "kept", "the budget": "lost"}
        note = "Parameters by FLOPs. Where the two ways part, trust neither far out."
        drawing = svg_of(figure, "The best size by FLOPs")
    return framed("The best size", quantity(scaling.best.parameters), drawing, names, note)


def foretold_figure(scaling: Scaling) -> str:
    """Measured against foretold losses."""
    law, held = scaling.law, scaling.held_out
    inner = [one for one in scaling.trainings if held is None or one not in held.trainings]
    with matplotlib.rc_context(SETTINGS):
        figure, axes = canvas()
        said = [float(law.loss(one.parameters, one.tokens)) for one in inner]
        measured = [one.loss for one in inner]
        axes.plot(measured, said, "o", color=COLOURS["held"], markersize=4)
        ends = [*measured, *said]
        if held:
            outer = [one.loss for one in held.trainings]
            axes.plot(outer, held.predicted, "o", color=COLOURS["lost"], markersize=5)
            ends += [*outer, *held.predicted]
        line = (min(ends), max(ends))
        axes.plot(line, line, color=COLOURS["soft"], linewidth=0.8, dashes=(4, 3))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: label(value)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: label(value)))
        names = {"fitted": "held"} | ({"held out": "lost"} if held else {})
        note = "Measured loss to the right, what the law says upwards; on the line both agree."
        drawing = svg_of(figure, "Measured and foretold losses")
    return framed("How well it foretells", "", drawing, names, note)


def log_axis(axes: Axes, *, plain: bool = True) -> None:
    """A logarithmic axis with few ticks."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks([low, (low * high) ** 0.5, high])
    axes.set_xlim(low, high)
    show = quantity if plain else power
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: show(value)))


# -- tables ----------------------------------------------------------------------------------------


def law_table(scaling: Scaling) -> str:
    """L = E + A / N^alpha + B / D^beta, in figures."""
    law = scaling.law
    rows = [
        [key, f"{getattr(law, key):.4g}", between(scaling, key)]
        for key in ("E", "A", "alpha", "B", "beta")
    ]
    rows.append(["FLOPs of a token, per parameter", f"{law.cost:.3g}", "6 in the paper"])
    if line := valley_line(scaling.valleys):
        exponent = law.beta / (law.alpha + law.beta)
        text = f"{exponent:.3f} by the law, {line[1]:.3f} by the rungs' lowest points"
        rows.append(["best size grows with FLOPs to the power", text, ""])
    intro = "<p>Loss = E + A / parameters^alpha + B / tokens^beta (Hoffmann et al. 2022).</p>"
    return f"{intro}\n{table(('', 'value', '95% interval'), rows)}"


def trainings_table(scaling: Scaling) -> str:
    """Every training, measured and said; held-out ones as the others foretold them."""
    held = scaling.held_out
    foretold = dict(zip(held.trainings, held.predicted, strict=True)) if held else {}
    rows = []
    for one in sorted(scaling.trainings, key=lambda one: (one.flops, one.parameters)):
        said = foretold.get(one, float(scaling.law.loss(one.parameters, one.tokens)))
        rows.append(
            [
                power(one.flops),
                quantity(one.parameters),
                quantity(one.tokens),
                f"{one.loss:.4f}",
                f"{said:.4f}",
                f"{said / one.loss - 1:+.2%}" + (" (held out)" if one in foretold else ""),
            ]
        )
    return table(("FLOPs", "parameters", "tokens", "loss", "said", "error"), rows)


def power(value: float) -> str:
    """A large number in scientific notation: 1.2e18."""
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"

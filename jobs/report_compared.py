"""The pretrainings of a run in one plot: what an architecture, a size or a rate makes of the same
text. Only held-out figures that two of them have are drawn, and no more than there are colours;
where text is foretold its losses say the same as bits per byte, and are left out."""

from collections.abc import Iterator
from typing import NamedTuple

from jobs.report_read import RunSeen, Seen
from llm.metrics import Event
from llm.page import shown
from llm.panels import Panel, Points, held_out, points
from llm.plots import draw_panel, label
from llm.training_report import framed

COLOURS = ("held", "lost", "kept", "more", "soft")


class Figure(NamedTuple):
    """What is compared."""

    key: str
    title: str
    note: str
    beside: str = ""
    """Another figure, which speaks for those that have it."""


FIGURES = (
    Figure("bpb", "Bits per byte", "What a byte of held-out text costs each of them."),
    Figure("loss", "Loss", "On what is hidden of held-out text, in nats.", beside="bpb"),
)


def compared_section(run: RunSeen) -> Iterator[str]:
    """A plot for each figure, if several pretrainings have it."""
    stages = run.of("pretrain")
    plots = [made for figure in FIGURES if (made := compared(stages, figure))]
    if plots:
        yield f'<div class="plots">{"".join(plots)}</div>'


def compared(stages: list[Seen], figure: Figure) -> str:
    """A curve for each stage that has the figure; nothing for one alone."""
    courses = {one.name: course(one, figure.key) for one in stages if not has(one, figure.beside)}
    found = {name: at for name, at in courses.items() if at.last is not None}
    if len(found) < 2:
        return ""
    log: list[Event] = [
        {"event": "validation", "step": step, f"of {name}": value}
        for name, at in found.items()
        for step, value in zip(*at, strict=True)
    ]
    curves = [
        held_out(f"of {name}")._replace(name=shown(name), colour=colour)
        for name, colour in zip(found, COLOURS, strict=False)
    ]
    drawing = draw_panel(Panel(figure.title, figure.note, tuple(curves)), log)
    last = " / ".join(label(at.last) for at in found.values() if at.last is not None)
    names = {curve.name: curve.colour for curve in curves}
    return framed(figure.title, last, drawing, names, figure.note)


def has(one: Seen, key: str) -> bool:
    """Whether it has a figure at all."""
    return bool(key) and course(one, key).last is not None


def course(one: Seen, key: str) -> Points:
    """A held-out figure over the steps."""
    return points(learned(one), held_out(key))


def learned(one: Seen) -> list[Event]:
    """Its log without what was measured before any step, beside which all else would look alike."""
    return [event for event in one.log if event.get("step")]

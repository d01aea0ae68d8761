"""The pretrainings of a run in one plot: what an architecture, a size or a rate makes of the same
text. Only held-out figures that two of them have are drawn, and no more than there are colours."""

from collections.abc import Iterator
from typing import NamedTuple

from jobs.report_read import RunSeen, Seen
from llm.metrics import Event
from llm.page import shown
from llm.panels import Panel, held_out, points
from llm.plots import draw_panel, label
from llm.training_report import framed

COLOURS = ("held", "lost", "kept", "more", "soft")


class Figure(NamedTuple):
    """What is compared."""

    key: str
    title: str
    note: str


FIGURES = (
    Figure("bpb", "Bits per byte", "What a byte of held-out text costs each of them."),
    Figure("loss", "Loss", "On held-out text, in nats; comparable where tokenizer and task are."),
)


def compared_section(run: RunSeen) -> Iterator[str]:
    """A plot for each figure, if several pretrainings have it."""
    stages = run.of("pretrain")
    plots = [made for figure in FIGURES if (made := compared(stages, figure))]
    if plots:
        yield f'<div class="plots">{"".join(plots)}</div>'


def compared(stages: list[Seen], figure: Figure) -> str:
    """A curve for each stage that has the figure; nothing for one alone."""
    courses = ((one.name, points(learned(one), held_out(figure.key))) for one in stages)
    found = {name: at for name, at in courses if at.last is not None}
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


def learned(one: Seen) -> list[Event]:
    """Its log without what was measured before any step, beside which all else would look alike."""
    return [event for event in one.log if event.get("step")]

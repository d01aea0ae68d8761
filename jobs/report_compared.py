"""The pretrainings of a run in one plot: what an architecture, a size or a rate makes of the same
text. Only held-out figures that two of them have are drawn, and no more than there are colours."""

from collections.abc import Iterator
from typing import NamedTuple

from jobs.report_read import RunSeen, Seen
from llm.metrics import Event
from llm.page import shown
from llm.panels import Panel, held_out, points
from llm.training_report import plot

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
    curve = held_out(figure.key)
    having = [one for one in stages if points(one.log, curve).last is not None][: len(COLOURS)]
    if len(having) < 2:
        return ""
    log: list[Event] = [
        {"event": "validation", "step": step, key_of(one): value}
        for one in having
        for step, value in zip(*points(one.log, curve), strict=True)
    ]
    curves = [
        curve._replace(key=key_of(one), name=shown(one.name), colour=colour)
        for one, colour in zip(having, COLOURS, strict=False)
    ]
    return plot(Panel(figure.title, figure.note, tuple(curves)), log)


def key_of(one: Seen) -> str:
    """A stage's figure among those of others."""
    return f"of {one.name}"

"""Sweeps on disk that nobody ran: folders as trials leave them."""

import json
from pathlib import Path
from typing import Any

from tests.tune.toys import LENGTH, bowl
from tune.space import Point, Space, draw
from tune.trials import Trial, create, end, read_trial, write_event


def wrote(
    root: Path, number: int, point: Point, losses: list[float], status: Any = "done", **more: Any
) -> Trial:
    """A trial with a loss after each token, and its end."""
    trial = create(root, number, 0, point)
    write_event(trial.folder, "begin", point=point, work="work", start=None, copied=None)
    for tokens, loss in enumerate(losses, start=1):
        write_event(trial.folder, "report", tokens=tokens, metrics={"loss": loss})
    if status != "unfinished":
        end(trial, status, **more)
    return read_trial(trial.folder)


def wrote_sweep(root: Path, space: Space, count: int) -> None:
    """Trials of which every second one was stopped half-way, and the fourth failed."""
    for number in range(count):
        point = draw(space, 0, number)
        losses = [bowl(point) + 1 / step for step in range(1, LENGTH + 1)]
        if number == 3:
            error = "RuntimeError: <b>out of memory</b>"
            wrote(root, number, point, losses[:2], "failed", error=error)
        elif number % 2:
            wrote(root, number, point, losses[:4], "stopped", by="asha")
        else:
            wrote(root, number, point, losses)


def rewrite(trial: Trial, event: int, **values: Any) -> None:
    """Change an event in a trial's log."""
    path = trial.folder / "log.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[event] |= values
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))

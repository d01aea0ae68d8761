"""Cheap functions in place of trainings, with a best point that is known."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

from llm.files import write_json
from tune.actor import Report
from tune.config import DimensionConfig
from tune.space import Point

LENGTH = 9
"""Tokens of a whole trial."""

SPACE = {
    "lr": DimensionConfig(loguniform=(1e-4, 1e-1)),
    "drop": DimensionConfig(uniform=(0.0, 0.5)),
    "act": DimensionConfig(choice=("gelu", "relu", "silu")),
}
"""Best: lr 5e-3, drop 0.1, gelu, where `bowl` is 0."""


def bowl(point: Point) -> float:
    """0 at the best point, more everywhere else."""
    lr, drop = float(point["lr"]), float(point["drop"])
    away = math.log10(lr / 5e-3) ** 2 + 4 * (drop - 0.1) ** 2
    return away + (0.0 if point["act"] == "gelu" else 0.3)


def training(seconds: float = 0.0, length: int = LENGTH) -> Callable:
    """A training that comes down to `bowl` in 9 steps, and goes on in a folder that it left."""

    def train(point: Point, folder: Path, report: Report) -> dict[str, float]:
        state = folder / "step"
        done = int(state.read_text()) if state.exists() else 0
        with open(folder / "started", "a") as file:
            file.write(f"{done}\n")
        loss = math.inf
        for step in range(done + 1, length + 1):
            time.sleep(seconds)
            loss = bowl(point) + 1 / step
            state.write_text(str(step))
            report(step, {"loss": loss, "speed": 100 * float(point["drop"])})
        return {"loss": loss, "speed": 100 * float(point["drop"])}

    return train


PBT_LENGTH = 80
PBT_SPACE = {"lr": DimensionConfig(loguniform=(0.01, 0.5))}


def annealed(point: Point, folder: Path, report: Report) -> dict[str, float]:
    """A training whose best rate falls: large ones come down fast, small ones come down far.

    loss <- (1 - lr) loss + lr^2 / 2, which ends near lr / 2 if lr stays what it is.
    """
    state = folder / "checkpoint" / "state.json"
    loss, step = 1.0, 0
    started = report.start / "state.json" if report.start else None
    for path in (started, state):
        if path is not None and path.exists():
            loss, step = json.loads(path.read_text())
    rate = float(point["lr"])
    while step < PBT_LENGTH:
        step, loss = step + 1, (1 - rate) * loss + rate**2 / 2
        write_json(state, [loss, step])
        report(step, {"loss": loss}, state.parent)
    return {"loss": loss}


def best_without_change() -> float:
    """The least loss of any rate that stays what it is: 0.037."""
    rates = [0.01 * 1.01**i for i in range(400)]
    return min((1 - r) ** PBT_LENGTH * (1 - r / 2) + r / 2 for r in rates)


def broken(point: Point, folder: Path, report: Report) -> dict[str, float]:
    """A training that some points break after their first report."""
    report(1, {"loss": bowl(point)})
    if point["act"] != "gelu":
        raise ValueError(f"gelu only, not {point['act']}")
    return {"loss": bowl(point)}

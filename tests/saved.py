"""States of which everything is a function of the step, so that a mixture of two is noticed."""

from pathlib import Path

import torch
from torch import nn

from llm import checkpoint
from llm.checkpoint import Position
from llm.config import CheckpointConfig, KeepConfig
from llm.data import Cursor
from llm.metrics import Event, RunLog
from llm.outside import Outside
from llm.saver import Saver
from llm.world import CPU, World

ALONE = World(0, 1, CPU)


class State:
    """A model and its optimizer; `at` puts both in the state of a step."""

    def __init__(self, width: int = 8) -> None:
        self.model = nn.Sequential(nn.Embedding(7, width), nn.Linear(width, 3))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.0, fused=True)
        self.model(torch.arange(7)).sum().backward()
        self.optimizer.step()  # which makes the moments

    def tensors(self) -> dict[str, torch.Tensor]:
        """All of it, by name."""
        return {
            **checkpoint.model_tensors(self.model),
            **checkpoint.optimizer_tensors(self.model, self.optimizer),
        }

    def at(self, step: int) -> "State":
        """The same in the state of a step."""
        with torch.no_grad():
            for tensor in self.tensors().values():
                tensor.fill_(step)
        return self

    def step(self) -> int:
        """The one step that all of it belongs to."""
        values = [tensor.detach().flatten() for tensor in self.tensors().values()]
        [value] = torch.cat(values).unique().tolist()
        return int(value)


def position(step: int, best: int | None = None) -> Position:
    """That of a step."""
    return Position(step=step, tokens=10 * step, cursor=Cursor(step, 1), best_step=best)


def saver(artifact: Path, outside: Outside | None = None, **config: object) -> Saver:
    """One for an artifact's checkpoints."""
    keep = KeepConfig(**config.pop("keep", {}))
    outside = outside or Outside()
    log = RunLog(artifact / "metrics.jsonl", outside.emit)
    artifact.mkdir(parents=True, exist_ok=True)
    log.rewind(10**9)
    return Saver(
        artifact / "checkpoints", CheckpointConfig(keep=keep, **config), ALONE, outside, log
    )


def save(to: Saver, state: State, *steps: int) -> None:
    """Save steps, and wait until they are committed."""
    for step in steps:
        to.save(state.at(step).model, state.optimizer, position(step))
    to.close()


def loaded(folder: Path, state: State) -> int | None:
    """The step of which a fresh saver finds a checkpoint; all of its parts must agree."""
    events: list[Event] = []
    found = saver(folder, Outside(events.append)).restore(state.model, state.optimizer)
    if found is None:
        return None
    assert found == position(found.step)
    assert state.step() == found.step
    return found.step

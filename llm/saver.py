"""Saving while a training goes on: what is to be kept, when, and who writes it."""

import time
from pathlib import Path

import torch
from torch import nn

from llm import checkpoint
from llm.checkpoint import Position
from llm.config import CheckpointConfig
from llm.metrics import RunLog
from llm.outside import Outside
from llm.world import World


class Saver:
    """Commits a training's checkpoints to a folder; `close` waits for the last of them."""

    def __init__(
        self, folder: Path, config: CheckpointConfig, world: World, outside: Outside, log: RunLog
    ) -> None:
        self.folder, self.config, self.world = folder, config, world
        self.outside, self.log = outside, log

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Position | None:
        """Load the newest whole checkpoint; None if there is none."""
        found = checkpoint.newest(self.folder)
        return checkpoint.load(found, model, optimizer) if found else None

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, position: Position) -> None:
        """Commit weights, optimizer and position together; called in all processes."""
        if self.world.rank == 0:
            start = time.perf_counter()
            path = checkpoint.save(self.folder, model, optimizer, position)
            keep = self.config.keep
            checkpoint.prune(self.folder, keep.last, position.best_step if keep.best else None)
            seconds = time.perf_counter() - start
            self.log("checkpoint", position.step, path=str(path), seconds=seconds)

    def close(self) -> None:
        """Wait until everything is committed."""

"""What a checkpoint costs: how long the training waits for it, and when it is safe.

Weights and both moments of some 10M and 100M parameters, in fp32. Ours: `Saver.save`, of which the
training waits for the copy only, and `close` right after it, so that writing has the machine to
itself. Against it torch.save of the same state and fsync, which the training waits for, and the
disk's own speed: the same bytes written and forced to disk, nothing else. The best of some rounds,
the first of ours apart, since it makes the buffers. All write to the current TMPDIR.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from llm import checkpoint
from llm.checkpoint import Position
from llm.config import CheckpointConfig, KeepConfig
from llm.metrics import RunLog, read_log, size_of
from llm.outside import Outside, silent
from llm.saver import Saver
from llm.world import World

ROUNDS = 4
WIDTH = 1024
SIZES = {"10M": 10, "100M": 96}
"""Matrices of WIDTH x WIDTH."""


def main() -> None:
    """Measure and print a table."""
    world = World.current()
    table = Table("parameters", "bytes", "how", "training waits", "safe after", "GB/s")
    for name, layers in SIZES.items():
        model, optimizer = state(layers, world.device)
        parts = checkpoint.parts_of(model, optimizer)
        total = sum(piece.rows.nbytes for part in parts.values() for piece in part.values())
        rows = measure(model, optimizer, total, world)
        for how, (waits, safe) in rows.items():
            speed = f"{total / safe / 1e9:.2f}"
            table.add_row(name, size_of(total), how, f"{waits:.3f} s", f"{safe:.2f} s", speed)
        table.add_section()
    Console().print(table)


def state(layers: int, device: torch.device) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A model after its first update."""
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(layers))).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return model, optimizer


def measure(
    model: nn.Module, optimizer: torch.optim.Optimizer, total: int, world: World
) -> dict[str, tuple[float, float]]:
    """Seconds of waiting and until it is safe, by how it is saved."""
    folder = Path(tempfile.mkdtemp(prefix="humpty-bench-"))
    log = RunLog(folder / "metrics.jsonl", silent)
    log.rewind(0)
    config = CheckpointConfig(keep=KeepConfig(last=1))
    saver = Saver(folder / "checkpoints", config, world, Outside(), log)
    content = os.urandom(1 << 20) * (total >> 20)

    def ours(step: int) -> None:
        saver.save(model, optimizer, Position(step=step))
        saver.close()

    def theirs(step: int) -> None:
        whole = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        with open(folder / "torch.pt", "wb") as file:
            torch.save(whole, file)
            synced(file)

    def disk(step: int) -> None:
        with open(folder / "raw", "wb") as file:
            file.write(content)
            synced(file)

    taken = [
        (seconds(ours, step), seconds(theirs, step), seconds(disk, step)) for step in range(ROUNDS)
    ]
    saves = [event["stall"] for event in read_log(folder / "metrics.jsonl")]
    shutil.rmtree(folder)
    first, *others = (one[0] for one in taken)
    plain, raw = (min(one[column] for one in taken) for column in (1, 2))
    return {
        "ours, the first": (saves[0], first),
        "ours": (min(saves[1:]), min(others)),
        "torch.save, fsync": (plain, plain),
        "the disk alone": (raw, raw),
    }


def synced(file: BinaryIO) -> None:
    """Force a file to disk."""
    file.flush()
    os.fsync(file.fileno())


def seconds(save: Callable[[int], None], step: int) -> float:
    """Of one save."""
    start = time.perf_counter()
    save(step)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

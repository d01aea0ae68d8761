"""Whether the best learning rate stays put when the model grows: `python -m tests.bench transfer`.

Trainings on bytes, of a fixed number of updates, over a ladder of rates, for depths of the dial
(width 64 x depth): once with one rate for all weights and once with `lr_width: 128`. The text is
the file HUMPTY_TEXT, or Python's own documentation. Takes about 5 minutes on an H100; on a CPU
fewer updates of smaller models take an hour.
"""

import math
import os
import tempfile
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from llm.config import ModelConfig, OptimConfig
from llm.model import Transformer
from llm.optim import learning_rate, make_optimizer, set_rate

RATES = (5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 16e-3)
WIDTHS = (0, 128)
"""Of `lr_width`; 0 lets all weights learn at one rate."""
HELD_OUT = 256
"""Rows."""


@dataclass(frozen=True)
class Size:
    """How much is trained."""

    depths: tuple[int, ...]
    steps: int
    batch: int
    context: int


ON_GPU = Size((2, 4, 8), steps=500, batch=64, context=512)
ON_CPU = Size((1, 2, 4), steps=150, batch=16, context=128)


def text() -> bytes:
    """What is learned."""
    if path := os.environ.get("HUMPTY_TEXT"):
        return Path(path).read_bytes()
    import pyarrow.parquet as pq

    from llm.pydoc_source import write_pydoc

    with tempfile.TemporaryDirectory() as folder:
        tables = [pq.read_table(path) for path in write_pydoc(Path(folder))]
    return "\n".join(one for table in tables for one in table["text"].to_pylist()).encode()


def rows_of(size: Size, device: str) -> tuple[Tensor, Tensor]:
    """Rows (N, context + 1) to train on, and some that are held out."""
    data = torch.frombuffer(bytearray(text()), dtype=torch.uint8)
    count = len(data) // (size.context + 1)
    rows = data[: count * (size.context + 1)].view(count, -1)
    rows = rows[torch.randperm(count, generator=torch.Generator().manual_seed(0))]
    return rows[HELD_OUT:].to(device), rows[:HELD_OUT].to(device)


def loss_of(model: Transformer, rows: Tensor) -> Tensor:
    """Nats a byte."""
    rows = rows.long()
    with torch.autocast(rows.device.type, torch.bfloat16):
        logits = model(rows[:, :-1])
    return F.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten())


def trained(depth: int, config: OptimConfig, size: Size, rows: Tensor, held: Tensor) -> float:
    """Loss on held-out rows after a training."""
    torch.manual_seed(0)
    width = 64 * depth
    hidden = 64 * math.ceil(8 * width / 3 / 64)
    shape = ModelConfig(depth=depth, width=width, heads=depth, hidden=hidden, context=size.context)
    model = Transformer(shape, 256).to(rows.device)
    optimizer = make_optimizer(model, config)
    draw = torch.Generator().manual_seed(1)
    for step in range(size.steps):
        batch = rows[torch.randint(len(rows), (size.batch,), generator=draw).to(rows.device)]
        loss_of(model, batch).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        for group in optimizer.param_groups:
            set_rate(group, learning_rate(step, size.steps, config))
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        return sum(loss_of(model, part).item() for part in held.split(64)) / (HELD_OUT / 64)


def main() -> None:
    """All trainings, a table, and the best rate of each model."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = ON_GPU if device == "cuda" else ON_CPU
    rows, held = rows_of(size, device)
    cells = list(product(WIDTHS, size.depths))
    found: dict[tuple[int, int], dict[float, float]] = {cell: {} for cell in cells}
    print("bits a byte:  lr    " + "".join(f"  lr_width {w:3} depth {d}" for w, d in cells))
    for lr in RATES:
        for lr_width, depth in cells:
            config = OptimConfig(lr=lr, lr_width=lr_width, warmup=max(10, size.steps // 50))
            loss = trained(depth, config, size, rows, held)
            found[lr_width, depth][lr] = loss / math.log(2)
        row = "".join(f"{found[cell][lr]:22.3f}" for cell in cells)
        print(f"{lr:18g}  {row}", flush=True)
    best = "".join(f"{min(found[cell], key=found[cell].__getitem__):22g}" for cell in cells)
    print(f"{'best lr':18}  {best}")


if __name__ == "__main__":
    main()

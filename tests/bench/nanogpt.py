"""Our default model and training against nanoGPT's at equal steps: loss on held-out text, in nats.

    HUMPTY_NANOGPT=FOLDER python -m tests.bench nanogpt

Both read the same characters of tinyshakespeare (../shared/data) and of Python's documentation, in
the same random windows: nanoGPT's own setting for CPUs, 4 layers of 128, context 64, 12 rows, 2,000
steps, without dropout. Ours is what `model: {depth: 4, width: 128, context: 64}` and `auto` make of
it; nanoGPT's rates, decay and moments are those of its train_shakespeare_char. The last tenth of
the text is held out and read whole, in windows that follow each other. fp32.
"""

import os
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from llm.batch import NextToken
from llm.data import Block

STEPS = int(os.environ.get("HUMPTY_STEPS", "2000"))
SEEDS = 3
DEPTH, WIDTH, CONTEXT, BATCH = 4, 128, 64, 12
SHAKESPEARE = Path(__file__).parents[3] / "shared/data/a_pretrain/en/tinyshakespeare.txt"
CHARACTERS = 1_100_000
"""Of each text."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""(B, T), (B, T) -> mean over all targets."""


def main() -> None:
    """Train both on both texts with three seeds."""
    folder = os.environ.get("HUMPTY_NANOGPT")
    if folder is None:
        sys.exit("set HUMPTY_NANOGPT to a checkout of karpathy/nanoGPT")
    sys.path.insert(0, folder)
    table = Table(title=f"held-out loss after {STEPS} steps of {BATCH} x {CONTEXT} characters")
    for column in ("", "ours", "each seed", "nanoGPT", "each seed"):
        table.add_column(column, justify="left" if not column else "right")
    for name, text in texts().items():
        ids, vocabulary = encoded(text)
        cut = len(ids) * 9 // 10
        train, held_out = ids[:cut], ids[cut:]
        losses = [
            [run(train, held_out, vocabulary, seed) for seed in range(SEEDS)]
            for run in (ours, theirs)
        ]
        shown = [
            cell
            for each in losses
            for cell in (f"{statistics.mean(each):.4f}", " ".join(f"{one:.4f}" for one in each))
        ]
        table.add_row(name, *shown)
    Console().print(table)


def texts() -> dict[str, str]:
    """Those that are there."""
    from llm.pydoc_source import pydoc_documents

    found = {"Python's docs": "\n\n".join(text for _, text in pydoc_documents())[:CHARACTERS]}
    if SHAKESPEARE.exists():
        found["tinyshakespeare"] = SHAKESPEARE.read_text()[:CHARACTERS]
    return found


def encoded(text: str) -> tuple[np.ndarray, int]:
    """A number for every character that occurs, and how many there are."""
    alphabet = {character: number for number, character in enumerate(sorted(set(text)))}
    return np.array([alphabet[character] for character in text], np.int32), len(alphabet)


def windows(ids: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """Batches of rows from anywhere: (BATCH, CONTEXT + 1)."""
    draw = np.random.default_rng(seed)
    while True:
        starts = draw.integers(len(ids) - CONTEXT, size=(BATCH, 1))
        yield ids[starts + np.arange(CONTEXT + 1)]


def ours(train: np.ndarray, held_out: np.ndarray, vocabulary: int, seed: int) -> float:
    """What the plan makes of the dial, trained by `fit`."""
    from jobs import auto
    from llm.config import ModelConfig, OptimConfig, TrainConfig
    from llm.model import Transformer
    from llm.optim import make_optimizer
    from llm.outside import Wish
    from llm.size import parameters
    from llm.train import Training, fit
    from llm.world import World

    shape = auto.model(ModelConfig(depth=DEPTH, width=WIDTH, context=CONTEXT))
    optim = auto.optim(OptimConfig(), STEPS, sum(parameters(shape, vocabulary).values()))
    torch.manual_seed(seed)
    model = Transformer(shape, vocabulary)
    fit(
        Training(model, make_optimizer(model, optim)),
        portions(windows(train, seed)),
        TrainConfig(steps=STEPS, batch=BATCH, micro_batch=BATCH, optim=optim),
        seed=seed,
        world=World.current(),
        precision="fp32",
        wish=lambda: Wish.NOTHING,
        allows=lambda *_: True,
        after_step=lambda _: None,
    )
    return measured(model, lambda x, y: model(x, y) / y.numel(), held_out)


def portions(batches: Iterator[np.ndarray]) -> Iterator[NextToken]:
    """As the stream deals them."""
    for number, ids in enumerate(batches):
        row = np.arange(number * BATCH, (number + 1) * BATCH)
        yield NextToken(Block(ids, np.zeros(BATCH, np.int64), row))


def theirs(train: np.ndarray, held_out: np.ndarray, vocabulary: int, seed: int) -> float:
    """nanoGPT's model, optimizer and schedule."""
    from model import GPT, GPTConfig

    torch.manual_seed(seed)
    shape = {"n_layer": DEPTH, "n_head": DEPTH, "n_embd": WIDTH, "block_size": CONTEXT}
    model = GPT(GPTConfig(**shape, vocab_size=vocabulary, dropout=0.0, bias=False))
    optimizer = model.configure_optimizers(0.1, 1e-3, (0.9, 0.99), "cpu")
    batches = windows(train, seed)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = nanogpt_rate(step)
        ids = torch.from_numpy(next(batches).astype(np.int64))
        model(ids[:, :-1], ids[:, 1:].contiguous())[1].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return measured(model, lambda x, y: model(x, y)[1], held_out)


def nanogpt_rate(step: int) -> float:
    """100 steps of warm-up to 1e-3, then half a cosine to 1e-4."""
    if step < 100:
        return 1e-3 * (step + 1) / 101
    height = (1 + np.cos(np.pi * (step - 100) / (STEPS - 100))) / 2
    return float(1e-4 + height * 9e-4)


@torch.no_grad()
def measured(model: nn.Module, loss: Loss, ids: np.ndarray) -> float:
    """Mean over the whole held-out text."""
    model.eval()
    rows = (len(ids) - 1) // CONTEXT
    x, y = (
        torch.from_numpy(ids[at : at + rows * CONTEXT].astype(np.int64)).view(rows, CONTEXT)
        for at in (0, 1)
    )
    parts = zip(x.split(256), y.split(256), strict=True)
    return sum(float(loss(a, b.contiguous())) * len(a) for a, b in parts) / rows


if __name__ == "__main__":
    main()

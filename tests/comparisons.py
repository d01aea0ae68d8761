"""Alignment on comparisons small enough for tests: a word that people like, a model of 10k weights.

Of two to four answers the one with more `egg` in it is better.
"""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from llm.align_config import DpoConfig, RewardConfig
from llm.align_task import AlignTask, loop_of
from llm.artifact import write_model
from llm.chat import Template, Turn
from llm.chat_artifact import write_chat_shape
from llm.config import CheckpointConfig, ModelConfig, OptimConfig, TokenizerConfig
from llm.examples import COMPARISON, INDEX, comparison_row
from llm.files import write_json
from llm.metrics import Event
from llm.model import Transformer
from llm.outside import Outside
from llm.ragged import write_rows
from llm.rankings import Ranking
from llm.run import Run, Setting
from llm.tokenizer import Tokenizer
from llm.tokenizer_trainer import train as train_tokenizer
from llm.world import World
from tests.tasks import WORDS

ALONE = Setting(World(0, 1, torch.device("cpu")), "fp32")

SHAPE = ModelConfig(depth=2, width=32, heads=2, hidden=64, context=48)


def ranking(source: random.Random) -> Ranking:
    """A question of one word; answers of up to three, all with a different number of eggs."""
    answers = [["egg"] * eggs + source.choices(("wall", "men"), k=3 - eggs) for eggs in range(4)]
    chosen = sorted(source.sample(range(4), source.choice((2, 2, 3))))
    source.shuffle(chosen)
    for one in answers:
        source.shuffle(one)
    return Ranking(
        (Turn("user", source.choice(WORDS.split())),),
        tuple(" ".join(answers[i]) for i in chosen),
        tuple(float(i) for i in chosen),
    )


def write_examples(
    folder: Path, template: Template, train: list[Ranking], held_out: list[Ranking], context: int
) -> None:
    """Tokenised comparisons, as `cluster.examples` leaves them."""
    for part, rankings in (("train", train), ("validation", held_out)):
        rows = [comparison_row(one, template, context, False).row for one in rankings]
        write_rows(folder / f"{part}-00000.safetensors", COMPARISON, [row for row in rows if row])
    counts = {"train": len(train), "validation": len(held_out)}
    write_json(folder / INDEX, {**counts, "skipped": {}})


def write_start(folder: Path) -> Template:
    """A chat model that has learned nothing yet."""
    folder.mkdir(parents=True)
    path = folder.parent / "tokenizer.model"
    settings = TokenizerConfig(model="char", byte_fallback=False, coverage=1.0)
    train_tokenizer([WORDS] * 20, settings, path, seed=0)
    tokenizer = Tokenizer(path)
    write_chat_shape(folder, SHAPE, tokenizer)
    torch.manual_seed(1)
    write_model(folder, Transformer(SHAPE, tokenizer.vocab_size))
    return Template(tokenizer)


def make_task(
    folder: Path, kind: Literal["reward", "dpo"], count: int = 64, **config: Any
) -> AlignTask:
    """A task in `folder`, with all that it needs beside it."""
    start, examples = folder.parent / "start", folder.parent / "examples"
    if not start.exists():
        template, source = write_start(start), random.Random(2)
        rankings = [ranking(source) for _ in range(count + count // 2)]
        write_examples(examples, template, rankings[:count], rankings[count:], SHAPE.context)
    loop: dict[str, Any] = {
        "batch": 8,
        "micro_batch": 4,
        "precision": "fp32",
        "validate_every": 1000,
        "log_every": 1,
        "optim": OptimConfig(lr=3e-3, warmup=2, weight_decay=0.0),
        "checkpoint": CheckpointConfig(every=1000),
    }
    settings = {"reward": RewardConfig, "dpo": DpoConfig}[kind](data=NONE, **{**loop, **config})
    return AlignTask(
        kind=kind,
        folder=str(folder),
        start=str(start),
        examples=str(examples),
        config=settings,
        train=loop_of(settings, settings.epochs * count),
        seed=3,
    )


NONE: Any = ()
"""Examples are tokenised already, so nobody reads data."""


def run(
    task: AlignTask, recipe: Callable[..., Any], watch: Callable[[Event], None] = lambda _: None
) -> tuple[Any, Event]:
    """Run a task in this process; its recipe and final figures."""
    Path(task.folder).mkdir(parents=True, exist_ok=True)
    made = recipe(task, ALONE)
    return made, Run(task, made, ALONE, Outside(watch)).run()


def again(task: AlignTask, folder: Path, **train: Any) -> AlignTask:
    """The same task elsewhere, its loop changed."""
    return replace(
        task, folder=str(folder), train=type(task.train)(**{**vars(task.train), **train})
    )


def weights(module: torch.nn.Module) -> np.ndarray:
    """All parameters in a row."""
    return torch.cat([p.detach().flatten() for p in module.parameters()]).numpy()

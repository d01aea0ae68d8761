"""Pretraining: a model learns the next token of every prefix of a text.

It runs alone, under torchrun and inside Ray Train; only where its blocks come from differs. Every
pretrain artifact holds its task.json, so a run can be repeated without Ray:

    python -m llm.pretrain runs/NAME/pretrain/FINGERPRINT/task.json FOLDER
    torchrun --nproc-per-node 2 -m llm.pretrain TASK.json FOLDER --strategy fsdp
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from llm.alone import train_alone
from llm.artifact import write_model, write_shape
from llm.batch import NextToken
from llm.checkpoint import load_weights
from llm.config import SamplingConfig
from llm.data import Block, Cursor, require_training_text
from llm.evaluate import evaluate
from llm.generate import write
from llm.metrics import Event, step_line
from llm.model import Transformer
from llm.outside import Outside
from llm.run import Run, Setting
from llm.size import flops_per_token
from llm.task import PretrainTask, held_out_of, read_task, sequences_of
from llm.tokenizer_file import read_tokenizer
from llm.train import autocast
from llm.units import units_of


class Pretraining:
    """The recipe: next tokens of the task's text, measured in bits per byte of held-out text."""

    score = "bpb"
    takes_best = False

    def __init__(self, task: PretrainTask, setting: Setting) -> None:
        self.task, self.setting = task, setting
        self.tokenizer = read_tokenizer(task.tokenizer)
        self.text = held_out_of(task, self.tokenizer)
        self.separator = self.tokenizer.eos if task.model.attend == "document" else None
        torch.manual_seed(task.seed)
        model = Transformer(task.model, self.tokenizer.vocab_size)
        if task.start:
            load_weights(model, Path(task.start) / "model.safetensors")
        self.module = model.to(setting.world.device)
        self.flops = flops_per_token(task.model, self.tokenizer.vocab_size)

    def announce(self, folder: Path) -> dict[str, Any]:
        """The shape and the tokenizer, so that checkpoints can be tried while it trains."""
        write_shape(folder, self.task.model, Path(self.task.tokenizer), self.tokenizer.vocab_size)
        return {"held_out_bytes": self.text.bytes if self.text else 0}

    def portions(self, cursor: Cursor) -> Iterator[NextToken]:
        """This process's share of the stream, tokenised right here."""
        train, world = self.task.train, self.setting.world
        blocks = sequences_of(self.task).blocks(cursor, train.micro_batch)
        slots = train.batch // train.micro_batch
        mine = (one for i, one in enumerate(blocks) if i % slots % world.size == world.rank)
        return self.as_portions(mine)

    def as_portions(self, blocks: Iterable[Block]) -> Iterator[NextToken]:
        """Blocks of the stream as what `fit` takes."""
        short_start = self.task.train.short_start
        return (NextToken(block, self.separator, short_start) for block in blocks)

    def validate(self) -> dict[str, float]:
        """Loss and bits per byte of the held-out text."""
        if self.text is None:
            return {}
        world = self.setting.world
        score = evaluate(
            self.module,
            self.text,
            self.tokenizer.eos,
            world,
            self.task.train.micro_batch,
            lambda: autocast(world.device, self.setting.precision),
            self.separator,
        )
        return {"loss": score.loss, "bpb": score.bpb}

    def answers(self, step: int) -> Iterator[tuple[str, str]]:
        """What the model makes of the task's prompt."""
        prompt = self.task.prompt
        if prompt:
            sampling = SamplingConfig(max_tokens=48, temperature=0.7, seed=step)
            yield prompt, "".join(write(self.module, self.tokenizer, prompt, sampling))

    def finish(self, folder: Path, cursor: Cursor) -> dict[str, Any]:
        """The weights; how often each source was gone through."""
        write_model(folder, self.module)
        return {"passes": sequences_of(self.task).passes(cursor)}


def pretraining(task: PretrainTask, outside: Outside) -> tuple[Run, Pretraining]:
    """This process's run of a task, and its recipe."""
    setting = Setting.current(task.train)
    recipe = Pretraining(task, setting)
    return Run(task, recipe, setting, outside), recipe


def pretrain(task: PretrainTask, outside: Outside) -> Event:
    """Run a task in this process of possibly many; returns its final figures."""
    require_training_text(units_of(task.data), task.data)
    run, _ = pretraining(task, outside)
    return run.run()


def show(event: Event) -> None:
    """Print an event as a plain line."""
    if event["event"] == "step":
        print(step_line(event), flush=True)
    elif event["event"] == "validation":
        print(f"step {event['step']}: validation {event['bpb']:.4f} bits per byte", flush=True)


if __name__ == "__main__":
    train_alone(read_task, pretrain, show)

"""Pretraining: a model learns from a text, by one of the objectives of llm/objective.py.

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
from llm.checkpoint import load_weights
from llm.complete import complete
from llm.config import SamplingConfig
from llm.data import Block, Cursor, require_training_text
from llm.families import make_model
from llm.metrics import Event, print_event
from llm.objective import OBJECTIVES, Subject
from llm.outside import Outside
from llm.run import Run, Setting
from llm.size import flops_per_token
from llm.task import PretrainTask, held_out_of, read_task, sequences_of
from llm.tokenizer_file import read_tokenizer
from llm.train import Portion
from llm.units import units_of


class Pretraining:
    """The recipe: the task's objective on the task's text, measured on held-out text."""

    takes_best = False

    def __init__(self, task: PretrainTask, setting: Setting) -> None:
        self.task, self.setting = task, setting
        self.tokenizer = read_tokenizer(task.tokenizer)
        self.text = held_out_of(task, self.tokenizer)
        torch.manual_seed(task.seed)
        model = make_model(task.model, self.tokenizer.vocab_size)
        if task.start:
            load_weights(model, Path(task.start) / "model.safetensors")
        self.module = model.to(setting.world.device)
        self.flops = flops_per_token(task.model, self.tokenizer.vocab_size)
        subject = Subject(task, setting, self.tokenizer, self.module)
        self.objective = OBJECTIVES[task.objective](subject)
        self.score = self.objective.score

    def announce(self, folder: Path) -> dict[str, Any]:
        """The shape and the tokenizer, so that checkpoints can be tried while it trains."""
        write_shape(folder, self.task.model, Path(self.task.tokenizer), self.tokenizer.vocab_size)
        return {"held_out_bytes": self.text.bytes if self.text else 0}

    def portions(self, cursor: Cursor) -> Iterator[Portion]:
        """This process's share of the stream, tokenised right here."""
        train, world = self.task.train, self.setting.world
        blocks = sequences_of(self.task).blocks(cursor, train.micro_batch)
        slots = train.batch // train.micro_batch
        mine = (one for i, one in enumerate(blocks) if i % slots % world.size == world.rank)
        return self.as_portions(mine)

    def as_portions(self, blocks: Iterable[Block]) -> Iterator[Portion]:
        """Blocks of the stream as what `fit` takes."""
        return map(self.objective.portion, blocks)

    def validate(self) -> dict[str, float]:
        """Figures of the held-out text."""
        return self.objective.validate(self.text) if self.text else {}

    def answers(self, step: int) -> Iterator[tuple[str, str]]:
        """What the model makes of the task's prompt."""
        prompt = self.task.prompt
        if prompt:
            sampling = SamplingConfig(max_tokens=48, temperature=0.7, seed=step)
            yield prompt, "".join(complete(self.module, self.tokenizer, prompt, sampling))

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


if __name__ == "__main__":
    train_alone(read_task, pretrain, print_event)

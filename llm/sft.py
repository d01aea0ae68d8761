"""Instruction tuning: a pretrained model learns to answer, the loss being on answers only.

Ouyang et al. 2022 (InstructGPT), step 1. Conversations are packed into rows in which they do not
see each other (`llm.sft_rows`), so a model learns what it would learn from each of them alone.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from llm.align_config import SftConfig
from llm.align_task import AlignTask
from llm.artifact import read_model, write_model
from llm.chat import Template
from llm.chat_artifact import write_chat_shape
from llm.data import Cursor
from llm.examples import Chats, rows_in
from llm.reply import reply
from llm.run import Setting
from llm.sft_rows import SftPortion, SftRows
from llm.size import flops_per_token
from llm.train import autocast

MEASURED_ROWS = 256
"""Rows of held-out conversations that a validation reads at most."""


class Sft:
    """The recipe: answers of the task's conversations, measured by the loss of held-out answers."""

    score = "loss"
    takes_best = False

    def __init__(self, task: AlignTask, setting: Setting) -> None:
        assert isinstance(task.config, SftConfig)
        self.task, self.config, self.setting = task, task.config, setting
        model, self.tokenizer = read_model(Path(task.start))
        self.template = Template(self.tokenizer)
        self.module = model.to(setting.world.device)
        self.flops = flops_per_token(model.config, self.tokenizer.vocab_size)
        examples, context = Path(task.examples), model.config.context
        self.rows = training_rows(examples, task.config, task.seed, self.template, context)
        held_out = Chats(rows_in(examples, "validation"))
        self.held_out = SftRows(held_out, context, 1, 0, self.template.bos)

    def announce(self, folder: Path) -> dict[str, Any]:
        """All that weights in the folder belong to; how full the rows are."""
        write_chat_shape(folder, self.module.config, self.tokenizer)
        return {
            "conversations": len(self.rows.chats),
            "held_out": len(self.held_out.chats),
            "rows": len(self.rows),
            "padding": 1 - self.rows.used,
        }

    def portions(self, cursor: Cursor) -> Iterator[SftPortion]:
        """This process's rows."""
        train = self.task.train
        slots = train.batch // train.micro_batch
        return self.rows.portions(cursor, train.micro_batch, slots, self.setting.world)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Loss of held-out answers, in nats per token."""
        world, size = self.setting.world, self.task.train.micro_batch
        count = min(len(self.held_out), MEASURED_ROWS)
        if not count:
            return {}
        self.module.eval()
        total = weight = 0.0
        for start in range(world.rank * size, count, world.size * size):
            portion = self.held_out.portion(start, min(size, count - start))
            with autocast(world.device, self.setting.precision):
                total += self.module(**portion.arguments(world.device, 0)).item()
            weight += portion.weight
        self.module.train()
        total, weight = world.sum(total, weight)
        return {"loss": total / weight, "perplexity": math.exp(min(total / weight, 700))}

    def answers(self, step: int) -> Iterator[tuple[str, str]]:
        """What the model answers to the config's prompts."""
        for prompt in self.config.prompts:
            yield prompt, reply(self.module, self.template, prompt, self.config.answer_tokens)

    def finish(self, folder: Path, cursor: Cursor) -> dict[str, Any]:
        """The weights."""
        write_model(folder, self.module)
        return {"conversations": len(self.rows.chats), "padding": 1 - self.rows.used}


def training_rows(
    examples: Path, config: SftConfig, seed: int, template: Template, context: int
) -> SftRows:
    """The rows that a training reads."""
    chats = Chats(rows_in(examples, "train"))
    separator = template.bos if config.packing else None
    return SftRows(chats, context, config.epochs, seed, separator)

"""Text mixed into PPO, so that the policy forgets less of it (InstructGPT 2022, PPO-ptx).

Each minibatch of answers brings as many rows of the pretraining's text, in the order in which that
pretraining reads them, from its beginning; where the rows stand is the checkpoint's cursor.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from llm.batch import NextToken
from llm.data import Block, Cursor
from llm.errors import ArtifactError
from llm.model import Transformer
from llm.run import Setting
from llm.task import read_task, sequences_of
from llm.tokenizer_file import tokenizer_in
from llm.train import autocast


class PretrainMix:
    """The rest of a pretraining's text from a cursor on."""

    def __init__(
        self, task: Path, policy: Path, context: int, micro_batch: int, on: Setting
    ) -> None:
        self.task, self.on, self.micro_batch = read_task(task), on, micro_batch
        shape = replace(self.task.model, context=min(self.task.model.context, context))
        self.task = replace(self.task, model=shape)
        own, others = tokenizer_in(policy), Path(self.task.tokenizer)
        if own.read_bytes() != others.read_bytes():
            raise ArtifactError(
                f"{task}: pretrains with another tokenizer ({others}) than the policy's ({own}); "
                "mix in the pretraining that the policy comes from"
            )
        # Text never ends here, however many epochs the pretraining had.
        self.rows = replace(sequences_of(self.task), end=None, padding=0)
        self.separator = self.rows.eos if self.task.model.attend == "document" else None
        self.open(Cursor())

    def open(self, cursor: Cursor) -> None:
        """Go on at a cursor."""
        self.cursor = cursor
        self.blocks: Iterator[Block] = self.rows.blocks(cursor, self.micro_batch)

    def backward(self, policy: Transformer, weight: float, rows: int) -> None:
        """Adds the gradient of `weight` times the mean loss of the next `rows` rows at least."""
        world = self.on.world
        blocks = list(islice(self.blocks, -(-rows // self.micro_batch)))
        self.cursor = blocks[-1].after
        portions = [NextToken(block, self.separator) for block in blocks]
        tokens = sum(portion.tokens for portion in portions)
        for portion in portions[world.rank :: world.size]:
            with autocast(world.device, self.on.precision):
                loss = policy(**portion.arguments(world.device, 0))
            (loss * (weight / tokens)).backward()

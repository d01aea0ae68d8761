"""Alignment trainings alone, under torchrun and inside Ray Train: which recipe a task takes.

Every artifact of theirs holds its task.json, so a run can be repeated without Ray:

    python -m llm.align runs/NAME/sft/FINGERPRINT/task.json FOLDER
    torchrun --nproc-per-node 2 -m llm.align TASK.json FOLDER --strategy fsdp
"""

from collections.abc import Callable
from pathlib import Path

from llm.align_config import SftConfig
from llm.align_task import AlignTask, Config, Kind, loop_of, read_align_task
from llm.alone import train_alone
from llm.artifact import read_shape
from llm.chat import Template
from llm.dpo import DpoRecipe
from llm.errors import DataError
from llm.examples import read_index, rows_in
from llm.metrics import Event, print_event
from llm.outside import Outside
from llm.reward_run import RewardRecipe
from llm.run import Recipe, Run, Setting
from llm.sft import Sft, training_rows
from llm.tokenizer_file import read_tokenizer, tokenizer_in

RECIPES: dict[str, Callable[[AlignTask, Setting], Recipe]] = {
    "sft": Sft,
    "reward": RewardRecipe,
    "dpo": DpoRecipe,
}


def align(task: AlignTask, outside: Outside) -> Event:
    """Run a task in this process of possibly many; returns its final figures."""
    setting = Setting.current(task.train, outside.beat)
    return Run(task, RECIPES[task.kind](task, setting), setting, outside).run()


def new_task(
    kind: Kind, folder: Path, start: Path, examples: Path, config: Config, seed: int
) -> AlignTask:
    """A task with as many steps as its examples make; DataError if there are none."""
    index = read_index(examples)
    if not index["train"]:
        left_out = ", ".join(f"{count} {why}" for why, count in index["skipped"].items())
        raise DataError(
            f"data: no example is left to train on ({left_out or 'the files are empty'}); add "
            f"data, hold out less (validation is {config.validation:g}), or lengthen the model's "
            "context"
        )
    return AlignTask(
        kind=kind,
        folder=str(folder),
        start=str(start),
        examples=str(examples),
        config=config,
        train=loop_of(config, sequences_in(start, examples, config, seed)),
        seed=seed,
    )


def sequences_in(start: Path, examples: Path, config: Config, seed: int) -> int:
    """How many sequences (sft: rows; else comparisons) all epochs have."""
    if not isinstance(config, SftConfig):
        return config.epochs * len(rows_in(examples, "train"))
    template = Template(read_tokenizer(tokenizer_in(start)))
    return len(training_rows(examples, config, seed, template, read_shape(start)[0].context))


if __name__ == "__main__":
    train_alone(read_align_task, align, print_event)

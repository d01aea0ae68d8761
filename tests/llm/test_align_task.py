"""How long an alignment is, and that its record survives being written down."""

from dataclasses import replace
from pathlib import Path

import pytest

from llm.align_config import ChatDataConfig, SftConfig
from llm.align_task import AlignTask, loop_of, read_align_task
from llm.config import OptimConfig
from llm.files import write_json

CONFIG = SftConfig(
    data=(ChatDataConfig(shards=("a.jsonl",)),),
    batch=16,
    micro_batch=4,
    optim=OptimConfig(lr=1e-3),
)


@pytest.mark.parametrize(
    ("rows", "steps", "warmup", "every"), [(1, 1, 0, 1), (160, 10, 1, 1), (1601, 101, 4, 11)]
)
def test_the_loop_takes_all_rows(rows: int, steps: int, warmup: int, every: int) -> None:
    loop = loop_of(CONFIG, rows)
    assert (loop.steps, loop.optim.warmup) == (steps, warmup)
    assert (loop.validate_every, loop.checkpoint.every) == (every, every)


def test_a_given_warmup_stays_below_the_steps() -> None:
    config = replace(CONFIG, optim=OptimConfig(lr=1e-3, warmup=50))
    assert loop_of(config, 1600).optim.warmup == 50
    assert loop_of(config, 160).optim.warmup == 9


def test_a_task_is_read_as_it_was_written(tmp_path: Path) -> None:
    task = AlignTask(
        kind="sft",
        folder="f",
        start="s",
        examples="e",
        config=CONFIG,
        train=loop_of(CONFIG, 100),
        seed=3,
    )
    write_json(tmp_path / "task.json", task.to_json())
    assert read_align_task(tmp_path / "task.json") == task

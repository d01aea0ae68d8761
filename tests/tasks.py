"""A pretraining task small enough for tests: 60 kB of made-up sentences, a model of 20k parameters.

`python -m tests.tasks TASK.json FOLDER STEP` runs one and dies without a word after STEP.
"""

import json
import os
import random
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from llm.config import (
    CheckpointConfig,
    DataConfig,
    ModelConfig,
    OptimConfig,
    TokenizerConfig,
    TrainConfig,
    ValidationConfig,
)
from llm.metrics import Event, read_log
from llm.outside import Outside

WORDS = "the king horse men wall egg sat fell put together again all great down up"


def sentence(source: random.Random) -> str:
    """Three to twelve words."""
    return " ".join(source.choices(WORDS.split(), k=source.randint(3, 12)))


def write_text(folder: Path, documents: int = 1500) -> Path:
    """Shards of made-up sentences, one document a line."""
    source = random.Random(5)
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(3):
        texts = (sentence(source) for _ in range(documents // 3))
        (folder / f"{shard}.jsonl").write_text(
            "".join(json.dumps({"text": text}) + "\n" for text in texts)
        )
    return folder


def write_task(
    folder: Path,
    *,
    documents: int = 1500,
    model: dict[str, Any] | None = None,
    objective: str = "next_token",
    prompt: str = "",
    **train: Any,
) -> Path:
    """A task.json, its text and its tokenizer below `folder`."""
    from llm.task import PretrainTask
    from llm.tokenizer_trainer import train as train_tokenizer

    text = write_text(folder / "text", documents)
    tokenizer = folder / "tokenizer.model"
    lines = [line for path in sorted(text.iterdir()) for line in path.read_text().splitlines()]
    texts = [json.loads(line)["text"] for line in lines]
    config = TokenizerConfig(model="char", byte_fallback=False, coverage=1.0)
    train_tokenizer(texts, config, tokenizer, seed=0)
    shape = {"depth": 2, "width": 32, "heads": 2, "hidden": 64, "context": 32}
    steps = train.pop("steps", 20)
    rest = {"batch": 8, "micro_batch": 2, "validate_every": steps, "log_every": 1, **train}
    task = PretrainTask(
        folder="",
        tokenizer=str(tokenizer),
        data=DataConfig(
            shards=(str(text),), validation=ValidationConfig(fraction=0.02, tokens=500)
        ),
        model=ModelConfig(**{**shape, **(model or {})}),
        train=TrainConfig(
            tokens=1,
            steps=steps,
            precision="fp32",
            optim=OptimConfig(lr=3e-3, warmup=5),
            checkpoint=CheckpointConfig(every=rest.pop("save_every", steps)),
            **rest,
        ),
        prompt=prompt,
        seed=3,
        objective=objective,
    )
    path = folder / "task.json"
    path.write_text(json.dumps(asdict(task)))
    return path


def run_plain(task: Path, folder: Path, watch: Callable[[Event], None] = lambda _: None) -> None:
    """Run a task in this process, as `python -m llm.pretrain` does."""
    from llm.pretrain import pretraining
    from llm.task import read_task

    folder.mkdir(parents=True, exist_ok=True)
    run, _ = pretraining(replace(read_task(task), folder=str(folder)), Outside(watch))
    run.run()


def losses(folder: Path) -> list[float]:
    """The training loss of every step in a folder's log; each step stands there once."""
    events = [event for event in read_log(folder / "metrics.jsonl") if event["event"] == "step"]
    assert [event["step"] for event in events] == list(range(1, len(events) + 1))
    return [event["loss"] for event in events]


if __name__ == "__main__":
    last = int(sys.argv[3])

    def fall(event: Event) -> None:
        if event["event"] == "step" and event["step"] == last:
            os._exit(9)

    run_plain(Path(sys.argv[1]), Path(sys.argv[2]), fall)

"""An alignment training (sft, reward, dpo) as one record: all that decides it.

It travels to workers, and lies in the artifact as task.json, which repeats the training anywhere
(`llm.align`). How many steps it has is known once its examples are counted.
"""

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from llm.align_config import DpoConfig, RewardConfig, SftConfig
from llm.config import LoopConfig, TrainConfig, auto
from llm.task import from_json

Kind = Literal["sft", "reward", "dpo"]

Config = SftConfig | RewardConfig | DpoConfig

CONFIGS: dict[str, type] = {"sft": SftConfig, "reward": RewardConfig, "dpo": DpoConfig}


@dataclass(frozen=True, kw_only=True)
class AlignTask:
    """All that decides an alignment. start: the artifact whose model is trained on."""

    kind: Kind
    folder: str
    start: str
    examples: str
    """Folder of the tokenised examples (`llm.examples`)."""
    config: Config
    train: TrainConfig
    """The loop's part of the config, with numbers in place of every auto."""
    seed: int

    @property
    def checkpoints(self) -> Path:
        """Where its checkpoints are."""
        return Path(self.folder) / "checkpoints"

    def to_json(self) -> dict[str, Any]:
        """As it stands in task.json."""
        return asdict(self)


def read_align_task(path: Path) -> AlignTask:
    """A task from its JSON file."""
    record = json.loads(path.read_text())
    config = from_json(CONFIGS[record["kind"]], record.pop("config"))
    train = from_json(TrainConfig, record.pop("train"))
    return AlignTask(config=config, train=train, **record)


def loop_of(config: LoopConfig, items: int) -> TrainConfig:
    """The loop that consumes so many sequences; the last batch may be filled up.

    Warm-up takes a 30th of all steps, validations and checkpoints come ten times.
    """
    steps = max(1, math.ceil(items / config.batch))
    every_tenth = math.ceil(steps / 10)
    optim, kept = config.optim, config.checkpoint
    warmup = math.ceil(steps / 30) if optim.warmup == auto else min(optim.warmup, steps - 1)
    return TrainConfig(
        tokens=1,
        steps=steps,
        batch=config.batch,
        micro_batch=config.micro_batch,
        precision=config.precision,
        compile=config.compile,
        recompute=config.recompute,
        validate_every=every_tenth if config.validate_every == auto else config.validate_every,
        log_every=config.log_every,
        optim=type(optim)(**{**vars(optim), "warmup": min(warmup, steps - 1)}),
        checkpoint=replace(kept, every=every_tenth if kept.every == auto else kept.every),
        faults=config.faults,
    )

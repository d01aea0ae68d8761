"""A pretraining as one record: all that decides it, and the text that follows from it.

It travels to workers, and lies in the artifact as task.json, which repeats the training anywhere.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_type_hints

from llm.config import DataConfig, ModelConfig, TrainConfig
from llm.data import HeldOut, Sequences, held_out
from llm.shards import list_shards, list_units
from llm.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class PretrainTask:
    """All that decides a pretraining: resolved configs, files, seed. `folder` is its artifact."""

    folder: str
    tokenizer: str
    data: DataConfig
    model: ModelConfig
    train: TrainConfig
    prompt: str
    seed: int

    @property
    def checkpoints(self) -> Path:
        """Where its checkpoints are."""
        return Path(self.folder) / "checkpoints"

    def to_json(self) -> dict[str, Any]:
        """As it stands in task.json."""
        return asdict(self)


def read_task(path: Path) -> PretrainTask:
    """A task from its JSON file."""
    return from_json(PretrainTask, json.loads(path.read_text()))


def from_json(cls: Any, record: Any) -> Any:
    """Rebuild a frozen record, with the records inside it, from what `asdict` and JSON made."""
    if isinstance(record, dict):
        hints = get_type_hints(cls)
        return cls(**{key: from_json(hints[key], value) for key, value in record.items()})
    return tuple(record) if isinstance(record, list) else record


def sequences_of(task: PretrainTask) -> Sequences:
    """The training sequences of a task."""
    units = list_units(list_shards(task.data.shards, task.data.format))
    return Sequences(
        tuple(units), task.data, Tokenizer(task.tokenizer), task.model.context, task.seed
    )


def held_out_of(task: PretrainTask, sequences: Sequences) -> HeldOut | None:
    """The text that measures a task's model."""
    validation = task.data.validation
    if validation.shards:
        units = list_units(list_shards(validation.shards, task.data.format))
    else:
        units = list(sequences.units) if validation.fraction else []
    return held_out(units, task.data, sequences.tokenizer, task.model.context)

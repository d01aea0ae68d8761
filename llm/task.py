"""A pretraining as one record: all that decides it, and the text that follows from it.

It travels to workers, and lies in the artifact as task.json, which repeats the training anywhere.
"""

import json
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np

from llm.config import DataConfig, ModelConfig, TrainConfig
from llm.data import Sequences, Text, TokenisedText
from llm.files import write_json
from llm.held_out import HeldOut, held_out
from llm.order import Epochs, Order, mixture, units_per_position
from llm.permutation import Permutation
from llm.tokenizer import Tokenizer
from llm.tokenizer_file import read_tokenizer
from llm.tokens import TokenCache
from llm.units import Units, units_of

SAMPLED_UNITS = 128
"""Units of a source that tell how many tokens a byte of it makes; more than 30 MB of text."""


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
    weights: dict[str, float] = field(default_factory=dict)
    """Shares of the training tokens by source, where shards are called SOURCE-NUMBER.parquet."""
    objective: str = "next_token"
    """What is learned from the text (`llm.objective`)."""
    tokens: str = ""
    """Folder of the text's tokens (`llm.tokens`); empty: the text is tokenised on the way."""
    start: str = ""
    """The artifact whose model is trained on; empty: a fresh model."""

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


def from_json(kind: Any, record: Any) -> Any:
    """Rebuild frozen records, also inside tuples and unions, from what `asdict` and JSON made."""
    inner = [one for one in (kind, *get_args(kind)) if is_dataclass(one)]
    if isinstance(record, list):
        return tuple(from_json(inner[0] if inner else Any, one) for one in record)
    if isinstance(record, dict) and inner:
        hints = get_type_hints(inner[0])
        return inner[0](**{key: from_json(hints[key], value) for key, value in record.items()})  # type: ignore[operator]
    return record


def sequences_of(task: PretrainTask) -> Sequences:
    """The training sequences of a task."""
    units, tokenizer = units_of(task.data), read_tokenizer(task.tokenizer)
    text = text_of(task, units, tokenizer)
    order = order_of(task, units, text)
    end, padding = end_of(task, order, text)
    return Sequences(text, order, tokenizer.eos, task.model.context, task.seed, end, padding)


def text_of(task: PretrainTask, units: Units, tokenizer: Tokenizer) -> Text:
    """The tokens of each unit: kept ones, or made on the way."""
    if task.tokens:
        return TokenCache(Path(task.tokens))
    return TokenisedText(units, task.data, tokenizer)


def order_of(task: PretrainTask, units: Units, text: Text) -> Order:
    """Epochs over everything, or a mixture of sources."""
    if not task.weights:
        return Epochs(len(units), units_per_position(units.bytes), task.seed)
    by_file = [source_of(path) for path in units.paths]
    names = [by_file[file] for file in units.file]
    rates = token_rates(task, names, units, text)
    return mixture(names, units.bytes, task.weights, rates, task.seed)


def source_of(path: str) -> str:
    """`.../wiki-00012.parquet` belongs to wiki."""
    return path.rpartition("/")[2].rpartition("-")[0]


def token_rates(task: PretrainTask, names: list[str], units: Units, text: Text) -> dict[str, float]:
    """Tokens per byte of each source, measured once on a sample and kept in mixture.json."""
    memo = Path(task.folder) / "mixture.json"
    if not memo.exists():
        spans = {name: (names.index(name), names.count(name)) for name in dict.fromkeys(names)}
        rates = {
            name: token_rate(first + Permutation(count, (task.seed,))(sampled(count)), units, text)
            for name, (first, count) in spans.items()
        }
        write_json(memo, rates)
    return json.loads(memo.read_text())


def sampled(count: int) -> np.ndarray:
    """The first places of an order of `count` units."""
    return np.arange(min(count, SAMPLED_UNITS))


def token_rate(sample: np.ndarray, units: Units, text: Text) -> float:
    """Targets per byte in some units."""
    tokens = sum(len(ids) + 1 for unit in sample.tolist() for ids in text.documents(unit))
    return max(1, tokens) / max(1, int(units.bytes[sample].sum()))


def end_of(task: PretrainTask, order: Order, text: Text) -> tuple[int | None, int]:
    """Where a run of whole epochs ends, and the rows that fill up its last batch."""
    epochs = task.train.epochs
    if epochs is None:
        return None, 0
    assert isinstance(order, Epochs) and isinstance(text, TokenCache), "epochs need counted tokens"
    rows = sum(text.row_counts(task.model.context, task.seed, epochs))
    return epochs * order.positions, task.train.steps * task.train.batch - rows


def held_out_of(task: PretrainTask, tokenizer: Tokenizer) -> HeldOut | None:
    """The text that measures a task's model."""
    validation = task.data.validation
    if validation.shards:
        data = DataConfig(**{**vars(task.data), "shards": validation.shards})
    elif validation.fraction:
        data = task.data
    else:
        return None
    return held_out(units_of(data), task.data, tokenizer, task.model.context)

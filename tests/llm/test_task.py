"""From a task to its sequences: mixtures of sources whose shares are counted in tokens."""

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llm.config import DataConfig, ValidationConfig
from llm.order import Mixture
from llm.task import PretrainTask, held_out_of, read_task, sequences_of, source_of
from llm.tokenizer import Tokenizer
from llm.units import units_of
from tests.tasks import sentence, write_task


@pytest.fixture
def task(tmp_path: Path) -> PretrainTask:
    """Three sources of different sizes and documents of different lengths."""
    source = random.Random(1)
    folder = tmp_path / "train"
    folder.mkdir()
    for name, documents, sentences in (("big-one", 4000, 3), ("small", 150, 1), ("long", 60, 80)):
        texts = [
            " ".join(sentence(source) for _ in range(source.randint(1, 2 * sentences)))
            for _ in range(documents)
        ]
        table = pa.table({"id": [f"{name}/{i}" for i in range(documents)], "text": texts})
        pq.write_table(table, folder / f"{name}-00000.parquet", row_group_size=100)
    data = DataConfig(
        shards=(str(folder),), format="parquet", validation=ValidationConfig(fraction=0)
    )
    task = replace(read_task(write_task(tmp_path)), data=data, folder=str(tmp_path / "run"))
    return replace(task, weights={"big-one": 5.0, "small": 2.0, "long": 3.0})


def shares(task: PretrainTask, positions: int) -> dict[str, float]:
    """Which share of the tokens of some positions each source has."""
    sequences, units = sequences_of(task), units_of(task.data)
    tokens: Counter[str] = Counter()
    for position in range(positions):
        for drawn in sequences.drawn(position):
            tokens[source_of(units[drawn.visit.unit].path)] += len(drawn.ids) + 1
    return {name: count / tokens.total() for name, count in tokens.items()}


def test_weights_are_shares_of_tokens_within_one_percent(task: PretrainTask) -> None:
    assert isinstance(sequences_of(task).order, Mixture)
    found = shares(task, positions=120)
    assert found["big-one"] == pytest.approx(0.5, rel=0.01)
    assert found["small"] == pytest.approx(0.2, rel=0.01)
    assert found["long"] == pytest.approx(0.3, rel=0.01)


def test_a_mixture_is_measured_once_and_then_remembered(task: PretrainTask) -> None:
    first = sequences_of(task).order
    memo = Path(task.folder) / "mixture.json"
    rates = json.loads(memo.read_text())
    assert set(rates) == {"big-one", "small", "long"}
    memo.write_text(json.dumps({**rates, "small": rates["small"] * 2}))
    assert sequences_of(task).order != first
    memo.unlink()
    assert sequences_of(task).order == first


def test_a_task_travels_as_json(task: PretrainTask, tmp_path: Path) -> None:
    path = tmp_path / "copy.json"
    path.write_text(json.dumps(task.to_json()))
    assert read_task(path) == task


def test_shards_are_named_after_their_source() -> None:
    assert source_of("/x/train/big-one-00012.parquet") == "big-one"


def test_validation_shards_measure_the_model_and_nothing_else_does(
    task: PretrainTask, tmp_path: Path
) -> None:
    tokenizer = Tokenizer(task.tokenizer)
    assert held_out_of(task, tokenizer) is None
    folder = tmp_path / "validation"
    folder.mkdir()
    pq.write_table(pa.table({"text": ["the king", "the egg"]}), folder / "small-00000.parquet")
    held = replace(
        task,
        data=replace(task.data, validation=ValidationConfig(fraction=0, shards=(str(folder),))),
    )
    text = held_out_of(held, tokenizer)
    assert text is not None
    assert text.bytes == len("the king") + len("the egg")

"""Kept tokens are the tokens that would be made on the way."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llm import tokens
from llm.data import Cursor, Sequences
from llm.errors import ArtifactError
from llm.order import Epochs
from llm.task import PretrainTask, read_task, sequences_of
from llm.tokenizer import Tokenizer
from llm.tokens import TokenCache, count_rows, group_path, group_starts, write_group, write_index
from llm.units import units_of
from tests.tasks import write_task


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PretrainTask:
    monkeypatch.setattr(tokens, "GROUP_BYTES", 20_000)
    return read_task(write_task(tmp_path))


def keep(task: PretrainTask, folder: Path) -> dict[str, int]:
    """What `make_tokens` does, without Ray."""
    folder.mkdir()
    units, text = units_of(task.data), sequences_of(task).text
    starts = group_starts(units)
    for group, first in enumerate(starts):
        stop = [*starts[1:], len(units)][group]
        write_group(group_path(folder, group), text, range(first, stop), 30)
    return write_index(folder, units, starts)


def same(one: Sequences, two: Sequences, position: int) -> bool:
    return np.array_equal(one.rows(Cursor(position)).ids, two.rows(Cursor(position)).ids)


def test_a_run_on_kept_tokens_sees_the_rows_of_one_without(
    task: PretrainTask, tmp_path: Path
) -> None:
    figures = keep(task, tmp_path / "tokens")
    fresh, kept = sequences_of(task), sequences_of(replace(task, tokens=str(tmp_path / "tokens")))
    assert isinstance(kept.text, TokenCache)
    assert all(same(fresh, kept, position) for position in range(12))
    units = units_of(task.data)
    documents = [fresh.text.documents(unit) for unit in range(len(units))]
    assert figures["documents"] == sum(map(len, documents))
    assert figures["tokens"] == sum(len(ids) + 1 for unit in documents for ids in unit)
    assert len(list((tmp_path / "tokens").glob("0*.safetensors"))) == 3


def test_rows_of_epochs_are_counted_without_making_them(task: PretrainTask, tmp_path: Path) -> None:
    keep(task, tmp_path / "tokens")
    sequences = sequences_of(task)
    assert isinstance(sequences.order, Epochs)
    made = sum(len(sequences.rows(Cursor(p))) for p in range(3 * sequences.order.positions))
    assert count_rows(tmp_path / "tokens", task.model.context, task.seed, 3) == made


def test_a_run_of_epochs_ends_on_a_whole_batch(task: PretrainTask, tmp_path: Path) -> None:
    keep(task, tmp_path / "tokens")
    rows = count_rows(tmp_path / "tokens", task.model.context, task.seed, 2)
    steps = -(-rows // task.train.batch)
    whole = replace(
        task,
        tokens=str(tmp_path / "tokens"),
        train=replace(task.train, epochs=2, steps=steps),
    )
    blocks = list(sequences_of(whole).blocks(Cursor(), task.train.batch))
    assert len(blocks) == steps
    fresh = sequences_of(task)
    units = range(len(units_of(task.data)))
    targets = sum(int((block.ids[:, 1:] >= 0).sum()) for block in blocks)
    assert targets == 2 * sum(len(ids) + 1 for unit in units for ids in fresh.text.documents(unit))


def test_small_vocabularies_are_kept_in_two_bytes(task: PretrainTask, tmp_path: Path) -> None:
    text, path = sequences_of(task).text, tmp_path / "one.safetensors"
    write_group(path, text, range(1), vocab_size=Tokenizer(task.tokenizer).vocab_size)
    small = path.stat().st_size
    write_group(path, text, range(1), vocab_size=100_000)
    ids = sum(map(len, text.documents(0)))
    assert path.stat().st_size - small == pytest.approx(2 * ids, abs=16)


def test_damaged_tokens_are_refused(task: PretrainTask, tmp_path: Path) -> None:
    keep(task, tmp_path / "tokens")
    (tmp_path / "tokens" / tokens.INDEX).write_bytes(b"{")
    with pytest.raises(ArtifactError, match=r"index\.safetensors: cannot be read.*remove its fold"):
        TokenCache(tmp_path / "tokens").documents(0)
    damaged = group_path(tmp_path, 0)
    damaged.write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match=r"00000\.safetensors: cannot be read"):
        tokens.open_tensors(damaged)

"""The order of training sequences, worked by hand where it is small enough."""

from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from llm.config import DataConfig, ValidationConfig
from llm.data import (
    Cursor,
    Sequences,
    TokenisedText,
    draw_order,
    require_training_text,
    training_documents,
)
from llm.errors import DataError
from llm.held_out import held_out
from llm.order import Epochs
from llm.packing import PAD
from llm.shards import list_shards, list_units
from llm.units import Units

EOS = 2


@dataclass(frozen=True)
class Letters:
    """A tokenizer that a person can read: the code point, EOS = 2."""

    eos: int = EOS

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def encode_arrays(self, texts: list[str]) -> list[np.ndarray]:
        return [np.array(self.encode(text), np.int32) for text in texts]


def make_sequences(folder: Path, lines: list[str], *, unit_bytes: int = 40, **changes) -> Sequences:
    (folder / "text.txt").write_text("".join(line + "\n" for line in lines))
    held = ValidationConfig(fraction=changes.pop("fraction", 0.0), tokens=10_000)
    data = DataConfig(shards=(str(folder),), documents="line", validation=held)
    units = Units.of(list_units(list_shards(data.shards, "auto"), unit_bytes))
    text = TokenisedText(units, data, Letters())
    order = Epochs(len(units), per_position=3, seed=7)
    return replace(Sequences(text, order, EOS, context=4, seed=7), **changes)


def text_of(sequences: Sequences) -> TokenisedText:
    assert isinstance(sequences.text, TokenisedText)
    return sequences.text


def documents_in(rows: np.ndarray, context: int) -> list[str]:
    """Which texts the targets of unshuffled rows spell."""
    targets = [t for row in rows for t in row[1:] if t != PAD]
    return "".join(chr(t) if t != EOS else "\n" for t in targets).split("\n")[:-1]


def test_orders_are_permutations_that_differ_by_epoch_and_repeat_by_key() -> None:
    one, two = draw_order(50, 7, 0), draw_order(50, 7, 1)
    assert sorted(one) == sorted(two) == list(range(50))
    assert list(one) != list(two)
    assert list(draw_order(50, 7, 0)) == list(one)


def texts_in(sequences: Sequences, positions: range) -> list[str]:
    """The documents that the rows of some positions spell, put back in order."""
    texts: list[str] = []
    for position in positions:
        block = sequences.rows(Cursor(position))
        unshuffled = np.empty_like(block.ids)
        unshuffled[sequences.row_order(position, len(block))] = block.ids
        texts += documents_in(unshuffled, sequences.context)
    return texts


def positions_of(sequences: Sequences, epoch: int) -> range:
    assert isinstance(sequences.order, Epochs)
    count = sequences.order.positions
    return range(epoch * count, (epoch + 1) * count)


def test_an_epoch_holds_every_document_once_and_each_in_another_order(tmp_path: Path) -> None:
    lines = [f"line {i:03d}" for i in range(60)]
    sequences = make_sequences(tmp_path, lines)
    epochs = [texts_in(sequences, positions_of(sequences, epoch)) for epoch in range(3)]
    assert all(sorted(texts) == lines for texts in epochs)
    assert len({tuple(texts) for texts in epochs}) == 3


def test_rows_of_a_position_are_mixed(tmp_path: Path) -> None:
    sequences = make_sequences(tmp_path, [f"line {i:03d}" for i in range(60)])
    block = sequences.rows(Cursor(0))
    order = sequences.row_order(0, len(block))
    assert np.mean(np.abs(np.diff(order)) == 1) < 0.2


def test_passes_count_positions_and_rows_of_the_last(tmp_path: Path) -> None:
    sequences = make_sequences(tmp_path, [f"line {i:03d}" for i in range(60)])
    assert isinstance(sequences.order, Epochs)
    count = sequences.order.count  # three units a position
    rows = len(sequences.rows(Cursor(1)))
    assert sequences.passes(Cursor(1, rows)) == {"text": pytest.approx(6 / count)}
    assert sequences.passes(Cursor(1, 0)) == {"text": pytest.approx(3 / count)}
    assert replace(sequences, end=1, padding=9).passes(Cursor(1, 9)) == sequences.passes(Cursor(1))


def test_a_run_of_whole_epochs_ends_with_rows_that_predict_nothing(tmp_path: Path) -> None:
    lines = [f"number {i}" for i in range(40)]
    endless = make_sequences(tmp_path, lines)
    end = positions_of(endless, 1).stop
    rows = sum(len(endless.rows(Cursor(position))) for position in range(end))
    padding = -rows % 16
    sequences = replace(endless, end=end, padding=padding)
    blocks = list(sequences.blocks(Cursor(), 4))
    assert len(blocks) * 4 == rows + padding
    assert len(blocks) % 4 == 0  # whole batches of four blocks
    assert (blocks[-1].ids[-padding:] == PAD).all() if padding else True
    targets = sum(int((block.ids[:, 1:] != PAD).sum()) for block in blocks)
    assert targets == 2 * sum(len(line) + 1 for line in lines)


def test_continuing_at_any_cursor_gives_the_same_blocks(tmp_path: Path) -> None:
    sequences = make_sequences(tmp_path, [f"number {i}" for i in range(40)])
    whole = list(islice(sequences.blocks(Cursor(), 3), 60))
    assert whole[-1].after.position >= positions_of(sequences, 0).stop
    for start in (1, 7, 30, 59):
        rest = list(islice(sequences.blocks(whole[start - 1].after, 3), 60 - start))
        for a, b in zip(whole[start:], rest, strict=True):
            assert a.after == b.after
            assert np.array_equal(a.ids, b.ids)


def test_held_out_documents_are_never_trained_on(tmp_path: Path) -> None:
    lines = [f"document {i}" for i in range(300)]
    sequences = make_sequences(tmp_path, lines, fraction=0.2, unit_bytes=10_000)
    read = text_of(sequences)
    text = held_out(read.units, read.data, read.tokenizer, context=5000)
    assert text is not None
    kept_out = documents_in(text.rows, 5000)
    trained = training_documents(read.units[0], read.data)
    assert sorted(kept_out + trained) == sorted(lines)
    assert 30 < len(kept_out) < 90
    assert text.bytes == sum(len(line) for line in kept_out)


def test_held_out_text_stops_at_the_wanted_number_of_tokens(tmp_path: Path) -> None:
    sequences = make_sequences(tmp_path, ["abcdefgh"] * 100)
    read = text_of(sequences)
    data = replace(
        read.data, validation=ValidationConfig(fraction=0, shards=(str(tmp_path),), tokens=20)
    )
    text = held_out(read.units, data, read.tokenizer, context=4)
    assert text is not None
    assert (text.bytes, int((text.rows[:, 1:] != PAD).sum())) == (24, 27)  # three whole documents


def test_held_out_text_comes_from_all_over_the_corpus(tmp_path: Path) -> None:
    lines = [f"line {i:03d}" for i in range(60)]
    sequences = make_sequences(tmp_path, lines, unit_bytes=100)
    validation = ValidationConfig(fraction=0, shards=(str(tmp_path),), tokens=100)
    read = text_of(sequences)
    data = replace(read.data, validation=validation)
    text = held_out(read.units, data, read.tokenizer, context=500)
    assert text is not None
    numbers = sorted(int(line[5:]) for line in documents_in(text.rows, 500))
    assert len(numbers) == 12  # of 9 tokens each
    assert numbers[0] < 12 and numbers[-1] > 47


def test_a_corpus_without_training_text_is_refused(tmp_path: Path) -> None:
    sequences = make_sequences(tmp_path, ["only one"])
    read = text_of(sequences)
    require_training_text(read.units, read.data)
    held = replace(read.data.validation, fraction=0.999999)
    with pytest.raises(DataError, match=r"no document is left to train on .*0\.999999"):
        require_training_text(read.units, replace(read.data, validation=held))

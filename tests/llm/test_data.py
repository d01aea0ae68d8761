"""The order of training sequences, worked by hand where it is small enough."""

from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.config import DataConfig, ValidationConfig
from llm.data import (
    MIXED_UNITS,
    PAD,
    Cursor,
    Sequences,
    draw_order,
    held_out,
    pack,
    require_training_text,
)
from llm.errors import DataError
from llm.shards import list_shards, list_units

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
    units = tuple(list_units(list_shards(data.shards, "auto"), unit_bytes))
    return replace(Sequences(units, data, Letters(), context=4, seed=7), **changes)


def documents_in(rows: np.ndarray, context: int) -> list[str]:
    """Which texts the targets of unshuffled rows spell."""
    targets = [t for row in rows for t in row[1:] if t != PAD]
    return "".join(chr(t) if t != EOS else "\n" for t in targets).split("\n")[:-1]


def test_packing_cuts_joined_documents_into_overlapping_rows() -> None:
    rows = pack([[10, 11, 12], [20]], EOS, context=3, first=2)
    assert rows.tolist() == [
        [EOS, 10, 11, PAD],  # the first row predicts two tokens, drawn elsewhere in each epoch
        [11, 12, EOS, 20],
        [20, EOS, PAD, PAD],
    ]


def test_packing_nothing_gives_no_row() -> None:
    assert pack([], EOS, context=3, first=3).shape == (0, 4)


@given(
    documents=st.lists(st.lists(st.integers(10, 99), max_size=20), min_size=1, max_size=8),
    context=st.integers(1, 9),
    data=st.data(),
)
def test_every_token_is_a_target_once_and_follows_its_predecessor(
    documents: list[list[int]], context: int, data: st.DataObject
) -> None:
    first = data.draw(st.integers(1, context))
    rows = pack(documents, EOS, context, first)
    joined = [EOS] + [token for ids in documents for token in [*ids, EOS]]
    pairs = [(a, b) for row in rows.tolist() for a, b in pairwise(row)]
    assert [pair for pair in pairs if pair[1] != PAD] == list(pairwise(joined))


def test_orders_are_permutations_that_differ_by_epoch_and_repeat_by_key() -> None:
    one, two = draw_order(50, 7, 0), draw_order(50, 7, 1)
    assert sorted(one) == sorted(two) == list(range(50))
    assert list(one) != list(two)
    assert list(draw_order(50, 7, 0)) == list(one)


def test_an_epoch_holds_every_document_once(tmp_path: Path) -> None:
    lines = [f"line {i:03d}" for i in range(60)]
    sequences = make_sequences(tmp_path, lines, context=500)  # each unit fits in one or two rows
    assert len(sequences.units) > MIXED_UNITS
    for epoch in range(2):
        seen = []
        for unit in range(len(sequences.units)):
            rows = sequences.unit_rows(unit, epoch)
            seen += documents_in(rows, 500)
        assert sorted(seen) == lines


def test_positions_of_an_epoch_hold_the_rows_of_all_units_once_and_mixed(tmp_path: Path) -> None:
    sequences = make_sequences(tmp_path, [f"line {i:03d}" for i in range(60)])
    for epoch in range(2):
        start = epoch * sequences.positions
        got = [sequences.rows(Cursor(start + index)).ids for index in range(sequences.positions)]
        units = [sequences.unit_rows(unit, epoch) for unit in range(len(sequences.units))]
        assert sorted(np.concatenate(got).tolist()) == sorted(np.concatenate(units).tolist())
        assert len(got) == -(-len(units) // MIXED_UNITS)
        owner = {tuple(row): unit for unit, rows in enumerate(units) for row in rows.tolist()}
        changes = sum(owner[tuple(a)] != owner[tuple(b)] for a, b in pairwise(got[0].tolist()))
        assert changes > len(got[0]) / 2


def test_continuing_at_any_cursor_gives_the_same_blocks(tmp_path: Path) -> None:
    sequences = make_sequences(tmp_path, [f"number {i}" for i in range(40)])
    whole = list(islice(sequences.blocks(Cursor(), 3), 60))
    assert whole[-1].after.position >= sequences.positions
    for start in (1, 7, 30, 59):
        rest = list(islice(sequences.blocks(whole[start - 1].after, 3), 60 - start))
        for a, b in zip(whole[start:], rest, strict=True):
            assert a.after == b.after
            assert np.array_equal(a.ids, b.ids)


def test_held_out_documents_are_never_trained_on(tmp_path: Path) -> None:
    lines = [f"document {i}" for i in range(300)]
    sequences = make_sequences(tmp_path, lines, fraction=0.2, unit_bytes=10_000)
    text = held_out(sequences.units, sequences.data, sequences.tokenizer, context=5000)
    assert text is not None
    kept_out = documents_in(text.rows, 5000)
    trained = sequences.training_documents(sequences.units[0])
    assert sorted(kept_out + trained) == sorted(lines)
    assert 30 < len(kept_out) < 90
    assert text.bytes == sum(len(line) for line in kept_out)


def test_held_out_text_stops_at_the_wanted_number_of_tokens(tmp_path: Path) -> None:
    sequences = make_sequences(tmp_path, ["abcdefgh"] * 100)
    data = replace(
        sequences.data, validation=ValidationConfig(fraction=0, shards=(str(tmp_path),), tokens=20)
    )
    text = held_out(sequences.units, data, sequences.tokenizer, context=4)
    assert text is not None
    assert (text.bytes, int((text.rows[:, 1:] != PAD).sum())) == (24, 27)  # three whole documents


def test_held_out_text_comes_from_all_over_the_corpus(tmp_path: Path) -> None:
    lines = [f"line {i:03d}" for i in range(60)]
    sequences = make_sequences(tmp_path, lines, unit_bytes=100)
    validation = ValidationConfig(fraction=0, shards=(str(tmp_path),), tokens=100)
    data = replace(sequences.data, validation=validation)
    text = held_out(sequences.units, data, sequences.tokenizer, context=500)
    assert text is not None
    numbers = sorted(int(line[5:]) for line in documents_in(text.rows, 500))
    assert len(numbers) == 12  # of 9 tokens each
    assert numbers[0] < 12 and numbers[-1] > 47


def test_a_corpus_without_training_text_is_refused(tmp_path: Path) -> None:
    sequences = make_sequences(tmp_path, ["only one"])
    require_training_text(sequences)
    held = replace(sequences.data.validation, fraction=0.999999)
    with pytest.raises(DataError, match=r"no document is left to train on .*0\.999999"):
        require_training_text(replace(sequences, data=replace(sequences.data, validation=held)))

"""The step log: what is in a line, and that a fall leaves none too many."""

import zlib
from pathlib import Path

import numpy as np
import pytest

from llm.data import Cursor
from llm.errors import ArtifactError
from llm.step_log import NAME, Span, StepLog, checksum, read_spans


def test_a_checksum_knows_tokens_and_places_and_adds_up() -> None:
    rows = np.arange(12, dtype=np.int32).reshape(4, 3)
    by_hand = sum((2 * i + 1) * zlib.crc32(row.tobytes()) for i, row in enumerate(rows))
    assert checksum(rows, 0) == by_hand % 2**40
    assert (checksum(rows[:1], 0) + checksum(rows[1:], 1)) % 2**40 == checksum(rows, 0)
    assert checksum(rows[::-1], 0) != checksum(rows, 0)


def test_steps_behind_the_checkpoint_and_half_a_line_are_forgotten(tmp_path: Path) -> None:
    log = StepLog(tmp_path / NAME)
    log.rewind(0)
    spans = [Span(Cursor(0, 8 * i), Cursor(0, 8 * i + 8), 100, i) for i in range(4)]
    for step, span in enumerate(spans, start=1):
        log.add(step, span)
    log.flush()
    with open(log.path or "", "a") as file:
        file.write("5\t0:3")
    StepLog(tmp_path / NAME).rewind(3)
    assert list(read_spans(tmp_path)) == list(enumerate(spans[:3], start=1))


def test_what_is_not_flushed_is_not_there_and_no_path_writes_nothing(tmp_path: Path) -> None:
    log = StepLog(tmp_path / NAME)
    log.rewind(0)
    log.add(1, Span(Cursor(), Cursor(0, 8), 1, 1))
    assert not list(read_spans(tmp_path))
    silent = StepLog(None)
    silent.rewind(0)
    silent.add(1, Span(Cursor(), Cursor(0, 8), 1, 1))
    silent.flush()
    assert silent.waiting == []


def test_a_process_that_outlives_its_attempt_adds_nothing_to_the_next_ones_log(
    tmp_path: Path,
) -> None:
    spans = [Span(Cursor(0, 8 * i), Cursor(0, 8 * i + 8), 100, i) for i in range(4)]
    before, now = StepLog(tmp_path / NAME), StepLog(tmp_path / NAME)
    before.rewind(0)
    before.add(1, spans[0])
    before.flush()
    now.rewind(1)
    for log in (before, now):
        log.add(2, spans[1])
        log.flush()
    assert list(read_spans(tmp_path)) == [(1, spans[0]), (2, spans[1])]


def test_steps_that_are_gone_back_behind_are_not_written_later(tmp_path: Path) -> None:
    log = StepLog(tmp_path / NAME)
    log.rewind(0)
    log.add(1, Span(Cursor(), Cursor(0, 8), 1, 1))
    log.rewind(0)
    log.flush()
    assert not list(read_spans(tmp_path))


def test_a_log_that_is_none_is_refused_by_line(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is not there"):
        list(read_spans(tmp_path))
    (tmp_path / NAME).write_text("1\t0:0\t0:8\t9\t00000000ff\nrubbish\n")
    with pytest.raises(ArtifactError, match="line 2: is not a line of step"):
        list(read_spans(tmp_path))

"""Attempts and falls of a training, noted where they happen; and what they cost."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llm import events, pulse
from llm.events import read
from llm.falls import Account, Fall, account, account_of, falls_in, falls_line
from llm.metrics import Event, RunLog
from llm.pulse import Falls, last_pulse

ROOT = Path(__file__).parents[2]


class Clock:
    """A second a tick; stands in for the module `time`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        for module in (events, pulse):
            monkeypatch.setattr(module, "time", self)

    def time(self) -> float:
        return self.now

    def tick(self, seconds: float = 1.0) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def attempt(
    folder: Path, clock: Clock, first: int, last: int, emit: list[Event] | None = None
) -> Falls:
    """Train from after step `first` up to `last`, a second a step."""
    log = RunLog(folder / "metrics.jsonl", (emit if emit is not None else []).append)
    falls = Falls(folder, log)
    falls.started(first, workers=2)
    for step in range(first + 1, last + 1):
        clock.tick()
        falls.stepped(step)
    return falls


def named(folder: Path) -> list[str]:
    return [event["event"] for event in read(folder)]


def test_an_undisturbed_training_begins_and_ends(tmp_path: Path, clock: Clock) -> None:
    attempt(tmp_path, clock, 0, 30).ended(30)
    assert named(tmp_path) == ["begin", "end"]
    assert last_pulse(tmp_path) == (30, 1030.0)
    assert account_of(tmp_path) == Account((), 0.0, 30.0)


def test_other_processes_keep_no_account(tmp_path: Path) -> None:
    falls = Falls(None, RunLog(None, print))
    falls.started(0, 2)
    falls.stepped(1)
    falls.ended(1)
    assert list(tmp_path.iterdir()) == []


def test_after_a_fall_it_is_said_when_it_stands_where_it_fell(tmp_path: Path, clock: Clock) -> None:
    attempt(tmp_path, clock, 0, 37)  # the last step is at 1037
    events.note(tmp_path, "fall", cause="worker killed by signal 9", rank=1, step=37)
    clock.tick(12)
    shown: list[Event] = []
    attempt(tmp_path, clock, 30, 40, shown).ended(40)  # 37 again at 1049 + 7
    again = {"step": 37, "step_from": 30, "reached": 37, "redone": 7, "lost": 19.0}
    assert shown == [{"event": "again", **again}]
    [fall] = account_of(tmp_path).falls
    cause = "worker killed by signal 9 (rank 1)"
    assert fall == Fall(1037.0, 37, cause, resumed=30, redone=7, lost=19.0)


def test_falls_on_the_way_back_are_not_counted_twice(tmp_path: Path, clock: Clock) -> None:
    attempt(tmp_path, clock, 0, 37)  # 1037
    clock.tick(10)
    attempt(tmp_path, clock, 30, 33)  # 1050: fell on the way back
    clock.tick(10)
    attempt(tmp_path, clock, 30, 60).ended(60)  # 37 again at 1067, the end at 1090
    found = account_of(tmp_path)
    assert [fall.step for fall in found.falls] == [37, 33]
    assert [fall.redone for fall in found.falls] == [3, 7]
    assert [fall.lost for fall in found.falls] == [13.0, 17.0]
    assert (found.redone, found.lost, found.wall) == (10, 30.0, 90.0)
    assert found.goodput == pytest.approx(1 - 30 / 90)


def test_a_fall_before_the_first_step_counts_from_the_beginning(
    tmp_path: Path, clock: Clock
) -> None:
    attempt(tmp_path, clock, 0, 0)
    clock.tick(5)
    attempt(tmp_path, clock, 0, 3).ended(3)
    [fall] = account_of(tmp_path).falls
    assert (fall.step, fall.resumed, fall.redone, fall.lost) == (0, 0, 0, 6.0)


def test_a_fall_right_after_a_save_redoes_nothing(tmp_path: Path, clock: Clock) -> None:
    attempt(tmp_path, clock, 0, 20)
    clock.tick(5)
    attempt(tmp_path, clock, 20, 25).ended(25)
    [fall] = account_of(tmp_path).falls
    assert (fall.step, fall.redone, fall.lost) == (20, 0, 6.0)


def test_a_fall_after_the_last_step_ends_with_the_training(tmp_path: Path, clock: Clock) -> None:
    attempt(tmp_path, clock, 0, 20)
    clock.tick(5)
    attempt(tmp_path, clock, 20, 20).ended(20)
    [fall] = account_of(tmp_path).falls
    assert (fall.redone, fall.lost) == (0, 5.0)


def test_what_somebody_stopped_did_not_fall_and_the_pause_is_not_lost(
    tmp_path: Path, clock: Clock
) -> None:
    attempt(tmp_path, clock, 0, 20).stopped(20)
    clock.tick(3600)
    attempt(tmp_path, clock, 20, 50).ended(50)
    assert named(tmp_path) == ["begin", "stopped", "begin", "end"]
    assert account_of(tmp_path) == Account((), 0.0, 50.0)


def test_a_fall_after_a_stop_does_not_reach_back_behind_it(tmp_path: Path, clock: Clock) -> None:
    attempt(tmp_path, clock, 0, 20).stopped(20)
    clock.tick(3600)
    attempt(tmp_path, clock, 20, 20)  # falls at 4620
    clock.tick(4)
    attempt(tmp_path, clock, 20, 21).ended(21)
    [fall] = account_of(tmp_path).falls
    assert (fall.at, fall.step, fall.lost) == (4620.0, 20, 5.0)


def test_a_roll_back_in_the_same_process_is_an_attempt_of_its_own(
    tmp_path: Path, clock: Clock
) -> None:
    falls = attempt(tmp_path, clock, 0, 15)
    events.note(tmp_path, "rolled_back", step=16, why="the loss is nan")
    falls.started(10, 2)
    for step in range(11, 21):
        clock.tick()
        falls.stepped(step)
    falls.ended(20)
    [fall] = account_of(tmp_path).falls
    assert (fall.kind, fall.cause) == ("rolled_back", "rolled back: the loss is nan")
    assert (fall.redone, fall.lost) == (5, 5.0)


def test_a_killed_process_leaves_its_pulse(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from llm.metrics import RunLog; from llm.pulse import Falls\n"
        "falls = Falls(Path(sys.argv[1]), RunLog(None, print)); falls.started(0, 1)\n"
        "for step in range(1, 18): falls.stepped(step)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT)
    assert done.returncode == -9
    found = last_pulse(tmp_path)
    assert found and found[0] == 17
    Falls(tmp_path, RunLog(None, print)).started(10, 1)
    begin = read(tmp_path)[-1]
    assert (begin["fell_after"], begin["fell_at"], begin["reached"]) == (17, found[1], 17)
    assert begin["pid"] == os.getpid()


def test_of_several_causes_the_first_is_told() -> None:
    found = falls_in(
        [
            {"at": 1.0, "event": "begin", "step": 0, "reached": 0},
            {"at": 9.0, "event": "fall", "cause": "node died"},
            {"at": 9.5, "event": "fall", "cause": "connection closed by peer", "rank": 0},
            {
                "at": 20.0,
                "event": "begin",
                "step": 5,
                "reached": 7,
                "fell_after": 7,
                "fell_at": 8.0,
            },
        ]
    )
    assert found == [Fall(8.0, 7, "node died", resumed=5)]  # it does not stand there yet


def test_resizing_costs_steps_but_is_no_fall() -> None:
    found = account(
        [
            {"at": 0.0, "event": "begin", "step": 0, "reached": 0},
            {"at": 9.0, "event": "resized", "workers_from": 1, "workers_to": 2},
            {
                "at": 15.0,
                "event": "begin",
                "step": 5,
                "reached": 8,
                "fell_after": 8,
                "fell_at": 9.0,
            },
            {"at": 18.0, "event": "again", "step": 8},
            {"at": 90.0, "event": "end", "step": 80},
        ],
        [{"event": "checkpoint", "step": 5, "stall": 0.5}, {"event": "checkpoint", "step": 80}],
    )
    assert found.metrics() == {
        "falls": 0,
        "redone": 3,
        "lost_seconds": 9.0,
        "goodput": pytest.approx(1 - 9.5 / 90, abs=1e-4),
    }


def test_a_stage_without_steps_falls_too() -> None:
    found = account([{"at": 5.0, "event": "fall", "cause": "driver ended"}], [])
    assert found.metrics() == {"falls": 1, "redone": 0, "lost_seconds": 0.0}
    assert falls_line(found.metrics()) == "fell 1 time"


def test_falls_are_told_in_a_line_if_there_were_any() -> None:
    metrics = {"falls": 2, "redone": 31, "lost_seconds": 24.2, "goodput": 0.9712}
    assert falls_line(metrics) == "fell 2 times, 31 steps redone, 24s lost, goodput 97.1%"
    assert falls_line({"falls": 0, "redone": 0, "lost_seconds": 0.0, "goodput": 0.99}) == ""
    assert falls_line({"loss": 1.0}) == ""

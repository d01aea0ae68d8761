"""The run's log, and numbers for people."""

from pathlib import Path

import pytest

from llm.metrics import (
    Event,
    RunLog,
    duration,
    quantity,
    read_log,
    size_of,
    step_line,
    validation_line,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.25, "0.25"),
        (950, "950"),
        (999.96, "1k"),
        (12_345, "12.3k"),
        (999_900, "1M"),
        (1.25e9, "1.25B"),
    ],
)
def test_quantities_have_three_digits(value: float, text: str) -> None:
    assert quantity(value) == text


@pytest.mark.parametrize(
    ("bytes", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (-1500, "-1.5 kB"), (999_600, "1 MB"),
     (12_345_678, "12.3 MB"), (1_300_000_000, "1.3 GB"), (5 * 10**15, "5 PB")],
)  # fmt: skip
def test_sizes_are_said_in_three_figures(bytes: int, words: str) -> None:
    assert size_of(bytes) == words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0s"), (59.6, "1m 00s"), (185, "3m 05s"), (7800, "2h 10m"), (273_600, "3d 04h")],
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_events_reach_file_and_watcher(tmp_path: Path) -> None:
    seen: list[Event] = []
    log = RunLog(tmp_path / "metrics.jsonl", seen.append)
    log("start", 0, workers=2)
    log("step", 1, loss=2.5)
    assert read_log(tmp_path / "metrics.jsonl") == seen
    assert seen[1] == {"event": "step", "step": 1, "loss": 2.5}


def test_going_on_drops_what_came_after_and_a_line_cut_off(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "metrics.jsonl", lambda _: None)
    for step in range(5):
        log("step", step)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"event": "st')
    log.rewind(2)
    assert [event["step"] for event in read_log(tmp_path / "metrics.jsonl")] == [0, 1, 2]


def test_what_is_measured_again_does_not_stand_there_twice(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "metrics.jsonl", lambda _: None)
    for step in (1, 2):
        log("validation", step)
        log("checkpoint", step)
    log.rewind(2, ("validation", "sample"))
    log("validation", 2)
    left = [(event["event"], event["step"]) for event in read_log(tmp_path / "metrics.jsonl")]
    assert sorted(left) == [
        ("checkpoint", 1),
        ("checkpoint", 2),
        ("validation", 1),
        ("validation", 2),
    ]


def test_other_processes_log_nothing(tmp_path: Path) -> None:
    log = RunLog(None, lambda _: pytest.fail("an event of another process"))
    log("step", 1)
    log.rewind(0)
    assert list(tmp_path.iterdir()) == []


def test_a_step_is_one_line() -> None:
    event = {
        "step": 120,
        "steps": 2000,
        "loss": 3.4121,
        "lr": 2.9e-4,
        "tokens_per_second": 184_000,
        "mfu": 0.41,
        "data_wait": 0.01,
        "eta": 720,
    }
    assert step_line(event) == (
        "step 120/2000 | loss 3.412 | lr 2.9e-04 | 184k tok/s"
        " | mfu 41% | data wait 1% | eta 12m 00s"
    )


def test_a_ppo_without_held_out_prompts_tells_what_it_knows() -> None:
    told = validation_line({"event": "validation", "step": 0, "preference": 0.5})
    assert told == "sides with people in 50.0% of held-out pairs"

"""What a person sees of a training, on a terminal and elsewhere."""

import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from jobs.progress import Log, Watch, live_line, shortened, telling

START = {
    "event": "start",
    "step": 0,
    "parameters": 4_262_144,
    "workers": 2,
    "device": "cpu",
    "precision": "bf16",
    "held_out_bytes": 100,
}
STEP = {
    "event": "step",
    "step": 5,
    "steps": 10,
    "loss": 3.25,
    "lr": 1e-3,
    "tokens_per_second": 5770,
    "mfu": 0.45,
    "data_wait": 0.001,
    "eta": 61,
}


def shown(*events: dict, terminal: bool = False) -> str:
    out = io.StringIO()
    with Watch(Console(file=out, width=80, force_terminal=terminal, color_system=None)) as watch:
        for event in events:
            watch(event)
    return out.getvalue()


def test_elsewhere_events_are_plain_lines() -> None:
    text = shown(START, STEP, {"event": "validation", "step": 5, "loss": 3.2, "bpb": 1.5})
    assert text.splitlines() == [
        "4.26M parameters on 2 workers (cpu, bf16)",
        "step 5/10 | loss 3.250 | lr 1.0e-03 | 5.77k tok/s | mfu 45% | data wait 0% | eta 1m 01s",
        "step 5: validation 1.500 bits per byte (loss 3.200)",
    ]


def test_training_without_held_out_text_is_said() -> None:
    assert "no document is held out" in shown({**START, "held_out_bytes": 0})


def test_going_on_is_said() -> None:
    assert "continuing after step 40" in shown({**START, "step": 40})


def test_a_terminal_gets_one_live_line() -> None:
    text = shown(START, STEP, {**STEP, "step": 10}, terminal=True)
    assert "step 10/10 loss 3.250 5.77k tok/s" in text
    assert "| mfu" not in text


def test_elsewhere_steps_are_told_every_ten_seconds_and_the_last_always() -> None:
    out, now = io.StringIO(), 0.0
    watch = Watch(Console(file=out, width=80), lambda: now)
    for step in range(1, 31):
        now = float(step)
        watch({**STEP, "step": step, "steps": 30})
    told = [line.partition("/")[0] for line in out.getvalue().splitlines()]
    assert told == ["step 1", "step 11", "step 21", "step 30"]


PPO = {"event": "step", "step": 9, "steps": 14, "reward": 0.5, "kl": 1.25, "eta": 61}


@pytest.mark.parametrize(
    ("event", "room", "line"),
    [
        (STEP, 55, "step 5/10 loss 3.250 5.77k tok/s eta 1m 01s"),
        (STEP, 40, "step 5/10 loss 3.250 eta 1m 01s"),
        (STEP, 22, "step 5/10 eta 1m 01s"),
        (STEP, 5, "step 5/10"),
        (PPO | {"tokens_per_second": 80}, 54, "step 9/14 reward 0.500 kl 1.25 80 tok/s eta 1m 01s"),
        (PPO | {"tokens_per_second": 80}, 40, "step 9/14 reward 0.500 eta 1m 01s"),
    ],
)
def test_the_live_line_leaves_out_what_has_no_room(event: dict, room: int, line: str) -> None:
    assert live_line(event, room) == line


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_live_line_is_wider_than_the_terminal(width: int) -> None:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None)
    with Watch(console) as watch:
        watch({**STEP, "step": 12_000, "steps": 120_000})
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue()).replace("\r", "\n")
    assert "eta 1m 01s" in drawn
    assert all(cell_len(line) <= width for line in drawn.split("\n"))


def test_a_dumb_terminal_gets_plain_lines() -> None:
    out = io.StringIO()
    console = Console(
        file=out, width=80, force_terminal=True, color_system=None, _environ={"TERM": "dumb"}
    )
    with Watch(console) as watch:
        watch(STEP)
    assert out.getvalue().startswith("step 5/10 | loss 3.250") and "\x1b" not in out.getvalue()


@pytest.mark.parametrize(
    ("saves", "said"),
    [
        (True, "stopping: finishing the step and saving; once more ends at once"),
        (False, "stopping: no step was taken yet; once more ends at once"),
    ],
)
def test_a_wish_to_stop_is_answered(saves: bool, said: str) -> None:
    assert shown({"event": "stopping", "step": 5, "saves": saves}) == said + "\n"


def test_a_sample_is_one_line_however_it_is_written() -> None:
    sample = {"event": "sample", "step": 5, "prompt": "a [b]", "text": " c\n\n d " + "long " * 99}
    [line] = shown(sample).splitlines()
    assert line.startswith("  a [b] c d long") and line.endswith("...") and len(line) < 80


@pytest.mark.parametrize("text", ["Humpty Dumpty sat on a wall", "坐在墙上的蛋头先生"])
def test_a_shortened_text_fits_its_cells(text: str) -> None:
    assert shortened(text, 40) == text
    assert cell_len(shortened(text, 12)) <= 12


def test_falls_and_what_is_done_about_them_are_told() -> None:
    lines = shown(
        {"event": "fall", "step": 37, "cause": "rank 1, step 37: the worker was killed"},
        {"event": "resized", "step": 37, "workers_from": 2, "workers_to": 1},
        {"event": "waiting", "step": 37, "room": 0, "workers": 1, "each": {"CPU": 1}},
        {"event": "crowded", "step": 37, "workers": 2},
        {"event": "placed", "step": 37, "hosts": {"anna": 2, "berta": 1}},
        {"event": "awaited", "step": 37, "hosts": ["b"], "ranks": [2], "doing": "forward"},
        {"event": "damaged", "step": 36, "path": "/a/checkpoints/step-000036", "why": "cut off"},
        {"event": "again", "step": 37, "step_from": 30, "reached": 37, "redone": 7, "lost": 19.2},
        {"event": "fault", "step": 40, "action": "skip", "loss": None, "why": "the loss is nan"},
        {"event": "saved_early", "step": 44, "why": "machines come or go"},
        {"event": "mirror_failed", "step": 50, "why": "no route to host"},
    ).splitlines()
    assert lines == [
        "fell: rank 1, step 37: the worker was killed; starting again",
        "from 2 to 1 workers",
        "waiting for room for 1 worker on the cluster; there is for 0",
        "others use the places of 2 workers (see `ray status`); trying again",
        "workers: 2 on anna, 1 on berta",
        "step 37: waiting for b (rank 2, forward)",
        "checkpoint step-000036 is set aside: cut off",
        "step 37: up again, 7 steps redone, 19s lost",
        "step 40: the loss is nan; its update is left out",
        "step 44: saved early (machines come or go)",
        "step 50: no copy in the mirror: no route to host",
    ]


def test_the_live_line_says_that_workers_start_again() -> None:
    fall = {"event": "fall", "step": 5, "cause": "its node died"}
    text = shown(START, STEP, fall, terminal=True)
    assert text.rstrip().rsplit("step 5/10", 1)[-1].count("starting the workers again")


@pytest.mark.parametrize("terminal", [False, True])
def test_how_far_a_stage_is_stands_in_a_line_as_it_is(terminal: bool) -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=terminal, color_system=None)
    with telling(console, "listing the files") as say:
        say("read 3/40 portions of a[b]")
    text = out.getvalue()
    assert "read 3/40 portions of a[b]" in text
    assert terminal or text == "read 3/40 portions of a[b]\n"


def test_how_far_a_stage_is_keeps_to_one_line_of_a_narrow_terminal() -> None:
    out = io.StringIO()
    console = Console(file=out, width=30, force_terminal=True, color_system=None)
    with telling(console, "reading") as say:
        say("读到第三份，共四十份；蛋头先生坐在墙上，蛋头先生跌了一大跤")
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue()).replace("\r", "\n")
    [line] = {one.lstrip("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ").rstrip() for one in drawn.split("\n") if "读到" in one}
    assert line.endswith("...") and cell_len(line) <= 27


def test_an_event_nobody_shows_is_no_error() -> None:
    assert shown({"event": "checkpoint", "step": 1, "path": "x"}) == ""


def test_a_log_tells_of_the_same_every_ten_seconds_but_of_its_beginning_and_end() -> None:
    now, lines = 0.0, list[str]()
    log = Log(lines.append, lambda: now)
    for second in range(26):
        now = float(second)
        log(f"read {second}/25 portions, {4 * second}%, {second / 2:.1f} MB/s")
    log("looking for near duplicates")
    log("found near duplicates: 1,234")
    log.flush()
    assert [line.split()[1] for line in lines] == ["0/25", "10/25", "20/25", "25/25", "for", "near"]

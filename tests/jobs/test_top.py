"""`top` tells how a run gets on from its folder alone, whatever state that is in."""

import json
import os
import time
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from jobs.cli import app
from jobs.run_log import RunLog
from jobs.run_views import Sizes, artifacts, tail, views
from jobs.top import picture, told
from llm.events import note
from llm.lease import Lease, create, give_back
from llm.pulse import LAYOUT

IDENTITY = {"kind": "x", "fingerprint": "f", "spec": {}, "parents": {}, "data": {}, "seed": 0}


def artifact(run: Path, stage: str, *, held: bool = False, age: float = 0.0) -> Path:
    folder = run / stage / "0123456789ab"
    folder.mkdir(parents=True)
    create(folder, 1, Lease.mine())
    when = time.time() - age
    os.utime(folder / ".lease" / "1", (when, when))
    if not held:
        give_back(folder, 1)
    return folder


def finished(folder: Path, **metrics: object) -> None:
    manifest = {**IDENTITY, "metrics": metrics, "seconds": 95.0}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def trained(folder: Path, step: int, reached: int, ago: float = 1.0) -> None:
    """A training that logged `step`, and came to `reached` so many seconds ago."""
    note(folder, "begin", step=0, workers=2, reached=0)
    log = [
        {"event": "start", "step": 0, "steps": 200, "workers": 2},
        {"event": "validation", "step": 100, "bpb": 1.25},
        {
            "event": "step",
            "step": step,
            "steps": 200,
            "loss": 3.125,
            "tokens_per_second": 12_345.0,
            "eta": 61.0,
        },
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in log))
    (folder / "pulse").write_bytes(LAYOUT.pack(reached, time.time() - ago))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """One stage of each state: finished, running, and what a person calls things."""
    run = tmp_path / "运行" / "verse"
    tokenizer = artifact(run, "tokenizer", age=30)
    finished(tokenizer, vocab_size=4096)
    trained(artifact(run, "pretrain", held=True, age=20), step=120, reached=123)
    return run


def shown(run: Path, width: int = 120) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(picture(run, Sizes(), width))
    return capture.get()


def test_stages_come_in_the_order_in_which_they_began(run: Path) -> None:
    assert [(one.name, one.state) for one in views(run)] == [
        ("tokenizer", "finished"),
        ("pretrain", "running"),
    ]


def test_a_running_training_tells_step_figures_speed_and_time(run: Path) -> None:
    [line] = [one for one in shown(run).splitlines() if "pretrain" in one]
    expected = ["pretrain", "running", "123/200", "loss", "3.125", "bpb", "1.250"]
    assert line.split()[:10] == [*expected, "12.3k", "1m", "01s"]
    assert " 2 " in line  # workers


def test_a_finished_stage_tells_what_it_took(run: Path) -> None:
    [line] = [one for one in shown(run).splitlines() if "tokenizer" in one]
    assert "4,096 tokens" in line and "took 1m 35s" in line


def test_a_training_whose_run_is_gone_is_broken_off(run: Path) -> None:
    give_back(run / "pretrain" / "0123456789ab", 1)
    assert views(run)[1].state == "broken off"
    assert "1s ago" in shown(run) or "2s ago" in shown(run)


def test_a_training_that_does_not_get_on_is_quiet(run: Path) -> None:
    trained(artifact(run, "sft", held=True), step=5, reached=5, ago=600)
    assert views(run)[-1].state == "quiet"
    assert "10m 00s ago" in shown(run)


def test_falls_are_counted_and_told(run: Path) -> None:
    folder = run / "pretrain" / "0123456789ab"
    note(folder, "fall", cause="worker 1 was killed", rank=1, step=110)
    note(folder, "begin", step=100, workers=1, reached=110, fell_after=110, fell_at=time.time())
    log = RunLog(run, "verse", "pretrain", folder.name)
    log({"event": "step", "step": 109})
    log({"event": "fall", "step": 110, "cause": "worker 1 was killed\x1b[31m"})
    text = shown(run)
    assert "pretrain step 110: fall, worker 1 was killed" in text
    assert "\x1b" not in text
    [view] = [one for one in views(run) if one.name == "pretrain"]
    assert (view.falls, view.workers) == (1, 1)


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_no_line_is_longer_than_the_terminal_is_wide(run: Path, width: int) -> None:
    from rich.cells import cell_len

    lines = shown(run, width).splitlines()
    assert all(cell_len(line) <= width for line in lines)
    assert any("pretr" in line for line in lines)


def test_it_prints_once_and_plainly_where_there_is_no_terminal(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # room for a long temporary folder
    result = CliRunner().invoke(app, ["top", str(run)])
    assert result.exit_code == 0
    assert "运行" in result.output and "pretrain" in result.output
    assert "\x1b" not in result.output


@pytest.mark.parametrize(
    ("target", "code", "complaint"),
    [
        ("nowhere", 2, "nowhere: is not there; give a spec, or the folder of a run"),
        (".", 1, ".: holds no stage of a run; give a spec that has run, or a folder such as"),
    ],
)
def test_what_is_no_run_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, code: int, complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["top", target])
    assert result.exit_code == code
    assert complaint in result.output


def test_only_the_end_of_a_long_log_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.run_views.TAIL", 100)
    path = tmp_path / "log"
    lines = [json.dumps({"event": "step", "step": number}) for number in range(50)]
    path.write_text("\n".join(lines) + '\n{"event": "torn')
    found = [event["step"] for event in tail(path)]
    assert found == [*range(50)][-len(found) :] and 0 < len(found) < 5
    assert tail(tmp_path / "none") == []


def test_files_that_are_no_artifacts_are_passed_over(run: Path) -> None:
    (run / "feedback" / "2026").mkdir(parents=True)
    (run / "spec.yaml").touch()
    assert {path.parent.name for path in artifacts(run)} == {"tokenizer", "pretrain"}


def test_an_event_is_told_with_its_time_and_cause() -> None:
    at = time.mktime((2026, 11, 22, 14, 2, 11, 0, 0, -1))
    event = {"at": at, "stage": "sft", "step": 7, "event": "fault", "why": "loss is\nnan"}
    assert told(event) == "14:02:11 sft step 7: fault, loss is nan"

"""One run at a time works on a stage, and what befell the one before is on record."""

import io
import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from rich.console import Console

from jobs import stage_run as runs
from jobs.facts import gather
from jobs.load import load
from jobs.plan import resolve
from jobs.planned import StagePlan
from jobs.spec import Spec
from jobs.stage_run import held, perform
from jobs.work import Work
from llm import lease
from llm.errors import Stopped, UserError
from llm.events import note, read

ROOT = Path(__file__).parents[2]

KILLED = """
import os, signal, sys
from pathlib import Path
from llm.lease import holding
with holding(Path(sys.argv[1])):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


@pytest.fixture
def stage(tmp_path: Path) -> tuple[Spec, StagePlan]:
    """A stage that needs neither Ray nor torch."""
    (tmp_path / "foreign.model").write_bytes(b"a tokenizer")
    (tmp_path / "spec.yaml").write_text(
        "name: one\nstages:\n  tokenizer: {kind: tokenizer, file: foreign.model}\n"
    )
    spec = load(str(tmp_path / "spec.yaml"), [f"storage={tmp_path / 'runs'}"])
    [stage] = resolve(spec, gather(spec)).stages
    assert stage.folder is not None
    stage.folder.mkdir(parents=True)
    return spec, stage


def do(spec: Spec, console: Console | None = None) -> None:
    plan = resolve(spec, gather(spec))
    with ExitStack() as stack:
        perform(plan, plan.stages[0], console or quiet(), stack)


def work_with(monkeypatch: pytest.MonkeyPatch, work: object) -> None:
    monkeypatch.setattr(runs, "PERFORM", {"tokenizer": work})


def test_a_stage_that_another_run_works_on_is_refused(
    stage: tuple[Spec, StagePlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, plan = stage
    assert plan.folder

    def never(_: Work) -> dict:
        raise AssertionError("two at work")

    work_with(monkeypatch, never)
    with lease.holding(plan.folder), pytest.raises(UserError, match="another run works on this"):
        do(spec)
    assert not (plan.folder / "manifest.json").exists()


def test_a_stage_that_another_run_has_made_meanwhile_is_left_as_it_is(
    stage: tuple[Spec, StagePlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, plan = stage
    assert plan.folder
    work_with(monkeypatch, lambda work: {"vocab_size": 7})
    later = resolve(spec, gather(spec))
    do(spec)
    made = (plan.folder / "manifest.json").read_bytes()
    console = quiet()
    with ExitStack() as stack:
        perform(later, later.stages[0], console, stack)
    assert (plan.folder / "manifest.json").read_bytes() == made
    assert "another run has just made it" in console.file.getvalue()  # type: ignore[attr-defined]


def test_work_is_given_a_fence_that_falls_with_the_lease(
    stage: tuple[Spec, StagePlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, plan = stage
    seen: list[bool] = []

    def lost(work: Work) -> dict:
        seen.append(work.fence())
        lease.create(work.folder, lease.newest_in(work.folder) + 1, lease.Lease.mine())
        seen.append(work.fence())
        return {}

    work_with(monkeypatch, lost)
    with pytest.raises(UserError, match="another run has taken over"):
        do(spec)
    assert seen == [True, False]
    assert plan.folder and not (plan.folder / "manifest.json").exists()


def test_a_run_killed_before_is_on_record_and_in_the_manifest(
    stage: tuple[Spec, StagePlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, plan = stage
    assert plan.folder
    subprocess.run([sys.executable, "-c", KILLED, str(plan.folder)], cwd=ROOT)
    work_with(monkeypatch, lambda work: {"vocab_size": 7})
    do(spec)
    [fall] = read(plan.folder)
    assert fall["event"] == "fall" and "the run ended without a word" in fall["cause"]
    metrics = json.loads((plan.folder / "manifest.json").read_text())["metrics"]
    assert metrics == {"vocab_size": 7, "falls": 1, "redone": 0, "lost_seconds": 0.0}


def test_a_stage_that_never_fell_says_nothing_of_falls(
    stage: tuple[Spec, StagePlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, plan = stage
    work_with(monkeypatch, lambda work: {"vocab_size": 7})
    do(spec)
    assert plan.folder
    assert json.loads((plan.folder / "manifest.json").read_text())["metrics"] == {"vocab_size": 7}


@pytest.mark.parametrize("end", [KeyboardInterrupt(), Stopped("stopped before a step was done")])
@pytest.mark.parametrize("noted", [False, True])
def test_who_is_asked_to_stop_has_not_fallen(
    tmp_path: Path, end: BaseException, noted: bool
) -> None:
    note(tmp_path, "begin", step=0, reached=0)
    with pytest.raises(type(end)), held(tmp_path, quiet()):
        if noted:  # by the training itself
            note(tmp_path, "stopped", step=3)
        raise end
    assert [event["event"] for event in read(tmp_path)] == ["begin", "stopped"]
    with held(tmp_path, quiet()):
        pass
    assert [event["event"] for event in read(tmp_path)] == ["begin", "stopped"]

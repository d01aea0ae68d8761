"""Steps that would spoil the weights: what counts as one, and that leaving them out is exact."""

import json
import math
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llm import events
from llm.checkpoint import Position
from llm.config import FaultsConfig, KeepConfig
from llm.errors import ArtifactError, TrainingError
from llm.faults import LEAST, NAME, WINDOW, Guard, Recent, RolledBack, judge
from llm.fell import Fell, telling_where
from llm.metrics import Event, RunLog, read_log
from llm.outside import Outside
from llm.pretrain import pretraining
from llm.task import PretrainTask, read_task
from llm.world import CPU, World
from tests.falls import (
    TWICE,
    Fall,
    digest,
    killed,
    poisoned,
    position_of,
    run_poisoned,
    undisturbed,
)
from tests.tasks import losses, write_task

ROOT = Path(__file__).parents[2]
ALONE = World(0, 1, CPU)
ALL = FaultsConfig(not_finite="skip", spike="skip")


# -- what counts -----------------------------------------------------------------------------------


def recent(*values: float) -> Recent:
    state = Recent()
    for value in values:
        state = state.after(value)
    return state


def test_mean_and_deviation_are_those_of_all_losses_while_they_are_few() -> None:
    values = np.random.default_rng(0).normal(3.0, 0.2, WINDOW).tolist()
    state = recent(*values)
    assert state.mean == pytest.approx(np.mean(values))
    assert state.deviation == pytest.approx(np.std(values))


def test_old_losses_fade() -> None:
    state = recent(*[9.0] * WINDOW, *[3.0] * (10 * WINDOW))
    assert state.mean == pytest.approx(3.0, abs=1e-3)
    assert state.deviation < 0.1


def test_what_is_recent_comes_back_from_a_checkpoint_to_the_last_bit() -> None:
    state = recent(*np.random.default_rng(0).normal(3.0, 0.2, 300).tolist())
    extra = json.loads(json.dumps({"other": 1.0, **state.to_floats()}))
    assert Recent.from_floats(extra) == state
    assert Recent.from_floats({"other": 1.0}) == Recent()


def test_a_leap_is_told_by_deviations_above_the_mean_and_not_below() -> None:
    state = recent(*[2.9, 3.1] * (LEAST // 2))  # mean 3, deviation 0.1
    assert judge(3.59, 1.0, state, ALL) is None
    assert judge(2.0, 1.0, state, ALL) is None
    fault = judge(3.61, 1.0, state, ALL)
    assert fault and fault.why == "the loss leapt to 3.61, 6.1 deviations above the recent 3"
    assert judge(3.61, 1.0, state, replace(ALL, threshold=7.0)) is None
    assert judge(3.61, 1.0, state, replace(ALL, spike="ignore")) is None


def test_nothing_leaps_before_there_is_something_to_leap_from() -> None:
    state = recent(*[2.9, 3.1] * (LEAST // 2 - 1))
    assert judge(99.0, 1.0, state, ALL) is None


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (3.0, math.nan)])
def test_what_is_not_finite_is_a_fault_from_the_first_step_on(loss: float, norm: float) -> None:
    fault = judge(loss, norm, Recent(), FaultsConfig())
    assert fault and fault.action == "stop" and "is " in fault.why


# -- what is done ----------------------------------------------------------------------------------


def guard(folder: Path, config: FaultsConfig, **changes: Any) -> tuple[Guard, list[Event]]:
    said: list[Event] = []
    log = RunLog(folder / "metrics.jsonl", said.append)
    return Guard(config, folder, ALONE, Outside(**changes), log), said


def test_a_stop_says_step_reason_and_remedy_and_records_nothing(tmp_path: Path) -> None:
    own, _ = guard(tmp_path, FaultsConfig())
    with pytest.raises(TrainingError, match=r"step 1: the loss is nan; .*not changed.*optim\.lr"):
        own.allows(Position(), math.nan, 1.0)
    assert not (tmp_path / NAME).exists()


def test_losses_that_leap_make_no_mean_and_those_that_do_not_are_remembered(
    tmp_path: Path,
) -> None:
    own, said = guard(tmp_path, replace(ALL, most=99))
    position = Position(step=LEAST, extra=recent(*[2.9, 3.1] * (LEAST // 2)).to_floats())
    before = dict(position.extra)
    assert not own.allows(position, 9.0, 1.0)
    assert position.extra == before
    position.step += 1
    assert own.allows(position, 3.0, 1.0)
    assert position.extra == Recent.from_floats(before).after(3.0).to_floats()
    assert [(event["event"], event["step"], event["action"]) for event in said] == [
        ("fault", LEAST + 1, "skip")
    ]


def test_nothing_is_kept_in_the_checkpoint_of_who_ignores_leaps(tmp_path: Path) -> None:
    own, _ = guard(tmp_path, FaultsConfig())
    position = Position()
    assert own.allows(position, 3.0, 1.0)
    assert position.extra == {}


def test_a_later_attempt_goes_by_what_is_recorded_whatever_its_loss(tmp_path: Path) -> None:
    own, _ = guard(tmp_path, ALL)
    assert not own.allows(Position(step=4), math.nan, 1.0)
    later, said = guard(tmp_path, ALL)
    assert not later.allows(Position(step=4), 3.0, 1.0)
    assert later.allows(Position(step=5), 3.0, 1.0)
    assert [(event["loss"], event["why"]) for event in said] == [(3.0, "the loss is nan")]
    assert [one["event"] for one in events.read(tmp_path)] == ["skipped"]  # decided once


def test_going_back_leaves_out_the_last_update_too_and_then_the_one_before(
    tmp_path: Path,
) -> None:
    own, _ = guard(tmp_path, FaultsConfig(not_finite="roll_back"))
    own.saved = 5
    for step, left_out in ((9, {8, 9}), (10, {7, 8, 9, 10}), (11, {6, 7, 8, 9, 10, 11})):
        with pytest.raises(RolledBack, match=f"step {step}: the loss is nan; back to the last"):
            own.allows(Position(step=step - 1), math.nan, 1.0)
        assert set(own.left_out.whys) == left_out
    with pytest.raises(RolledBack):  # the checkpoint holds the updates before
        own.allows(Position(step=11), math.nan, 1.0)
    assert set(own.left_out.whys) == set(range(6, 13))
    assert [one["left_out"] for one in events.read(tmp_path)][:2] == [[8, 9], [7, 10]]


def test_more_than_most_end_the_training_with_all_facts(tmp_path: Path) -> None:
    own, _ = guard(tmp_path, FaultsConfig(not_finite="skip", most=2))
    for step in (3, 5):
        own.allows(Position(step=step - 1), math.nan, 1.0)
    expected = r"step 8: the loss is inf.*2 updates.*faults\.most.*steps 3, 5.*optim\.lr"
    with pytest.raises(TrainingError, match=expected):
        own.allows(Position(step=7), math.inf, 1.0)
    assert {one["step"] for one in json.loads((tmp_path / NAME).read_text())} == {3, 5}


def test_nothing_is_recorded_where_another_run_has_taken_over(tmp_path: Path) -> None:
    own, _ = guard(tmp_path, ALL, may_write=lambda: False)
    with pytest.raises(ArtifactError, match="another run has taken over"):
        own.allows(Position(), math.nan, 1.0)
    assert not (tmp_path / NAME).exists()


# -- in a training ---------------------------------------------------------------------------------


def run(task: Path, folder: Path, config: FaultsConfig, **poison: tuple[int, ...]) -> list[Event]:
    """Train a task whose updates and losses are poisoned at certain steps; the live events."""
    folder.mkdir(exist_ok=True)
    read = read_task(task)
    train = replace(read.train, faults=config)
    seen: list[Event] = []
    with poisoned(**poison):
        mine = replace(read, folder=str(folder), train=train)
        pretraining(mine, Outside(seen.append))[0].run()
    return seen


def step_losses(folder: Path) -> dict[int, float]:
    log = read_log(folder / "metrics.jsonl")
    return {event["step"]: event["loss"] for event in log if event["event"] == "step"}


def left_out(folder: Path) -> list[int]:
    return [one["step"] for one in json.loads((folder / NAME).read_text())]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty steps, a checkpoint after every tenth."""
    return write_task(tmp_path_factory.mktemp("task"), steps=30, save_every=10)


def test_a_skipped_step_is_in_the_ledger_and_the_others_are_logged(
    task: Path, tmp_path: Path
) -> None:
    plain, skip = tmp_path / "plain", tmp_path / "skip"
    run(task, plain, FaultsConfig())
    seen = run(task, skip, FaultsConfig(not_finite="skip"), not_finite=(14,))
    assert (skip / "order.tsv").read_bytes() == (plain / "order.tsv").read_bytes()
    assert set(step_losses(skip)) == set(range(1, 31)) - {14}
    assert all(step_losses(skip)[step] == step_losses(plain)[step] for step in range(1, 14))
    assert step_losses(skip)[15] != step_losses(plain)[15]
    assert [event["step"] for event in seen if event["event"] == "fault"] == [14]
    assert left_out(skip) == [14]
    assert json.loads((skip / "metrics.jsonl").read_text().splitlines()[-1])["event"] == "end"


def test_weights_that_went_to_a_bad_place_are_brought_back(task: Path, tmp_path: Path) -> None:
    """The update of step 17 is poisoned, the loss of step 18 leaps: neither is made again."""
    back, skip = tmp_path / "back", tmp_path / "skip"
    seen = run(task, back, FaultsConfig(spike="roll_back"), updates=(17,))
    faults = [(e["step"], e["action"]) for e in seen if e["event"] == "fault"]
    assert faults == [(18, "roll_back"), (17, "skip"), (18, "skip")]
    assert left_out(back) == [17, 18]
    assert losses(back)[-1] < losses(back)[0] - 0.3
    run(task, skip, FaultsConfig(spike="skip", most=99), updates=(17,))
    assert losses(skip)[-1] > losses(back)[-1] + 0.5  # skipping alone does not help here
    noted = [one for one in events.read(back) if one["event"] == "rolled_back"]
    assert [(one["step"], one["left_out"]) for one in noted] == [(18, [17, 18])]
    assert (back / "order.tsv").read_bytes() == (skip / "order.tsv").read_bytes()


def test_a_run_can_go_back_to_its_very_beginning(task: Path, tmp_path: Path) -> None:
    run(task, tmp_path / "run", FaultsConfig(not_finite="roll_back"), not_finite=(4,))
    assert left_out(tmp_path / "run") == [3, 4]
    assert set(step_losses(tmp_path / "run")) == set(range(1, 31)) - {4}


def faulty(task: Path, folder: Path) -> None:
    """A run that goes back twice, and is to be killed meanwhile."""
    folder.mkdir(exist_ok=True)
    run_poisoned(replace(read_task(task), folder=str(folder)), Outside())


@pytest.fixture(scope="module")
def whole(task: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    undisturbed(faulty, task, folder)
    return folder


@pytest.mark.parametrize(
    "falls",
    [
        (Fall("decision", 1), Fall("roll back", 1), Fall("pass", 6)),
        (Fall("decision", 2), Fall("roll back", 1), Fall("commit", 1)),
        (Fall("pass", 20), Fall("decision", 1), Fall("replace", 3)),
    ],
    ids=lambda falls: ", ".join(map(str, falls)),
)
def test_a_run_that_goes_back_and_is_killed_takes_the_steps_of_one_that_only_goes_back(
    task: Path, whole: Path, tmp_path: Path, falls: tuple[Fall, ...]
) -> None:
    assert [killed(fall, faulty, task, tmp_path / "run") for fall in falls] == [True] * len(falls)
    undisturbed(faulty, task, tmp_path / "run")
    assert left_out(tmp_path / "run") == left_out(whole) == [17, 18, 23, 24]
    assert step_losses(tmp_path / "run") == step_losses(whole)
    for name in ("model.safetensors", "order.tsv"):
        assert digest(tmp_path / "run" / name) == digest(whole / name)


@pytest.mark.slow
def test_two_processes_go_back_together_and_leave_out_what_one_would(
    task: Path, whole: Path, tmp_path: Path
) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    subprocess.run(
        [*torchrun, "-m", "tests.falls", str(task), str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )
    assert left_out(tmp_path) == left_out(whole)
    assert step_losses(tmp_path) == pytest.approx(step_losses(whole), abs=1e-4)


def test_a_stream_that_cannot_be_opened_again_leaves_going_back_to_the_caller(
    task: Path, whole: Path, tmp_path: Path
) -> None:
    """As Ray's workers do: a new group for every RolledBack."""
    mine = replace(read_task(task), folder=str(tmp_path))
    mine, backs = replace(mine, train=replace(mine.train, faults=TWICE)), 0
    with poisoned(updates=(17,), not_finite=(24,)):
        while attempt(mine):
            backs += 1
    assert backs == 2
    assert step_losses(tmp_path) == step_losses(whole)
    assert digest(tmp_path / "model.safetensors") == digest(whole / "model.safetensors")
    assert position_of(tmp_path).step == 30


def attempt(task: PretrainTask) -> bool:
    """Whether a group of workers would have to be started again."""
    run, recipe = pretraining(task, Outside())
    stream = recipe.portions(run.training.position.cursor)
    try:
        run.run(lambda _: stream)
    except RolledBack:
        return True
    return False


def test_the_checkpoint_of_the_beginning_is_pruned_like_any_other(whole: Path) -> None:
    kept = sorted(path.name for path in (whole / "checkpoints").glob("step-*"))
    assert len(kept) <= KeepConfig().last + 1 and "step-000000" not in kept


# -- errors with their place -----------------------------------------------------------------------


def test_an_error_is_told_in_one_line_with_rank_step_and_place(tmp_path: Path) -> None:
    with pytest.raises(Fell) as raised, telling_where(1, lambda: 37, tmp_path):
        1 / 0  # noqa: B018
    assert str(raised.value).startswith("rank 1, step 37: ZeroDivisionError: division by zero (")
    assert "test_faults.py:" in str(raised.value)
    again = pickle.loads(pickle.dumps(raised.value))
    assert str(again) == str(raised.value)
    assert (again.rank, again.step) == (1, 37)
    assert "1 / 0" in again.trace


def test_mistakes_and_going_back_pass_through_as_they_are(tmp_path: Path) -> None:
    for error in (TrainingError("too hot"), RolledBack("back")):
        with pytest.raises(type(error)) as raised, telling_where(0, lambda: 1, tmp_path):
            raise error
        assert raised.value is error


def test_a_full_disk_is_the_users_to_mend(tmp_path: Path) -> None:
    expected = r"metrics: No space left on device \(step 5\).*are intact.*same command"
    with pytest.raises(ArtifactError, match=expected), telling_where(0, lambda: 5, tmp_path):
        raise OSError(28, "No space left on device", "metrics")


def test_an_error_in_a_training_is_told_with_the_step_it_was_at(task: Path, tmp_path: Path) -> None:
    def fail(event: Event) -> None:
        if event["event"] == "step" and event["step"] == 7:
            raise KeyError("nobody expected this")

    mine = replace(read_task(task), folder=str(tmp_path))
    with pytest.raises(Fell, match=r"^rank 0, step 7: KeyError: 'nobody.*\(test_faults\.py:"):
        pretraining(mine, Outside(fail))[0].run()

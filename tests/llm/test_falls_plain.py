"""Trainings in plain python and under torchrun: killed, asked to save, asked to stop.

A run that is killed again and again, each time at another moment, and then let be, is compared with
one that nobody disturbed: losses, validations, ledger and weights must be the same to the last bit.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llm import checkpoint, events
from llm.align import align, new_task
from llm.align_config import KlConfig, SftConfig
from llm.align_task import AlignTask
from llm.chat import Turn
from llm.config import CheckpointConfig, KeepConfig, OptimConfig
from llm.errors import Stopped
from llm.examples import CHAT, INDEX, chat_row
from llm.files import write_json
from llm.metrics import Event, read_log
from llm.outside import Outside, Wish
from llm.pretrain import pretraining
from llm.ragged import write_rows
from llm.reward_run import RewardRecipe
from llm.run import Run
from llm.task import read_task
from tests.comparisons import ALONE, SHAPE, again, make_task, write_start
from tests.falls import Fall, digest, killed, position_of
from tests.ppo_tasks import run_ppo, steps_of, with_text, write_ppo_task
from tests.tasks import losses, run_plain, write_task

ROOT = Path(__file__).parents[2]


def require_same(fallen: Path, whole: Path) -> None:
    """Losses, validations, samples, ledger and weights."""
    assert losses(fallen) == losses(whole)
    for kind in ("validation", "sample"):
        told = [
            [e for e in read_log(one / "metrics.jsonl") if e["event"] == kind]
            for one in (fallen, whole)
        ]
        assert told[0] == told[1]
    for name in ("order.tsv", "model.safetensors"):
        assert digest(fallen / name) == digest(whole / name)


def fall_often(falls: list[Fall], work: Callable[..., Any], *arguments: Any) -> None:
    """Kill a training at one moment after the other, then let it end."""
    for fall in falls:
        assert killed(fall, work, *arguments), f"{fall} never came"
    work(*arguments)


# -- killed ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_pretraining_killed_at_twelve_moments_is_as_if_nothing_had_been(tmp_path: Path) -> None:
    task = write_task(tmp_path, steps=30, save_every=5, validate_every=10, model={"dropout": 0.1})
    run_plain(task, tmp_path / "whole")
    falls = [
        Fall("pass", 3),  # before there is a checkpoint
        Fall("update", 8),
        Fall("load", 1),
        Fall("log", 6),  # half a line is there
        Fall("write", 2),  # the second file of a checkpoint
        Fall("commit", 1),
        Fall("replace", 2),  # the log is rewound, the ledger is not
        Fall("replaced", 1),
        Fall("flush", 1),
        Fall("prune", 1),
        Fall("validation", 1),
        Fall("finish", 1),
    ]
    fall_often(falls, run_plain, task, tmp_path / "fallen")
    require_same(tmp_path / "fallen", tmp_path / "whole")
    noted = [one["event"] for one in events.read(tmp_path / "fallen")]
    assert noted.count("begin") == len(falls) + 1 - 3  # three died while they loaded or rewound
    assert noted[-1] == "end"


def tune(task: AlignTask, folder: Path) -> None:
    """Run an alignment in plain python."""
    folder.mkdir(exist_ok=True)
    align(replace(task, folder=str(folder)), Outside())


def sft_task(folder: Path) -> AlignTask:
    """An instruction tuning on forty little conversations."""
    template = write_start(folder / "start")
    for part, count in (("train", 40), ("validation", 6)):
        talks = [
            (Turn("user", f"wall {i}"), Turn("assistant", "egg " * (i % 5))) for i in range(count)
        ]
        rows = [chat_row(talk, template, SHAPE.context, False).row for talk in talks]
        (folder / "examples").mkdir(exist_ok=True)
        write_rows(folder / "examples" / f"{part}-00000.safetensors", CHAT, [r for r in rows if r])
    write_json(folder / "examples" / INDEX, {"train": 32, "validation": 5, "skipped": {}})
    config = SftConfig(
        data=(),
        batch=4,
        micro_batch=2,
        epochs=3,
        precision="fp32",
        validate_every=4,
        log_every=1,
        prompts=("humpty",),
        answer_tokens=4,
        optim=OptimConfig(lr=3e-3),
        checkpoint=CheckpointConfig(every=3),
    )
    return new_task("sft", folder / "run", folder / "start", folder / "examples", config, seed=3)


def reward_task(folder: Path) -> AlignTask:
    """A reward model whose best checkpoint is the finished model."""
    task = make_task(folder / "run", "reward", count=64)
    return again(task, folder / "run", checkpoint=CheckpointConfig(every=3), validate_every=3)


@pytest.mark.parametrize("make", [sft_task, reward_task], ids=["sft", "reward"])
def test_an_alignment_killed_again_and_again_is_as_if_nothing_had_been(
    make: Callable[[Path], AlignTask], tmp_path: Path
) -> None:
    task = make(tmp_path)
    tune(task, tmp_path / "whole")
    falls = [Fall("pass", 5), Fall("commit", 1), Fall("log", 5), Fall("finish", 1)]
    fall_often(falls, tune, task, tmp_path / "fallen")
    require_same(tmp_path / "fallen", tmp_path / "whole")


@pytest.mark.slow
def test_ppo_killed_in_rollout_update_and_save_goes_on_along_the_same_trajectory(
    tmp_path: Path,
) -> None:
    kl = KlConfig(coefficient=0.1, target=0.5, horizon=100)
    path = write_ppo_task(
        tmp_path,
        steps=8,
        save_every=2,
        validate_every=2,
        model_judges=True,
        compare=True,
        pretrain_weight=0.1,
        kl=kl,
    )
    path.write_text(json.dumps({**json.loads(path.read_text()), **with_text(tmp_path)}))
    run_ppo(path, tmp_path / "whole")
    falls = [
        Fall("rollout", 30),  # in the middle of answers
        Fall("minibatch", 14),
        Fall("write", 2),
        Fall("commit", 1),
        Fall("log", 8),
        Fall("report", 2),
        Fall("rollout", 45),
        Fall("prune", 1),
    ]
    fall_often(falls, run_ppo, path, tmp_path / "fallen")
    whole, fallen = steps_of(tmp_path / "whole"), steps_of(tmp_path / "fallen")
    for name in ("reward", "kl", "coefficient"):
        assert [step[name] for step in fallen] == [step[name] for step in whole]
    assert fallen == whole and len(whole) == 8
    assert len({step["coefficient"] for step in whole}) == 8
    assert digest(tmp_path / "fallen" / "model.safetensors") == digest(
        tmp_path / "whole" / "model.safetensors"
    )


# -- asked to save or to stop ----------------------------------------------------------------------


def asking(wishes: dict[int, Wish]) -> tuple[Outside, list[Event]]:
    """Somebody who asks for something as soon as the log says so many steps are done."""
    seen: list[Event] = []

    def hear(event: Event) -> None:
        seen.append(event)
        if event["event"] == "step" and event["step"] in wishes:
            outside.wishes.ask(wishes[event["step"]])

    outside = Outside(hear)
    return outside, seen


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty steps, a checkpoint after the tenth."""
    return write_task(tmp_path_factory.mktemp("task"), steps=20, save_every=10)


@pytest.fixture(scope="module")
def whole(task: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    run_plain(task, folder)
    return folder


def train(task: Path, folder: Path, outside: Outside) -> None:
    folder.mkdir(exist_ok=True)
    pretraining(replace(read_task(task), folder=str(folder)), outside)[0].run()


def test_a_wish_to_save_is_granted_after_the_step_and_training_goes_on(
    task: Path, whole: Path, tmp_path: Path
) -> None:
    outside, seen = asking({7: Wish.SAVE})
    train(task, tmp_path / "run", outside)
    saved = [event["step"] for event in seen if event["event"] == "checkpoint"]
    assert saved in ([8, 10, 20], [8, 10])  # the last may come after the end
    (early,) = [one for one in events.read(tmp_path / "run") if one["event"] == "saved_early"]
    assert (early["step"], early["why"]) == (8, "machines come or go")
    require_same(tmp_path / "run", whole)


def test_a_wish_to_stop_saves_and_ends_and_the_same_command_goes_on(
    task: Path, whole: Path, tmp_path: Path
) -> None:
    outside, seen = asking({7: Wish.STOP})
    with pytest.raises(Stopped, match="stopped after step 8, which is saved; the same command"):
        train(task, tmp_path / "run", outside)
    assert position_of(tmp_path / "run").step == 8
    assert [event["event"] for event in seen][-2:] == ["saved_early", "stopped"]
    train(task, tmp_path / "run", Outside())
    require_same(tmp_path / "run", whole)
    noted = [one["event"] for one in events.read(tmp_path / "run")]
    assert noted == ["begin", "saved_early", "stopped", "begin", "end"]


def test_a_stop_after_the_last_step_is_an_end(task: Path, whole: Path, tmp_path: Path) -> None:
    outside, _ = asking({19: Wish.STOP})
    train(task, tmp_path / "run", outside)
    require_same(tmp_path / "run", whole)


def test_ppo_stops_too_and_goes_on_along_the_same_trajectory(tmp_path: Path) -> None:
    path = write_ppo_task(tmp_path, steps=4)
    run_ppo(path, tmp_path / "whole")
    outside, _ = asking({2: Wish.STOP})
    with pytest.raises(Stopped, match="stopped after step 2"):
        run_ppo(path, tmp_path / "run", outside=outside)
    run_ppo(path, tmp_path / "run")
    assert steps_of(tmp_path / "run") == steps_of(tmp_path / "whole")


def test_a_machine_that_is_about_to_go_does_not_choose_the_best_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step 3 does best, but is saved only because somebody asks for it."""
    task = make_task(tmp_path / "run", "reward", count=48)
    kept = CheckpointConfig(every=2, keep=KeepConfig(last=9))
    task = again(task, tmp_path / "run", checkpoint=kept, validate_every=1)
    scores = {0: 1.0, 1: 0.9, 2: 0.8, 3: 0.1, 4: 0.3, 5: 0.6, 6: 0.5}
    outside, _ = asking({2: Wish.SAVE})
    Path(task.folder).mkdir()
    made = RewardRecipe(task, ALONE)
    run = Run(task, made, ALONE, outside)
    monkeypatch.setattr(made, "validate", lambda: {"loss": scores[run.training.position.step]})
    figures = run.run()
    assert (tmp_path / "run" / "checkpoints" / "step-000003").exists()
    assert figures["best_step"] == 4


def test_signs_of_life_come_from_every_phase_and_a_step_is_told_when_all_of_it_is_done(
    task: Path, tmp_path: Path
) -> None:
    told: list[tuple[str, int]] = []
    train(task, tmp_path, Outside(beat=lambda *sign: told.append(sign)))
    assert {doing for doing, _ in told} == {"forward", "validation", "save", "step"}
    assert [step for doing, step in told if doing == "step"] == list(range(1, 21))
    at = told.index(("step", 10))
    assert told[at - 1] == ("save", 10) and told[at + 1] == ("forward", 11)
    assert told.count(("forward", 11)) == 4  # one for each micro batch


def test_signs_of_life_come_from_every_phase_of_ppo(tmp_path: Path) -> None:
    path = write_ppo_task(tmp_path, steps=2)
    told: list[tuple[str, int]] = []
    run_ppo(path, tmp_path / "run", outside=Outside(beat=lambda *sign: told.append(sign)))
    assert {doing for doing, _ in told} >= {"rollout", "logprobs", "update", "save", "step"}
    assert [step for doing, step in told if doing == "step"] == [1, 2]
    assert told.count(("rollout", 2)) >= 8  # tokens, written one after the other


def test_a_reference_that_is_worked_out_before_the_run_shows_signs_of_life(tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []
    task = make_task(tmp_path / "run", "dpo", count=16)
    Path(task.folder).mkdir()
    align(task, Outside(beat=lambda *sign: told.append(sign)))
    assert told[:6] == [("reference", 0)] * 6  # of 16 and 8 comparisons, 4 at a time
    assert told.count(("reference", 0)) == 6 and told[6][0] == "validation"


# -- SIGTERM ---------------------------------------------------------------------------------------

ENDLESS = 1_000_000


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A task that ends only because somebody ends it."""
    return write_task(
        tmp_path, steps=ENDLESS, save_every=ENDLESS, validate_every=ENDLESS, documents=300
    )


def terminated(command: list[str]) -> tuple[int, str]:
    """Exit code and stderr of a training that is sent SIGTERM as soon as it has taken a step."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True
    ) as process:
        assert process.stdout
        while not process.stdout.readline().startswith("step 2/"):
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=100)
    return process.returncode, said


def test_sigterm_saves_and_ends_with_one_line(endless: Path, tmp_path: Path) -> None:
    code, said = terminated(
        [sys.executable, "-m", "llm.pretrain", str(endless), str(tmp_path / "run")]
    )
    step = position_of(tmp_path / "run").step
    assert step >= 2
    assert (code, said) == (
        130,
        f"stopped after step {step}, which is saved; the same command goes on from there\n",
    )
    assert len(losses(tmp_path / "run")) == step


@pytest.mark.slow
def test_sigterm_to_torchrun_saves_in_all_processes_at_the_same_step(
    endless: Path, tmp_path: Path
) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    _, said = terminated([*torchrun, "-m", "llm.pretrain", str(endless), str(tmp_path / "run")])
    found = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert found
    step = checkpoint.read_position(found).step
    assert said.count(f"stopped after step {step}, which is saved") == 2
    assert len(losses(tmp_path / "run")) == step

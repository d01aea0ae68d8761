"""A PPO training as a whole: falls, processes, guards, and the artifact that is left."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from llm.align_config import GuardConfig, KlConfig, PpoConfig
from llm.artifact import read_model
from llm.chat_artifact import is_chat
from llm.config import FaultsConfig, ModelConfig
from llm.errors import ArtifactError, TrainingError
from llm.metrics import Event, read_log
from llm.outside import Outside
from llm.ppo import Ppo
from llm.ppo_memory import plan_memory
from llm.ppo_run import mean_of
from llm.ppo_task import read_ppo_task
from llm.reward import Scorer
from tests.ppo_tasks import (
    SHAPE,
    run_ppo,
    steps_of,
    with_text,
    write_ppo_task,
    write_tokenizer,
)

ROOT = Path(__file__).parents[2]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def events(folder: Path, kind: str) -> list[Event]:
    return [event for event in read_log(folder / "metrics.jsonl") if event["event"] == kind]


def test_a_task_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    path = write_ppo_task(tmp_path, model_judges=True)
    task = read_ppo_task(path)
    assert isinstance(task.config, PpoConfig) and isinstance(task.config.kl, KlConfig)
    assert json.loads(json.dumps(task.to_json())) == json.loads(path.read_text())


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    # Minibatches of three micro batches: one process has two of them, the other one.
    path = write_ppo_task(
        tmp_path,
        steps=5,
        batch=24,
        minibatch=12,
        model_judges=True,
        compare=True,
        even=False,
        pretrain_weight=0.1,
    )
    path.write_text(json.dumps({**json.loads(path.read_text()), **with_text(tmp_path)}))
    run_ppo(path, tmp_path / "one")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    subprocess.run(
        [*torchrun, "-m", "llm.ppo_run", str(path), str(tmp_path / "two")],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )
    one, two = steps_of(tmp_path / "one"), steps_of(tmp_path / "two")
    assert len(one) == len(two) == 5
    for a, b in zip(one, two, strict=True):
        assert b == pytest.approx(a, abs=1e-5, rel=1e-4)
    both = [events(tmp_path / name, "validation")[-1] for name in ("one", "two")]
    for name in ("reward", "kl", "length", "ended", "preference"):
        assert both[1][name] == pytest.approx(both[0][name], abs=1e-5, rel=1e-5)
    for name, value in weights(tmp_path / "one").items():
        torch.testing.assert_close(weights(tmp_path / "two")[name], value, atol=1e-5, rtol=1e-4)


def test_the_artifact_is_a_chat_model_that_answers(tmp_path: Path) -> None:
    path = write_ppo_task(tmp_path, steps=2, prompts=("abc",))
    figures = run_ppo(path, tmp_path / "run")
    model, _ = read_model(tmp_path / "run")
    assert is_chat(tmp_path / "run")
    moved = weights(tmp_path / "run")["head.weight"]
    assert not torch.equal(moved, weights(tmp_path / "policy")["head.weight"])
    assert model.config == ModelConfig(**SHAPE)
    assert [event["step"] for event in events(tmp_path / "run", "sample")] == [0, 2]
    assert set(figures) >= {"reward", "kl", "validation_reward", "validation_kl", "tokens"}


def test_a_log_has_every_figure_that_is_plotted(tmp_path: Path) -> None:
    path = write_ppo_task(tmp_path, steps=2, model_judges=True, compare=True)
    run_ppo(path, tmp_path / "run")
    (step, _) = events(tmp_path / "run", "step")
    named = (
        "steps reward score kl coefficient entropy length ended clip_fraction approx_kl "
        "explained_variance policy_loss value_loss lr grad_norm mismatch same tokens_per_second "
        "seconds phases eta ratio"
    )
    assert set(step) == {"event", "step", *named.split()}
    assert set(step["phases"]) == {"rollout", "logprobs", "reward", "update"}
    assert 0 < sum(step["phases"].values()) <= step["seconds"]
    validation = events(tmp_path / "run", "validation")[0]
    assert set(validation) == {"event", "step", "reward", "kl", "length", "ended", "preference"}
    (start,) = events(tmp_path / "run", "start")
    assert min(start["memory"].values()) > 0


def test_the_reference_sides_with_nobody(tmp_path: Path) -> None:
    path = write_ppo_task(tmp_path, steps=1, compare=True)
    run_ppo(path, tmp_path / "run")
    assert events(tmp_path / "run", "validation")[0]["preference"] == 0.5


def test_a_guard_that_stops_leaves_the_last_weights_that_were_in_order(tmp_path: Path) -> None:
    # With a reward for a, and no price, the policy leaves the reference within some steps.
    path = write_ppo_task(
        tmp_path,
        steps=40,
        save_every=2,
        validate_every=40,
        lr=4e-3,
        kl=KlConfig(coefficient=0.0),
        guards=GuardConfig(kl=1.0, same=1.0),
    )
    figures = run_ppo(path, tmp_path / "run")
    (guard,) = events(tmp_path / "run", "guard")
    assert (guard["kind"], guard["action"]) == ("divergence", "stop")
    assert "guards.kl: 1" in guard["message"]
    stopped = figures["stopped_at"]
    assert figures["stopped"] == "divergence" and 2 < stopped < 40
    assert guard["step"] == stopped + 1
    good = figures["taken_back_to"]
    assert good == stopped - (2 if stopped % 2 == 0 else 1)
    saved = load_file(tmp_path / "run" / "checkpoints" / f"step-{good:06d}" / "model.safetensors")
    for name, value in weights(tmp_path / "run").items():
        assert torch.equal(value, saved[f"policy.{name}"])


def test_a_policy_that_is_wrong_from_the_start_is_given_back(tmp_path: Path) -> None:
    path = write_ppo_task(tmp_path, steps=3, guards=GuardConfig(entropy=5.0))
    figures = run_ppo(path, tmp_path / "run")
    assert (figures["stopped"], figures["stopped_at"], figures["taken_back_to"]) == (
        "entropy",
        0,
        0,
    )
    one, two = weights(tmp_path / "policy"), weights(tmp_path / "run")
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_guard_that_shrinks_halves_the_rate_and_goes_on(tmp_path: Path) -> None:
    guards = GuardConfig(entropy=5.0, same=1.0, action="shrink")
    path = write_ppo_task(tmp_path, steps=20, validate_every=20, guards=guards, lr=1e-3)
    figures = run_ppo(path, tmp_path / "run")
    rates = [step["lr"] for step in steps_of(tmp_path / "run")]
    assert rates == pytest.approx([5e-4] * 5 + [2.5e-4] * 5 + [1.25e-4] * 5)
    assert [guard["step"] for guard in events(tmp_path / "run", "guard")] == [1, 6, 11, 16]
    assert figures["stopped"] == "entropy"


def test_a_policy_that_turns_against_people_is_stopped(tmp_path: Path) -> None:
    # People prefer b to a in every comparison, the rule prefers a.
    path = write_ppo_task(
        tmp_path,
        steps=30,
        save_every=2,
        validate_every=2,
        compare=True,
        lr=1e-2,
        kl=KlConfig(coefficient=0.0),
        guards=GuardConfig(same=1.0),
    )
    figures = run_ppo(path, tmp_path / "run")
    assert figures["stopped"] == "preference"
    assert events(tmp_path / "run", "validation")[-1]["preference"] < 0.4


def test_a_reward_model_with_another_tokenizer_is_refused(tmp_path: Path) -> None:
    path = write_ppo_task(tmp_path, model_judges=True)
    other = write_tokenizer(tmp_path / "reward" / "tokenizer.model", "zyxw")
    with pytest.raises(ArtifactError, match=r"reward.*another tokenizer than .*policy"):
        run_ppo(path, tmp_path / "run")
    assert other.vocab_size


def test_planned_memory_is_that_of_the_models(tmp_path: Path) -> None:
    path = write_ppo_task(tmp_path, model_judges=True)
    task = read_ppo_task(path)
    model, _ = read_model(tmp_path / "policy")
    shape = model.config
    plan = plan_memory(shape, shape, model.vocab_size, task.config, bf16=False, gpu=False)
    count = sum(p.numel() for p in model.parameters())
    assert plan["policy"] == 16 * count  # fp32: weights, gradient, two moments
    assert plan["reference"] == 4 * count
    body = sum(p.numel() for p in Scorer(model).body.parameters())
    assert (plan["critic"], plan["reward"]) == (16 * body, 4 * body)
    assert plan["saving"] == 12 * (count + body)
    ruled = plan_memory(shape, None, model.vocab_size, task.config, bf16=True, gpu=True)
    assert ruled["reward"] == ruled["saving"] == 0


def test_reports_average_what_lies_between_them() -> None:
    one, two = (
        {"reward": 1.0, "phases": {"rollout": 2.0}},
        {"reward": 2.0, "phases": {"rollout": 4.0}},
    )
    assert mean_of([one, two]) == {"reward": 1.5, "phases": {"rollout": 3.0}}


def breaking(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Make the gradient of the `count`-th minibatch one that is not finite."""
    true, left = Ppo._backward, [count]

    def broken(self: Ppo, *arguments: Any) -> torch.Tensor:
        figures = true(self, *arguments)
        left[0] -= 1
        if left[0] == 0:
            gradient = self.models.policy.head.weight.grad
            assert gradient is not None
            gradient[0, 0] = torch.nan
        return figures

    monkeypatch.setattr(Ppo, "_backward", broken)


def test_a_gradient_that_is_not_finite_ends_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_ppo_task(tmp_path, steps=3)
    breaking(monkeypatch, 6)  # four minibatches a step
    with pytest.raises(TrainingError, match=r"step 2: the gradient norm of the policy is nan"):
        run_ppo(path, tmp_path / "run")


def test_an_update_that_is_not_finite_is_left_out_if_the_spec_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_ppo_task(tmp_path, steps=3, faults=FaultsConfig(not_finite="skip"))
    breaking(monkeypatch, 6)
    run_ppo(path, tmp_path / "run")
    (fault,) = events(tmp_path / "run", "fault")
    assert (fault["step"], fault["action"], fault["loss"]) == (2, "skip", None)
    assert [one["step"] for one in json.loads((tmp_path / "run" / "skips.json").read_text())] == [2]
    steps = steps_of(tmp_path / "run")
    assert len(steps) == 3 and all(math.isfinite(step["grad_norm"]) for step in steps)
    assert all(value.isfinite().all() for value in weights(tmp_path / "run").values())


def test_more_prompts_than_there_are_begin_again_in_another_order(tmp_path: Path) -> None:
    from llm.ppo_run import PpoRun

    path = write_ppo_task(tmp_path, batch=20, steps=2)
    (tmp_path / "run").mkdir()
    run = PpoRun(replace(read_ppo_task(path), folder=str(tmp_path / "run")), Outside())
    epochs = [[tuple(prompt.ids.tolist()) for prompt in run._drawn(step)[0]] for step in (0, 1)]
    assert sorted(epochs[0]) == sorted(epochs[1])
    assert epochs[0] != epochs[1]

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from llm.config import CheckpointConfig, KeepConfig, ModelConfig
from llm.data import Cursor
from llm.dpo import DpoRecipe
from llm.errors import ArtifactError
from llm.examples import Comparison
from llm.metrics import read_log
from llm.model import Transformer
from llm.reward import Normaliser, Scorer, read_scorer
from llm.reward_data import answers_of, dealt, measure
from llm.reward_run import RewardRecipe
from llm.world import CPU, World
from tests.comparisons import ALONE, again, make_task, run, weights

ROOT = Path(__file__).parents[2]

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

SHAPE = ModelConfig(depth=2, width=16, heads=2, hidden=32, context=16)


def scorer(seed: int = 0) -> Scorer:
    """One whose new layer has learned something."""
    torch.manual_seed(seed)
    made = Scorer(Transformer(SHAPE, 20))
    torch.nn.init.normal_(made.head.weight)
    return made.eval()


def comparison(*lengths: int) -> Comparison:
    source = np.random.default_rng(1)
    sequences = tuple(source.integers(0, 20, length).astype(np.int32) for length in lengths)
    return Comparison(sequences, 2, np.arange(len(lengths), dtype=float), math.nan)


def test_reward_is_the_value_at_the_last_token_whatever_follows() -> None:
    model, lengths = scorer(), torch.tensor([5, 9, 3])
    ids = torch.randint(20, (3, 16), generator=torch.Generator().manual_seed(1))
    rewards = model.rewards(ids, lengths)
    noise = torch.where(torch.arange(16) < lengths[:, None], ids, 7)
    assert torch.equal(model.rewards(noise, lengths), rewards)
    for row, length, reward in zip(ids, lengths.tolist(), rewards, strict=True):
        alone = model.values(row[None, :length])
        assert alone[0, -1].item() == pytest.approx(reward.item(), abs=1e-5)


def test_answers_that_share_a_row_are_worth_what_they_are_alone() -> None:
    model, one = scorer(), comparison(5, 9, 3, 4)
    answers = answers_of([one], CPU)
    assert answers.owners.tolist() == [
        [1] * 9 + [-1] * 7,  # 9 up to a multiple of 16
        [0] * 5 + [3] * 4 + [-1] * 7,
        [2] * 3 + [-1] * 13,
    ]
    rewards = model.shared(*answers[:4])
    for sequence, reward in zip(one.sequences, rewards, strict=True):
        alone = model.values(torch.tensor(sequence)[None].long())
        assert alone[0, -1].item() == pytest.approx(reward.item(), abs=1e-5)


def test_padding_beyond_the_context_is_cut_off() -> None:
    small = replace(SHAPE, context=9)
    model = Scorer(Transformer(small, 20))
    assert model.shared(*answers_of([comparison(9, 2)], CPU)[:4]).tolist() == [0, 0]


def test_a_batch_is_dealt_out_evenly() -> None:
    assert dealt([9, 8, 7, 6, 5, 4, 3], 3) == [[9, 4, 3], [8, 5], [7, 6]]
    assert dealt([], 2) == [[], []]


def test_an_untrained_scorer_prefers_nothing() -> None:
    model = Scorer(Transformer(SHAPE, 20))
    assert model.shared(*answers_of([comparison(5, 9)], CPU)[:4]).tolist() == [0, 0]


def test_an_untied_output_layer_is_dropped() -> None:
    untied = ModelConfig(**{**vars(SHAPE), "tied": False})
    names = [name for name, _ in Scorer(Transformer(untied, 20)).named_parameters()]
    assert "body.head.weight" not in names and names[-2:] == ["head.weight", "head.bias"]


def test_rewards_are_fp32_under_autocast() -> None:
    answers = answers_of([comparison(5, 9)], CPU)
    with torch.autocast("cpu", torch.bfloat16):
        assert scorer().shared(*answers[:4]).dtype == torch.float32


def test_normalised_rewards_of_the_reference_have_mean_0_and_variance_1() -> None:
    rewards = torch.tensor([1.0, 3.0, 5.0, 7.0])
    normal = Normaliser(rewards.mean().item(), rewards.std(correction=0).item())(rewards)
    assert normal.mean().item() == pytest.approx(0)
    assert normal.square().mean().item() == pytest.approx(1)


def test_answers_are_measured_in_their_order_by_any_number_of_processes(tmp_path: Path) -> None:
    task = make_task(tmp_path / "run", "reward")
    recipe = RewardRecipe(task, ALONE)
    torch.nn.init.normal_(recipe.module.head.weight)
    which = [5, 0, 17, 3, 9]
    found = measure(recipe.comparisons, which, recipe._rewards, ALONE.world, 2)
    shares = [
        measure(recipe.comparisons, which, recipe._rewards, Deaf(rank, 2, CPU), 2)
        for rank in range(2)
    ]
    assert np.allclose(sum(shares), found, atol=1e-5) and all(share.any() for share in shares)
    for number, rewards in zip(which, split_like(recipe, which, found), strict=True):
        answers = answers_of([recipe.comparisons[number]], CPU)
        assert np.allclose(rewards, recipe.module.shared(*answers[:4]).detach(), atol=1e-5)


class Deaf(World):
    """A process that hears nothing of the others."""

    def sum(self, *values: float) -> list[float]:
        return list(values)


def split_like(recipe: RewardRecipe, which: list[int], values: np.ndarray) -> list[np.ndarray]:
    counts = [len(recipe.comparisons[number].sequences) for number in which]
    return np.split(values, np.cumsum(counts)[:-1])


def test_reward_model_learns_what_people_like_and_its_folder_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    recipe, figures = run(make_task(folder, "reward", count=192, epochs=4), RewardRecipe)
    assert figures["accuracy"] > 0.9 and figures["low"] > 0.8 > figures["length_baseline"]
    assert figures["pairs"] > 96 and figures["calibration"] < 0.25

    events = read_log(folder / "metrics.jsonl")
    first = next(event for event in events if event["event"] == "validation")
    assert first["loss"] == pytest.approx(math.log(2)) and first["accuracy"] == 0.5
    assert next(e["loss"] for e in events if e["event"] == "step") == pytest.approx(math.log(2))

    read, normaliser = read_scorer(folder)
    assert np.array_equal(weights(read), weights(recipe.module))
    held_out, train = recipe.held_out, recipe.comparisons
    references = [*map(held_out.__getitem__, range(96)), *map(train.__getitem__, range(160))]
    normal = normaliser(torch.cat([reward_of_best(read, one) for one in references]))
    assert normal.mean().item() == pytest.approx(0, abs=1e-4)
    assert normal.square().mean().item() == pytest.approx(1, abs=1e-4)


def reward_of_best(model: Scorer, one: Comparison) -> torch.Tensor:
    best = torch.tensor(one.sequences[int(one.scores.argmax())])[None].long()
    with torch.no_grad():
        return model.rewards(best, torch.tensor([best.size(1)]))


def test_update_does_not_depend_on_the_micro_batch(tmp_path: Path) -> None:
    task = make_task(tmp_path / "one", "reward", count=20)
    small, _ = run(again(task, tmp_path / "one", micro_batch=1), RewardRecipe)
    whole, _ = run(again(task, tmp_path / "two", micro_batch=8), RewardRecipe)
    assert np.allclose(weights(small.module), weights(whole.module), atol=1e-5)
    spans = [(tmp_path / name / "order.tsv").read_text() for name in ("one", "two")]
    assert spans[0] == spans[1] and spans[0].count("\n") == 3  # 20 comparisons, the last batch of 4


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    task = make_task(tmp_path / "one", "reward", count=40)
    task = again(task, tmp_path / "one", checkpoint=type(task.train.checkpoint)(every=2))
    whole, _ = run(task, RewardRecipe)
    fallen = again(task, tmp_path / "two")
    script = tmp_path / "fall.py"
    script.write_text(FALL)
    spec = [str(tmp_path / "one"), str(tmp_path / "two")]
    died = subprocess.run([sys.executable, str(script), *spec], cwd=ROOT, env=ENVIRONMENT)
    assert died.returncode == 9
    resumed, _ = run(fallen, RewardRecipe)
    assert np.array_equal(weights(resumed.module), weights(whole.module))
    assert steps_of(tmp_path / "two") == steps_of(tmp_path / "one")


FALL = """
import os, sys
from dataclasses import replace
from pathlib import Path
from llm.reward_run import RewardRecipe
from tests.comparisons import again, make_task, run

def fall(event):
    if event["event"] == "step" and event["step"] == 3:
        os._exit(9)

task = make_task(Path(sys.argv[1]), "reward", count=40)
kept = type(task.train.checkpoint)(every=2)
run(again(task, Path(sys.argv[2]), checkpoint=kept), RewardRecipe, fall)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["reward", "dpo"])
def test_two_workers_of_torchrun_take_the_steps_of_one(
    tmp_path: Path, kind: Literal["reward", "dpo"]
) -> None:
    task = make_task(tmp_path / "one", kind, count=20, micro_batch=2)
    run(task, {"reward": RewardRecipe, "dpo": DpoRecipe}[kind])
    (tmp_path / "task.json").write_text(json.dumps(task.to_json()))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    given = [str(tmp_path / "task.json"), str(tmp_path / "two")]
    subprocess.run(
        [*torchrun, "--standalone", "-m", "llm.align", *given],
        cwd=ROOT,
        check=True,
        env=ENVIRONMENT,
    )
    expected, found = steps_of(tmp_path / "one"), steps_of(tmp_path / "two")
    assert len(found) == len(expected)
    for one, two in zip(expected, found, strict=True):
        assert two == pytest.approx(one, abs=1e-5)
    last = [read_log(tmp_path / name / "metrics.jsonl")[-1] for name in ("one", "two")]
    for figure in ("loss", "accuracy", "low", "high", "pairs", "comparisons"):
        assert last[1][figure] == pytest.approx(last[0][figure], abs=1e-5)


def steps_of(folder: Path) -> list[tuple[int, float]]:
    events = read_log(folder / "metrics.jsonl")
    return [(event["step"], event["loss"]) for event in events if event["event"] == "step"]


def test_margins_count_only_if_they_are_asked_for(tmp_path: Path) -> None:
    recipe = RewardRecipe(make_task(tmp_path / "run", "reward"), ALONE)
    one = next(iter(recipe.portions(Cursor()))).comparisons[0]._replace(margin=2.0)
    portion = next(iter(recipe.portions(Cursor())))
    for margin, wanted in ((False, 0.0), (True, 2.0)):
        changed = type(portion)(**{**vars(portion), "comparisons": (one,), "margin": margin})
        assert set(changed.pairs(CPU).margins.tolist()) == {wanted}


def test_a_chat_model_is_refused_as_a_reward_model(tmp_path: Path) -> None:
    task = make_task(tmp_path / "run", "reward")
    with pytest.raises(ArtifactError, match=r"start: holds no reward model .*stage of kind reward"):
        read_scorer(Path(task.start))


@pytest.mark.parametrize("content", ["{", "[]", '{"mean": 0}', '{"mean": 0, "std": "x"}', "7"])
def test_a_damaged_normaliser_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "reward.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"reward\.json: is not readable"):
        read_scorer(tmp_path)


@pytest.mark.parametrize("std", [0, -1, math.inf, math.nan])
def test_a_normaliser_that_cannot_divide_is_refused(tmp_path: Path, std: float) -> None:
    (tmp_path / "reward.json").write_text(json.dumps({"mean": 0, "std": std}))
    with pytest.raises(ArtifactError, match="std above 0"):
        read_scorer(tmp_path)


def test_finished_model_is_the_one_that_did_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(tmp_path / "run", "reward", count=48)
    kept = CheckpointConfig(every=2, keep=KeepConfig(last=9))
    task = again(task, tmp_path / "run", checkpoint=kept, validate_every=2)
    losses = iter([1.0, 0.8, 0.3, 0.5, 0.3])  # before the first, steps 2, 4, 6, and again
    monkeypatch.setattr(RewardRecipe, "validate", lambda _: {"loss": next(losses)})
    _, figures = run(task, RewardRecipe)
    assert (figures["best_step"], figures["loss"]) == (4, 0.3)
    best = load_file(tmp_path / "run" / "checkpoints" / "step-000004" / "model.safetensors")
    last = load_file(tmp_path / "run" / "checkpoints" / "step-000006" / "model.safetensors")
    made = load_file(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(made[name], tensor) for name, tensor in best.items())
    assert not all(torch.equal(made[name], tensor) for name, tensor in last.items())

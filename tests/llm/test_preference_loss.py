import math
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llm.preference_loss import Pairs, dpo_loss, pair_losses, ranking_loss, strict_pairs
from llm.reward_data import pairs_of

CPU = torch.device("cpu")


def pairs(scores: list[list[float]], margins: list[float] | None = None) -> Pairs:
    return pairs_of([np.array(one) for one in scores], margins or [0.0] * len(scores), CPU)


def test_pairs_of_a_ranking_are_all_answers_of_different_scores() -> None:
    assert strict_pairs(np.array([2.0, 1.0, 2.0, 0.0])).tolist() == [
        [0, 1], [0, 3], [1, 3], [2, 1], [2, 3],
    ]  # fmt: skip


def test_answers_are_numbered_through_all_comparisons() -> None:
    found = pairs([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0, 2.0]])
    assert found.better.tolist() == [0, 5, 6, 6]
    assert found.worse.tolist() == [1, 4, 4, 5]
    assert found.weights.tolist() == pytest.approx([1, 1 / 3, 1 / 3, 1 / 3])


@settings(deadline=None)  # the first example loads parts of torch
@given(st.lists(st.lists(st.integers(0, 3), min_size=2, max_size=5), max_size=6))
def test_every_ranking_weighs_one_and_an_all_tied_one_nothing(scores: list[list[int]]) -> None:
    found = pairs([[float(score) for score in one] for one in scores])
    flat = np.array([score for one in scores for score in one])
    assert (flat[found.better] > flat[found.worse]).all()
    untied = sum(len(set(one)) > 1 for one in scores)
    assert found.weights.sum().item() == pytest.approx(untied, abs=1e-5)


def test_ranking_loss_is_the_mean_over_its_pairs() -> None:
    # rewards ln 3, 0, -ln 3 as people ranked them: differences ln 3, ln 9, ln 3, of which
    # sigmoids are 3/4, 9/10, 3/4
    rewards = torch.tensor([math.log(3), 0.0, -math.log(3)])
    expected = -(2 * math.log(3 / 4) + math.log(9 / 10)) / 3
    loss = ranking_loss(rewards, pairs([[3.0, 2.0, 1.0]]))
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_losses_of_comparisons_add_up() -> None:
    rewards = torch.tensor([0.0, 0.0, math.log(4), 0.0])  # sigmoids 1/2 and 4/5
    loss = ranking_loss(rewards, pairs([[1.0, 0.0], [1.0, 0.0]]))
    assert loss.item() == pytest.approx(-math.log(1 / 2) - math.log(4 / 5), rel=1e-6)


def test_a_margin_asks_for_more_and_nan_for_none() -> None:
    rewards = torch.tensor([math.log(6), 0.0, math.log(6), 0.0])
    loss = ranking_loss(rewards, pairs([[1.0, 0.0], [1.0, 0.0]], [math.log(2), math.nan]))
    # ln 6 - ln 2 = ln 3: sigmoid 3/4; without margin 6/7
    assert loss.item() == pytest.approx(-math.log(3 / 4) - math.log(6 / 7), rel=1e-6)


def test_loss_does_not_know_a_constant_added_to_all_rewards() -> None:
    rewards, some = torch.tensor([0.3, -0.2, 1.5]), pairs([[1.0, 2.0, 0.0]])
    assert ranking_loss(rewards + 7, some).item() == pytest.approx(
        ranking_loss(rewards, some).item(), rel=1e-5
    )


def test_dpo_loss_of_worked_numbers() -> None:
    # beta 0.5, gains 2 ln 3 and 0: sigmoid(ln 3) = 3/4; a tenth of the labels is wrong
    gains, some = torch.tensor([2 * math.log(3), 0.0]), pairs([[1.0, 0.0]])
    assert dpo_loss(gains, some, 0.5).item() == pytest.approx(-math.log(3 / 4), rel=1e-6)
    smoothed = -0.9 * math.log(3 / 4) - 0.1 * math.log(1 / 4)
    assert dpo_loss(gains, some, 0.5, 0.1).item() == pytest.approx(smoothed, rel=1e-6)


def test_huge_differences_cost_what_they_should() -> None:
    losses = pair_losses(torch.tensor([200.0, -200.0]))
    assert losses.tolist() == pytest.approx([0.0, 200.0])


def test_no_pair_is_no_loss() -> None:
    rewards = torch.zeros(1, requires_grad=True)
    loss = ranking_loss(rewards, pairs([]))
    loss.backward()
    assert loss.item() == 0 and rewards.grad is not None and rewards.grad.tolist() == [0.0]


def test_dpo_loss_agrees_with_torchtune(tmp_path: Path) -> None:
    python = os.environ.get("HUMPTY_TRL_PYTHON")
    if not python:
        pytest.skip("HUMPTY_TRL_PYTHON names no Python with torchtune")
    draw = np.random.default_rng(5)
    policy, reference = draw.normal(-20, 5, (2, 64, 2)).astype(np.float32)
    given = {"settings": np.array([0.3, 0.1]), "policy": policy, "reference": reference}
    np.savez(tmp_path / "given.npz", **given)
    script, paths = Path(__file__).with_name("preference_peers.py"), ("given.npz", "found.npz")
    subprocess.run([python, script, *paths], check=True, cwd=tmp_path)
    expected = np.load(tmp_path / "found.npz")

    logprobs = torch.from_numpy(policy).requires_grad_()
    gains = (logprobs - torch.from_numpy(reference)).flatten()
    loss = dpo_loss(gains, pairs([[1.0, 0.0]] * 64), 0.3, 0.1)
    loss.backward()
    assert loss.item() == pytest.approx(float(expected["loss"]), rel=1e-6)
    assert logprobs.grad is not None
    assert np.allclose(logprobs.grad, expected["gradient"], atol=1e-6)

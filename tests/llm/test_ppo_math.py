"""PPO's formulas against numbers worked by hand, and against TRL's and torchtune's functions.

The comparison runs where HUMPTY_TRL_PYTHON names a Python whose environment has both:
pip install torch transformers trl==1.12.0 and pip install --no-deps torchtune.
"""

import math
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nan, tensor

from llm.ppo_math import (
    entropy,
    explained_variance,
    forbid,
    gae,
    k1,
    k3,
    kl_rewards,
    logprobs_of,
    masked_whiten,
    next_coefficient,
    policy_loss,
    value_loss,
)

MASK = tensor([[True, True, True], [True, False, False]])


def near(found: Tensor, expected: list) -> None:
    torch.testing.assert_close(found, tensor(expected), rtol=0, atol=1e-6)


# What the policy thinks of its tokens


def test_log_probabilities_of_tokens():
    logits = tensor([[[0.0, math.log(3.0)], [math.log(4.0), 0.0]]])
    near(logprobs_of(logits, tensor([[1, 1]])), [[math.log(0.75), math.log(0.2)]])


def test_temperature_flattens_the_choice():
    logits = tensor([[0.0, math.log(9.0)]])
    near(logprobs_of(logits, tensor([1]), temperature=2.0), [math.log(0.75)])  # 3 of 1 + 3
    near(entropy(logits, temperature=1e6), [math.log(2)])


def test_entropy_of_an_even_and_of_a_certain_choice():
    even, certain = [0.0, 0.0, 0.0, 0.0], [0.0, -1e9, -1e9, -1e9]
    near(entropy(tensor([even, certain])), [math.log(4), 0.0])


def test_a_forbidden_token_has_no_share_in_anything():
    logits = forbid(tensor([[1.0, 5.0, 1.0]]), [1]).requires_grad_()
    near(logprobs_of(logits, tensor([0])), [math.log(0.5)])
    found = entropy(logits)
    near(found, [math.log(2)])
    found.sum().backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_slices_of_rows_make_no_difference():
    logits, ids = torch.randn(3, 199, 7), torch.randint(7, (3, 199))
    expected = logits.log_softmax(-1).gather(-1, ids[..., None])[..., 0]
    torch.testing.assert_close(logprobs_of(logits, ids), expected)
    torch.testing.assert_close(
        entropy(logits), torch.distributions.Categorical(logits=logits).entropy()
    )


# What it costs to move away from the reference


def test_estimators_of_divergence():
    logprobs, reference = tensor([math.log(0.5), math.log(0.2)]), tensor([math.log(0.25)] * 2)
    near(k1(logprobs, reference), [math.log(2), math.log(0.8)])
    near(k3(logprobs, reference), [0.5 - 1 + math.log(2), 1.25 - 1 - math.log(1.25)])


def test_both_estimators_have_the_divergence_as_mean():
    p, q = torch.randn(2, 9, dtype=torch.float64).log_softmax(-1)
    divergence = torch.nn.functional.kl_div(q, p, reduction="sum", log_target=True)
    for estimate in (k1, k3):
        torch.testing.assert_close((p.exp() * estimate(p, q)).sum(), divergence)


@given(st.floats(-10, 0), st.floats(-10, 0))
def test_k3_is_never_negative(p: float, q: float):
    assert k3(tensor(p, dtype=torch.float64), tensor(q, dtype=torch.float64)) >= 0


def test_each_token_pays_for_its_divergence_and_the_last_one_bears_the_score():
    logprobs = tensor([[-1.0, -2.0, -0.5], [-1.0, nan, nan]])
    reference = tensor([[-1.5, -1.0, -0.5], [-3.0, nan, nan]])
    found = kl_rewards(tensor([2.0, -1.0]), logprobs, reference, MASK, 0.1)
    near(found, [[-0.05, 0.1, 2.0], [-1.2, 0.0, 0.0]])


def test_an_answer_without_tokens_is_a_bug():
    empty = torch.zeros(1, 2, dtype=torch.bool)
    with pytest.raises(AssertionError, match="no token"):
        kl_rewards(tensor([1.0]), torch.zeros(1, 2), torch.zeros(1, 2), empty, 0.1)


@pytest.mark.parametrize(
    ("kl", "expected"),
    [
        (6.0, 0.1),  # on target
        (6.6, 0.1 * (1 + 0.1 * 0.064)),  # a tenth above, 64 answers of 1000
        (600.0, 0.1 * (1 + 0.2 * 0.064)),  # far above: no more than 0.2
        (0.0, 0.1 * (1 - 0.2 * 0.064)),
        (-5.0, 0.1 * (1 - 0.2 * 0.064)),
    ],
)
def test_the_controller_moves_the_price_by_a_bounded_error(kl: float, expected: float):
    found = next_coefficient(0.1, kl, target=6.0, horizon=1000, answers=64)
    assert found == pytest.approx(expected, abs=1e-12)


# Advantages


def test_advantages_of_two_tokens():
    # delta = (1 + 0.9 * 2 - 0.5, 3 - 2) = (2.3, 1); first: 2.3 + 0.9 * 0.8 * 1 = 3.02
    mask = torch.ones(1, 2, dtype=torch.bool)
    advantages, returns = gae(tensor([[1.0, 3.0]]), tensor([[0.5, 2.0]]), mask, 0.9, 0.8)
    near(advantages, [[3.02, 1.0]])
    near(returns, [[3.52, 3.0]])


def test_nothing_behind_an_answer_counts():
    rewards, values = (
        tensor([[1.0, 3.0, 7.0], [2.0, nan, 9.0]]),
        tensor([[0.5, 2.0, 1.0], [4.0, 8.0, nan]]),
    )
    advantages, returns = gae(rewards, values, MASK, 1.0, 1.0)
    near(advantages, [[10.5, 8.0, 6.0], [-2.0, 0.0, 0.0]])
    near(returns, [[11.0, 10.0, 7.0], [2.0, 0.0, 0.0]])


@given(st.floats(0, 1), st.integers(0, 5))
def test_lambda_1_makes_returns_of_discounted_rewards(gamma: float, seed: int):
    rewards, values = torch.randn(
        2, 1, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    _, returns = gae(rewards, values, torch.ones(1, 6, dtype=torch.bool), gamma, 1.0)
    expected = sum(gamma**t * rewards[0, t] for t in range(6))
    torch.testing.assert_close(returns[0, 0], expected)


@given(st.integers(0, 5))
def test_lambda_0_looks_one_token_ahead(seed: int):
    rewards, values = torch.randn(2, 1, 6, generator=torch.Generator().manual_seed(seed))
    advantages, _ = gae(rewards, values, torch.ones(1, 6, dtype=torch.bool), 0.9, 0.0)
    near(advantages[0, 2], (rewards[0, 2] + 0.9 * values[0, 3] - values[0, 2]).item())


def test_whitening():
    # 1, 2, 6 and 7: mean 4, variance (9 + 4 + 4 + 9) / 3
    x = tensor([[1.0, 2.0, 6.0], [7.0, nan, 99.0]])
    deviation = math.sqrt(26 / 3)
    near(
        masked_whiten(x, MASK),
        [[-3 / deviation, -2 / deviation, 2 / deviation], [3 / deviation, 0.0, 0.0]],
    )
    near(masked_whiten(x, MASK, shift_mean=False)[1], [3 / deviation + 4, 0.0, 0.0])


def test_equal_values_and_a_single_one_are_whitened_to_0():
    near(masked_whiten(torch.full((2, 3), 5.0), MASK), [[0.0] * 3] * 2)
    near(masked_whiten(tensor([[5.0]]), tensor([[True]])), [[0.0]])


def test_explained_variance():
    returns, mask = tensor([[1.0, 2.0, 3.0, nan]]), tensor([[True, True, True, False]])
    assert explained_variance(returns, returns, mask) == 1
    assert explained_variance(returns + 5, returns, mask) == 1  # an offset is no variance
    assert explained_variance(torch.zeros(1, 4), returns, mask) == 0
    assert explained_variance(-returns, returns, mask) == -3  # errors 2, 4, 6: variance 4
    assert explained_variance(returns, torch.ones(1, 4), mask) == 0


# Losses


def test_the_policys_loss_is_clipped_on_the_side_of_its_gain():
    # ratios 1.5, 0.5, 1.5, 0.5, 1.1 with clip 0.2
    ratio = tensor([[1.5, 0.5, 1.5, 0.5, 1.1, nan]])
    advantages = tensor([[2.0, 2.0, -2.0, -2.0, 1.0, nan]])
    logprobs = ratio.log().requires_grad_()
    mask = tensor([[True] * 5 + [False]])
    found = policy_loss(logprobs, torch.zeros(1, 6), advantages, mask, 0.2)
    # -2.4 (clipped), -1.0, 3.0, 1.6 (clipped), -1.1
    near(found.loss, 0.1)
    assert found.clipped == 2
    expected = sum(r - 1 - math.log(r) for r in (1.5, 0.5, 1.5, 0.5, 1.1))
    near(found.approx_kl, expected)
    found.loss.backward()
    near(logprobs.grad, [[0.0, -1.0, 3.0, 0.0, -1.1, 0.0]])


def test_on_the_first_pass_the_gradient_is_that_of_the_plain_policy_gradient():
    logprobs = torch.randn(2, 3).requires_grad_()
    advantages = torch.randn(2, 3)
    policy_loss(logprobs, logprobs.detach(), advantages, MASK, 0.2).loss.backward()
    torch.testing.assert_close(logprobs.grad, -advantages * MASK)


def test_the_critics_loss_takes_the_larger_error():
    # old 0, clip 0.5; values 1, 0.2, -2 for returns 1, 1, -1
    values = tensor([[1.0, 0.2, -2.0, nan]]).requires_grad_()
    returns, mask = tensor([[1.0, 1.0, -1.0, nan]]), tensor([[True, True, True, False]])
    found = value_loss(values, torch.zeros(1, 4), returns, mask, 0.5)
    # free 0, 0.64, 1; clipped to 0.5, 0.2, -0.5: 0.25, 0.64, 0.25
    near(found.loss, 0.5 * (0.25 + 0.64 + 1.0))
    assert found.clipped == 1
    found.loss.backward()
    near(values.grad, [[0.0, -0.8, -1.0, 0.0]])


@given(st.integers(1, 5))
def test_losses_of_parts_add_up(cut: int):
    x = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(cut), dtype=torch.float64)
    mask = torch.arange(5) < tensor([[1], [2], [3], [4], [5], [5]])
    for loss in (policy_loss, value_loss):
        whole = loss(*x[:3], mask, 0.2)
        parts = [loss(*x[:3, rows], mask[rows], 0.2) for rows in (slice(cut), slice(cut, None))]
        for total, *pieces in zip(whole, *parts, strict=True):
            torch.testing.assert_close(total, sum(pieces))


# Against other people's


SETTINGS = {"coefficient": 0.07, "gamma": 0.97, "lam": 0.93, "clip": 0.2, "value_clip": 0.3}


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, dict]:
    """Random tensors, and what TRL and torchtune make of them."""
    python = os.environ.get("HUMPTY_TRL_PYTHON")
    if not python:
        pytest.skip("HUMPTY_TRL_PYTHON names no Python with TRL 1.12 and torchtune")
    folder, draw = tmp_path_factory.mktemp("peers"), np.random.default_rng(7)
    old = draw.normal(-2, 1, (16, 24)).astype(np.float32)
    given = {
        "settings": np.array(list(SETTINGS.values())),
        "mask": np.arange(24) < draw.integers(1, 25, (16, 1)),
        "scores": draw.normal(size=16).astype(np.float32),
        "logprobs": old,
        "reference": old + draw.normal(0, 0.3, old.shape).astype(np.float32),
        "new_logprobs": old + draw.normal(0, 0.3, old.shape).astype(np.float32),
        "values": draw.normal(size=old.shape).astype(np.float32),
        "new_values": draw.normal(size=old.shape).astype(np.float32),
        "logits": draw.normal(0, 3, (16, 24, 31)).astype(np.float32),
        "ids": draw.integers(0, 31, (16, 24)),
    }
    np.savez(folder / "given.npz", **given)
    script = Path(__file__).with_name("ppo_peers.py")
    paths = [folder / "given.npz", folder / "found.npz"]
    environment = os.environ | {"TRL_EXPERIMENTAL_SILENCE": "1"}
    subprocess.run([python, script, *paths], check=True, env=environment)
    as_tensors = [
        {k: torch.from_numpy(v) for k, v in x.items()} for x in (given, np.load(paths[1]))
    ]
    return as_tensors[0], as_tensors[1]


def test_everything_agrees_with_trl_and_torchtune(peers: tuple[dict, dict]):
    x, expected = peers
    mask, s = x["mask"], SETTINGS
    rewards = kl_rewards(x["scores"], x["logprobs"], x["reference"], mask, s["coefficient"])
    raw, returns = gae(rewards, x["values"], mask, s["gamma"], s["lam"])
    advantages = masked_whiten(raw, mask)
    new, values = x["new_logprobs"].requires_grad_(), x["new_values"].requires_grad_()
    policy = policy_loss(new, x["logprobs"], advantages, mask, s["clip"])
    value = value_loss(values, x["values"], returns, mask, s["value_clip"])
    tokens = mask.sum()
    ((policy.loss + value.loss) / tokens).backward()
    found = {
        "rewards": rewards,
        "returns": returns,
        "advantages": advantages,
        "scaled": masked_whiten(rewards, mask, shift_mean=False),
        "policy_loss": policy.loss / tokens,
        "value_loss": value.loss / tokens,
        "clipped": policy.clipped / tokens,
        "policy_gradient": new.grad,
        "value_gradient": values.grad,
        "token_logprobs": logprobs_of(x["logits"], x["ids"], 0.7),
        "entropy": entropy(x["logits"]),
    }
    assert found.keys() == expected.keys()
    for name, tensor_ in found.items():
        torch.testing.assert_close(tensor_, expected[name], rtol=1e-6, atol=1e-6, msg=name)

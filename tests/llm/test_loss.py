"""The loss that never holds all logits, against torch's with all of them at once."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from llm.config import ModelConfig
from llm.loss import ROWS, Drift, head_loss
from llm.memory import ROWS_OF_LOSS
from llm.model import Transformer
from llm.native import LANES

N, D, V = 2 * ROWS + 37, 8, 2 * LANES + 5
"""Two slices and a rest; vectors and a rest."""


def problem(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Features, head and targets, some of them ignored."""
    torch.manual_seed(0)
    features = torch.randn(N, D, dtype=dtype, requires_grad=True)
    weight = torch.randn(V, D, dtype=dtype, requires_grad=True)
    return features, weight, torch.randint(-1, V, (N,))


def whole(features: Tensor, weight: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """All logits at once."""
    losses = F.cross_entropy(F.linear(features, weight), targets, ignore_index=-1, reduction="none")
    return (losses * weights).sum()


def test_loss_and_gradients_are_those_of_all_rows_at_once():
    features, weight, targets = problem()
    weights = torch.rand(N)
    got = head_loss(features, weight, targets, weights)
    expected = whole(features, weight, targets, weights)
    torch.testing.assert_close(got.double(), expected, rtol=1e-6, atol=0)
    both = [torch.autograd.grad(3 * loss, (features, weight)) for loss in (got, expected)]
    for one, other in zip(*both, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_the_loss_by_hand():
    # Logits ln(1, 2, 1): probabilities 1/4, 1/2, 1/4; targets 1, none, 0, 2 of weights 1, 1, 1, 3.
    weight = torch.tensor([[1.0], [2.0], [1.0]]).log()
    targets, weights = torch.tensor([[1, -1, 0, 2]]), torch.tensor([[1.0, 1.0, 1.0, 3.0]])
    loss = head_loss(torch.ones(1, 4, 1), weight, targets, weights)
    assert loss.item() == pytest.approx(math.log(2) + 4 * math.log(4))


def test_the_price_of_drift_is_minimised_and_not_in_the_loss():
    features, weight, targets = problem()
    drift, counted = Drift(0.25), targets != -1
    loss = head_loss(features, weight, targets, drift=drift)
    log_z = F.linear(features, weight).logsumexp(-1)[counted]
    expected = whole(features, weight, targets, torch.ones(N))
    assert loss.item() == pytest.approx(expected.item())
    gradients = torch.autograd.grad(loss, (features, weight))
    priced = torch.autograd.grad(expected + 0.25 * (log_z**2).sum(), (features, weight))
    for one, other in zip(gradients, priced, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    price, count = drift.take()
    assert price == pytest.approx(0.25 * (log_z**2).sum().item())
    assert (count, drift.take()) == (counted.sum(), (0.0, 0.0))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_gradients_are_as_near_the_truth_as_those_of_all_rows_at_once(precision: str):
    truth, ones = problem(), torch.ones(N)
    exact = torch.autograd.grad(whole(*truth, ones), truth[:2])
    features, weight, targets = problem(torch.float64)
    features, weight = (one.detach().float().requires_grad_() for one in (features, weight))
    errors = []
    for loss_of in (head_loss, whole):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = loss_of(features, weight, targets, ones)
        assert loss.dtype == torch.float32
        gradients = torch.autograd.grad(loss, (features, weight))
        assert {one.dtype for one in gradients} == {torch.float32}
        errors.append([float((a - b).norm()) for a, b in zip(gradients, exact, strict=True)])
    assert all(own < 1.05 * other for own, other in zip(*errors, strict=True))


@pytest.mark.parametrize("learning", ["features", "weight"])
def test_what_is_frozen_gets_no_gradient(learning: str):
    features, weight, targets = problem()
    frozen = weight if learning == "features" else features
    frozen.requires_grad_(False)
    head_loss(features, weight, targets).backward()
    assert frozen.grad is None
    assert (features if learning == "features" else weight).grad is not None


def test_no_targets_and_no_rows_cost_nothing():
    features, weight, targets = problem()
    for count in (N, 0):
        loss = head_loss(features[:count], weight, torch.full_like(targets[:count], -1))
        loss.backward()
        assert loss.item() == 0 and not weight.grad.any()


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_compiled_whole_has_the_loss_and_gradients_of_a_plain_one(tied: bool):
    model = Transformer(ModelConfig(depth=1, width=8, heads=2, hidden=8, context=8, tied=tied), 11)
    ids, targets = torch.randint(11, (2, 2, 8))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    found = []
    for one in (model, compiled):
        loss = one(ids, targets)
        gradients = torch.autograd.grad(loss, [*model.parameters()])
        found.append((loss.item(), [gradient.clone() for gradient in gradients]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    torch.testing.assert_close(found[0][1], found[1][1])


def test_the_plan_knows_how_many_rows_are_taken_at_a_time():
    assert ROWS == ROWS_OF_LOSS

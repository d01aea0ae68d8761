"""Experts: who computes what, the price of using them unevenly, and the same update however it is
cut. That logits and the gradient of the price are Mixtral's says tests/llm/test_parity.py."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm.config import ModelConfig
from llm.experts import Experts, Routing, Sorted, unevenness, watched
from llm.model import Transformer

SHAPE = {"depth": 2, "width": 16, "heads": 2, "hidden": 24, "context": 12, "tied": False}
VOCAB = 19


@pytest.fixture(autouse=True)
def _one_thread_and_a_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def config(**choices) -> ModelConfig:
    return ModelConfig(**(SHAPE | {"experts": 6} | choices))  # type: ignore[arg-type]


def experts(**choices) -> Experts:
    made = Experts(config(**choices))
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made


def one_by_one(layer: Experts, x: Tensor) -> Tensor:
    """The same, token by token."""
    rows = []
    for token in x.flatten(0, -2):
        probabilities = layer.router(token).softmax(-1)
        shares, chosen = probabilities.topk(layer.each)
        made = torch.zeros_like(token)
        for share, expert in zip(shares / shares.sum(), chosen.tolist(), strict=True):
            inner = layer.up.weight[expert] @ token
            if layer.gate is None:
                inner = layer.activation(inner)
            else:
                inner = inner * layer.activation(layer.gate.weight[expert] @ token)
            made = made + share * (layer.out.weight[expert] @ inner)
        rows.append(made)
    return torch.stack(rows).view(x.shape)


@pytest.mark.parametrize("mlp", ["swiglu", "relu2"])
@pytest.mark.parametrize("each", [1, 3])
def test_groups_compute_what_single_tokens_do_gradients_included(mlp: str, each: int) -> None:
    layer = experts(mlp=mlp, experts_per_token=each)
    x = torch.randn(2, 5, 16, requires_grad=True)
    found, expected = layer(x), one_by_one(layer, x)
    torch.testing.assert_close(found, expected)
    weight, inputs = torch.randn_like(found), [x, *layer.parameters()]
    gradients = [torch.autograd.grad((made * weight).sum(), inputs) for made in (found, expected)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_a_token_alone_is_what_it_is_among_others() -> None:
    layer, x = experts(), torch.randn(7, 16)
    torch.testing.assert_close(torch.cat([layer(one) for one in x.split(1)]), layer(x))


def test_who_is_not_chosen_gets_no_gradient() -> None:
    layer, x = experts(), torch.randn(1, 16)
    layer(x).sum().backward()
    chosen = layer.router(x).topk(2).indices[0].tolist()
    for stacked in (layer.gate, layer.up, layer.out):
        touched = stacked.weight.grad.flatten(1).any(1).nonzero().flatten().tolist()
        assert touched == sorted(chosen)


def test_under_autocast_products_are_bf16_and_close() -> None:
    layer, x = experts(), torch.randn(4, 5, 16)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(x)
    assert found.dtype == torch.float32  # as the shares are, and the residual stream
    torch.testing.assert_close(found, layer(x), atol=0.1, rtol=0.1)


def test_sorting_is_undone_by_its_inverse_gradients_included() -> None:
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    order = torch.tensor([5, 0, 3, 1, 4, 2])  # of 3 rows, twice each
    back = order.argsort()
    there = Sorted.apply(x, order, back, 2)
    assert torch.equal(Sorted.apply(there, back, order, 1), x.repeat_interleave(2, 0))
    assert torch.autograd.gradcheck(lambda rows: Sorted.apply(rows, order, back, 2), (x,))


# The price of using them unevenly


def routing(probabilities: Tensor, each: int) -> Routing:
    return Routing(probabilities, probabilities.topk(each).indices)


def test_even_use_costs_the_experts_per_token_and_one_for_all_the_number_of_experts() -> None:
    even = torch.eye(4)[None] * 0.2 + 0.2  # 4 tokens, each with a favourite of its own
    counted = torch.ones(1, 4, dtype=torch.bool)
    assert unevenness(routing(even, 1), counted).item() == pytest.approx(4 * 1)
    one = torch.tensor([1.0, 0, 0, 0]).expand(1, 4, 4)
    assert unevenness(routing(one, 1), counted).item() == pytest.approx(4 * 4)


def test_tokens_that_do_not_count_have_no_price() -> None:
    probabilities = torch.randn(2, 5, 4).softmax(-1)
    counted = torch.tensor([[True, True, True, False, False], [False] * 5])
    alone = unevenness(routing(probabilities[:1, :3], 2), counted[:1, :3])
    torch.testing.assert_close(unevenness(routing(probabilities, 2), counted), alone)


def test_rows_have_their_prices_by_themselves() -> None:
    probabilities, counted = torch.randn(3, 5, 4).softmax(-1), torch.rand(3, 5) < 0.7
    rows = zip(probabilities.split(1), counted.split(1), strict=True)
    parts = [unevenness(routing(*(one, 2)), these) for one, these in rows]
    whole = unevenness(routing(probabilities, 2), counted)
    torch.testing.assert_close(whole, torch.stack(parts).sum())


# In a model


def model(**choices) -> Transformer:
    made = Transformer(config(**choices), VOCAB).train()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return made


def test_the_loss_is_told_without_the_price_and_validation_has_none() -> None:
    plain, priced = model(balance=0.0), model(balance=5.0)
    priced.load_state_dict(plain.state_dict())
    ids, targets = torch.randint(VOCAB, (2, 3, 12))
    losses = [one(ids, targets) for one in (plain, priced)]
    assert losses[0].item() == losses[1].item()
    gradients = [
        torch.autograd.grad(loss, one.blocks[0].mlp.router.weight)[0]
        for loss, one in zip(losses, (plain, priced), strict=True)
    ]
    assert not torch.allclose(*gradients)
    evaluated = [one.eval()(ids, targets) for one in (plain, priced)]
    gradients = [
        torch.autograd.grad(loss, one.blocks[0].mlp.router.weight)[0]
        for loss, one in zip(evaluated, (plain, priced), strict=True)
    ]
    assert torch.equal(*gradients)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_gradient_of_a_batch_is_the_sum_of_those_of_its_rows(weighted: bool) -> None:
    made = model(balance=0.5)
    ids, targets = torch.randint(VOCAB, (2, 4, 12))
    targets = targets.masked_fill(torch.rand(4, 12) < 0.3, -1)
    weights = torch.rand(4, 12) * (torch.rand(4, 12) < 0.6) if weighted else None
    whole = torch.autograd.grad(made(ids, targets, weights=weights), list(made.parameters()))
    for row in range(4):
        own = None if weights is None else weights[row, None]
        made(ids[row, None], targets[row, None], weights=own).backward()
    for parameter, expected in zip(made.parameters(), whole, strict=True):
        torch.testing.assert_close(parameter.grad, expected, atol=1e-5, rtol=1e-4)


def test_nothing_is_remembered_of_a_pass() -> None:
    made = model()
    made(*torch.randint(VOCAB, (2, 3, 12))).backward()
    made.features(torch.randint(VOCAB, (3, 12)))
    assert all(block.mlp.routing is None for block in made.blocks)


def test_a_training_with_the_price_uses_experts_evenly() -> None:
    """All tokens alike to begin with: without the price the first favourite would stay it."""
    busiest = {}
    for price in (0.0, 0.1):
        torch.manual_seed(3)
        made = Transformer(config(depth=1, balance=price, experts_per_token=1), VOCAB)
        with torch.no_grad():
            made.blocks[0].mlp.router.weight[0] += 0.3
        optimizer = torch.optim.AdamW(made.parameters(), lr=1e-2)
        for _ in range(60):
            ids = torch.randint(VOCAB, (8, 13))
            made(ids[:, :-1], ids[:, :-1]).div(96).backward()
            optimizer.step()
            optimizer.zero_grad()
        with watched(made) as layers, torch.no_grad():
            made.features(torch.randint(VOCAB, (64, 12)))
            share = F.one_hot(layers[0].routing.chosen, 6).float().mean((0, 1, 2))
        busiest[price] = share.max().item()
    assert busiest[0.1] < 0.4 < busiest[0.0] + 0.1, busiest

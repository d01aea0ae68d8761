"""The schedule at every corner, by hand; which parameters decay; one update of AdamW, by hand."""

import math

import pytest
import torch
from torch import nn

from llm.config import ModelConfig, OptimConfig
from llm.model import Transformer
from llm.optim import groups_of, learning_rate, make_optimizer, set_rate


def rates(steps: int, **settings) -> list[float]:
    config = OptimConfig(**({"lr": 1.0} | settings))
    return [learning_rate(step, steps, config) for step in range(steps + 1)]


def test_cosine_by_hand():
    # Warm-up 1/2, 1; then from 1 to 0.2 over 4 steps: 0.2 + 0.8 (1 + cos(pi k / 4)) / 2.
    half_root = math.sqrt(0.5)
    expected = [0.5, 1.0, 1.0, 0.6 + 0.4 * half_root, 0.6, 0.6 - 0.4 * half_root, 0.2]
    assert rates(6, schedule="cosine", warmup=2, final_lr=0.2) == pytest.approx(expected)


def test_wsd_by_hand():
    # The last 40% of 10 steps is a line from 1 at step 6 to 0.2 at step 10.
    expected = [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2]
    settings = {"schedule": "wsd", "warmup": 2, "decay": 0.4, "final_lr": 0.2}
    assert rates(10, **settings) == pytest.approx(expected)


def test_wsd_begins_to_decay_only_after_warm_up():
    # Decay of 90% would begin at step 1; warm-up lasts to step 2.
    expected = [0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0.0]
    settings = {"schedule": "wsd", "warmup": 2, "decay": 0.9, "final_lr": 0.0}
    assert rates(10, **settings) == pytest.approx(expected)


def test_wsd_without_decay_stays_at_the_peak_to_the_last_update():
    assert rates(3, schedule="wsd", warmup=0, decay=0.0)[:3] == [1.0, 1.0, 1.0]


def test_linear_by_hand():
    expected = [0.5, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2]
    assert rates(6, schedule="linear", warmup=2, final_lr=0.2) == pytest.approx(expected)


def test_inverse_square_root_by_hand():
    # Update 4 is the first behind warm-up, update 16 in all halves the rate.
    found = rates(16, schedule="inverse_sqrt", warmup=4)
    assert found[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, math.sqrt(4 / 5)])
    assert found[15] == pytest.approx(0.5)


def test_constant_by_hand():
    assert rates(4, schedule="constant", warmup=2) == [0.5, 1.0, 1.0, 1.0, 1.0]


def test_the_peak_scales_everything():
    settings = {"schedule": "cosine", "warmup": 3, "final_lr": 0.1}
    scaled = [3e-4 * rate for rate in rates(9, **settings)]
    assert rates(9, lr=3e-4, **settings) == pytest.approx(scaled)


@pytest.mark.parametrize("schedule", ["cosine", "wsd", "constant"])
def test_without_warm_up_the_first_update_takes_the_peak(schedule):
    assert rates(5, schedule=schedule, warmup=0)[0] == 1.0


@pytest.mark.parametrize("schedule", ["cosine", "wsd", "constant"])
def test_warm_up_longer_than_training_never_ends(schedule):
    assert rates(3, schedule=schedule, warmup=4) == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
def test_warm_up_as_long_as_training_ends_at_the_peak(schedule):
    assert rates(2, schedule=schedule, warmup=2)[:2] == [0.5, 1.0]


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
def test_after_the_last_step_the_final_rate_stays(schedule):
    config = OptimConfig(lr=1.0, schedule=schedule, warmup=1, final_lr=0.1)
    assert learning_rate(50, 10, config) == pytest.approx(0.1)


def test_a_final_rate_of_zero_wastes_no_update():
    assert min(rates(5, warmup=0, final_lr=0.0)[:5]) > 0


def model(**choices) -> Transformer:
    settings = {"depth": 2, "width": 8, "heads": 2, "hidden": 12, "context": 4, "bias": True}
    return Transformer(ModelConfig(**(settings | choices)), 11)


def names(built: nn.Module, group: dict) -> set[str]:
    inside = {id(parameter) for parameter in group["params"]}
    return {name for name, parameter in built.named_parameters() if id(parameter) in inside}


def test_matrices_and_embeddings_decay_and_vectors_do_not():
    built = model(positions="learned", norm="layernorm")
    decayed, kept = groups_of(built, OptimConfig(weight_decay=0.1))
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)
    assert {"embedding.weight", "positions.weight"} <= names(built, decayed)
    assert "blocks.0.attention.qkv.weight" in names(built, decayed)
    assert all("norm" in name or "bias" in name for name in names(built, kept))


@pytest.mark.parametrize("tied", [True, False])
def test_every_parameter_is_in_one_group_once(tied):
    built = model(tied=tied)
    grouped = [
        id(p) for group in groups_of(built, OptimConfig(weight_decay=0.1)) for p in group["params"]
    ]
    assert sorted(grouped) == sorted(id(p) for p in built.parameters())
    assert len(grouped) == len(set(grouped))


def test_matrices_in_layers_learn_the_slower_the_wider_the_model_is():
    built = model(width=16, positions="learned")
    groups = groups_of(built, OptimConfig(weight_decay=0.1, lr_width=4))
    scales = {name: group["scale"] for group in groups for name in names(built, group)}
    assert {scales["embedding.weight"], scales["positions.weight"], scales["norm.weight"]} == {1.0}
    assert {scales["blocks.0.attention.qkv.weight"], scales["blocks.1.mlp.out.weight"]} == {0.25}
    optimizer = make_optimizer(built, OptimConfig(lr=1e-2, lr_width=4))
    for group in optimizer.param_groups:
        set_rate(group, 8e-3)
    assert [group["lr"] for group in optimizer.param_groups] == [8e-3, 2e-3, 8e-3]


def test_frozen_parameters_are_left_out():
    built = model()
    built.embedding.weight.requires_grad_(False)
    decayed, _ = groups_of(built, OptimConfig(weight_decay=0.1))
    assert "embedding.weight" not in names(built, decayed)


def test_the_first_update_by_hand():
    # AdamW's first step is lr x sign(gradient), after weights shrink by lr x decay.
    layer = nn.Linear(1, 1)
    nn.init.constant_(layer.weight, 2.0)
    nn.init.constant_(layer.bias, 2.0)
    optimizer = make_optimizer(layer, OptimConfig(lr=0.1, weight_decay=0.5))
    layer.weight.grad, layer.bias.grad = torch.tensor([[3.0]]), torch.tensor([-7.0])
    optimizer.step()
    assert layer.weight.item() == pytest.approx(2 * (1 - 0.1 * 0.5) - 0.1)
    assert layer.bias.item() == pytest.approx(2 + 0.1)


def test_the_optimizer_has_the_configs_numbers():
    config = OptimConfig(lr=0.01, betas=(0.8, 0.9), eps=1e-6)
    group = make_optimizer(model(), config).param_groups[0]
    assert (group["lr"], group["betas"], group["eps"]) == (0.01, (0.8, 0.9), 1e-6)
    assert group["fused"]

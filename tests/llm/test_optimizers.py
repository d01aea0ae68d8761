"""Muon, Lion, Adafactor: first steps by hand, trajectories against others' code, exact resume."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from llm import checkpoint
from llm.checkpoint import Position
from llm.config import ModelConfig, OptimConfig
from llm.model import Transformer
from llm.muon import blocks_of, direction, orthogonal
from llm.optim import groups_of, make_optimizer, set_rate

KINDS = ("adamw", "muon", "lion", "adafactor")
SHAPE = {"depth": 2, "width": 8, "heads": 2, "hidden": 12, "context": 4, "bias": True}


def model(**choices: Any) -> Transformer:
    torch.manual_seed(0)
    return Transformer(ModelConfig(**(SHAPE | choices)), 11)


class Layer(nn.Module):
    """One matrix inside a layer, and a vector."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList([nn.Linear(columns, rows)])


def steps(built: nn.Module, optimizer: torch.optim.Optimizer, count: int, seed: int = 0) -> None:
    """Updates with gradients that a seed decides."""
    draw = torch.Generator().manual_seed(seed)
    for _ in range(count):
        for parameter in built.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=draw)
        optimizer.step()


# Muon


def test_orthogonal_moves_all_singular_values_near_one_and_keeps_their_vectors():
    torch.manual_seed(0)
    for shape in ((12, 40), (40, 12), (3, 16, 8)):
        matrix = torch.randn(shape)
        u, s, v = torch.linalg.svd(orthogonal(matrix), full_matrices=False)
        assert s.min() > 0.5 and s.max() < 1.3
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        nearest = left @ right
        assert ((u @ v - nearest).norm() / nearest.norm()) < 1e-3


def test_an_update_has_entries_of_the_size_of_adams():
    torch.manual_seed(0)
    for shape in ((64, 64), (32, 128), (128, 32)):
        size = direction(torch.randn(shape), torch.float32).square().mean().sqrt().item()
        assert size == pytest.approx(0.2, rel=0.25)


def test_muon_takes_the_steps_of_torchs():
    own, other = Layer(12, 20), Layer(12, 20)
    config = OptimConfig(kind="muon", lr=0.03, weight_decay=0.2)
    optimizer = make_optimizer(own, config, "bf16")
    matrix, vector = other.blocks[0].weight, other.blocks[0].bias
    muon = torch.optim.Muon(
        [matrix], lr=0.03, weight_decay=0.2, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    adamw = torch.optim.AdamW([vector], lr=0.03, betas=(0.9, 0.95), weight_decay=0.0)
    start = matrix.detach().clone()
    for seed in range(5):
        steps(own, optimizer, 1, seed)
        for parameter, mine in zip(other.parameters(), own.parameters(), strict=True):
            parameter.grad = mine.grad.clone()
        muon.step()
        adamw.step()
    torch.testing.assert_close(own.blocks[0].bias, vector)
    apart = (own.blocks[0].weight - matrix).norm() / (matrix - start).norm()
    assert apart < 0.03  # two orders of operations in bf16
    assert (matrix - start).norm() > 0.3


def test_queries_keys_and_values_are_three_matrices():
    built = model()
    assert blocks_of("blocks.0.attention.qkv.weight", built) == [8, 8, 8]
    assert blocks_of("blocks.0.mlp.up.weight", built) == [12]
    grouped = model(kv_heads=1)
    assert blocks_of("blocks.1.attention.qkv.weight", grouped) == [8, 4, 4]
    before = built.blocks[0].attention.qkv.weight.detach().clone()
    optimizer = make_optimizer(built, OptimConfig(kind="muon", lr=1.0, weight_decay=0.0))
    steps(built, optimizer, 1)
    gradient, after = (
        built.blocks[0].attention.qkv.weight.grad,
        built.blocks[0].attention.qkv.weight,
    )
    for rows in (slice(0, 8), slice(8, 16), slice(16, 24)):
        moved = before[rows] - after[rows]
        torch.testing.assert_close(moved, direction(gradient[rows], torch.float32))


def test_muon_is_for_matrices_inside_layers_and_adamw_for_the_rest():
    built = model(positions="learned", tied=False)
    optimizer = make_optimizer(built, OptimConfig(kind="muon", lr=1e-2))
    steps(built, optimizer, 1)
    by_slots = {name: set(optimizer.state[p]) for name, p in built.named_parameters()}
    muon = {name for name, slots in by_slots.items() if slots == {"moment"}}
    adamw = {name for name, slots in by_slots.items() if slots == {"step", "exp_avg", "exp_avg_sq"}}
    assert muon == {
        name for name, p in built.named_parameters() if "blocks" in name and p.dim() > 1
    }
    assert muon | adamw == by_slots.keys()


# Lion


def test_lions_first_two_steps_by_hand():
    # b1 0.9, b2 0.5, lr 0.1, decay 0.5, weight 2: gradient 3, then -1.
    # u = sign(0.1 x 3) = 1, w = 2 x 0.95 - 0.1 = 1.8, m = 1.5;
    # u = sign(0.9 x 1.5 - 0.1) = 1, w = 1.8 x 0.95 - 0.1 = 1.61, m = 0.25.
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 2.0)
    config = OptimConfig(kind="lion", lr=0.1, betas=(0.9, 0.5), weight_decay=0.5)
    optimizer = make_optimizer(layer, config)
    for gradient, weight, moment in ((3.0, 1.8, 1.5), (-1.0, 1.61, 0.25)):
        layer.weight.grad = torch.tensor([[gradient]])
        optimizer.step()
        assert layer.weight.item() == pytest.approx(weight)
        assert optimizer.state[layer.weight]["moment"].item() == pytest.approx(moment)


# All


def away(built: nn.Module, target: list[Tensor]) -> Tensor:
    """Half the squared distance from a target."""
    pairs = zip(built.parameters(), target, strict=True)
    return sum(((p - t) ** 2).sum() for p, t in pairs) / 2  # type: ignore[return-value]


@pytest.mark.parametrize("kind", KINDS)
def test_each_finds_the_bottom_of_a_bowl(kind: str):
    built = Layer(6, 10)
    target = [torch.randn_like(p) for p in built.parameters()]
    optimizer = make_optimizer(built, OptimConfig(kind=kind, lr=1.0, weight_decay=0.0))
    start = away(built, target).item()
    for step in range(300):
        for group in optimizer.param_groups:
            set_rate(group, 0.1 * (1 - step / 300))
        optimizer.zero_grad()
        away(built, target).backward()
        optimizer.step()
    assert away(built, target).item() < 1e-3 * start


@pytest.mark.parametrize("kind", KINDS)
def test_each_goes_on_from_a_checkpoint_to_the_bit(kind: str, tmp_path: Path):
    config = OptimConfig(kind=kind, lr=1e-2)
    straight = model()
    optimizer = make_optimizer(straight, config)
    steps(straight, optimizer, 3)
    path = checkpoint.save(tmp_path, straight, optimizer, Position(step=3))
    assert {one.suffix for one in path.iterdir()} == {".safetensors", ".json"}
    resumed = model()
    other = make_optimizer(resumed, config)
    assert checkpoint.misfit(path, resumed) is None
    checkpoint.load(path, resumed, other)
    for built, by in ((straight, optimizer), (resumed, other)):
        steps(built, by, 3, seed=1)
    for one, two in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, two)


def test_moments_of_another_shape_than_the_weights_are_refused(tmp_path: Path):
    built = model()
    optimizer = make_optimizer(built, OptimConfig(kind="lion", lr=1e-2))
    steps(built, optimizer, 1)
    optimizer.state[built.embedding.weight]["moment"] = torch.zeros(11, 7)
    path = checkpoint.save(tmp_path, built, optimizer, Position(step=1))
    assert "embedding.weight/moment is (11, 7)" in str(checkpoint.misfit(path, built))


@pytest.mark.parametrize(("kind", "share"), [("adamw", 1 / 4), ("lion", 1 / 4), ("muon", 1 / 2)])
def test_rates_of_matrices_in_layers_by_width(kind: str, share: float):
    built = model(width=16)
    groups = groups_of(built, OptimConfig(kind=kind, lr=1e-2, lr_width=4))
    assert [group["scale"] for group in groups] == [1.0, share, 1.0]
    assert math.sqrt(4 / 16) == 1 / 2

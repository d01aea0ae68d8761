"""The model: equal to public ones, causal, and the same with a cache as without.

B batch, T sequence, D width, V vocabulary.
"""

import math

import pytest
import torch
from torch.nn import functional as F

from llm.attention import Attention, attend
from llm.config import ModelConfig, RopeConfig
from llm.model import Transformer
from llm.positions import rotate, rotation_table, wave_table

VOCAB = 29
POSITIONS = ["rotary", "learned", "sinusoidal"]


@pytest.fixture(autouse=True)
def _one_thread_and_a_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def small(**choices) -> Transformer:
    settings = {"depth": 2, "width": 32, "heads": 4, "hidden": 48, "context": 12} | choices
    model = Transformer(ModelConfig(**settings), VOCAB).eval()
    with torch.no_grad():  # fresh weights are small: magnify, so that mistakes show
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def tokens(batch: int, length: int) -> torch.Tensor:
    return torch.randint(VOCAB, (batch, length))


# Causality and positions


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_token_does_not_change_what_is_predicted_before_it(positions):
    model, ids = small(positions=positions), tokens(1, 12)
    changed = ids.clone()
    changed[0, 7] = (changed[0, 7] + 1) % VOCAB
    before, after = model(ids), model(changed)
    torch.testing.assert_close(before[:, :7], after[:, :7])
    assert (before[:, 7:] - after[:, 7:]).abs().amax(-1).min() > 1e-3


@pytest.mark.parametrize("positions", POSITIONS)
def test_the_order_of_earlier_tokens_matters(positions):
    model = small(positions=positions)
    there, back = model(torch.tensor([[1, 2, 3]])), model(torch.tensor([[2, 1, 3]]))
    assert (there[0, -1] - back[0, -1]).abs().max() > 1e-3


def test_rotation_turns_halves_of_a_head_by_the_position():
    # Two features, so one pair of speed 1: at position t the vector (1, 0) becomes (cos t, sin t).
    table = rotation_table(3, 2, RopeConfig())
    turned = rotate(torch.tensor([1.0, 0.0]).expand(3, 1, 2), table)[:, 0]
    expected = torch.tensor([[math.cos(t), math.sin(t)] for t in range(3)])
    torch.testing.assert_close(turned, expected)


def test_rotated_products_depend_on_the_distance_alone():
    table = rotation_table(10, 8, RopeConfig())
    query, key = (torch.randn(8).expand(10, 1, 8) for _ in range(2))
    turned_query, turned_key = rotate(query, table)[:, 0], rotate(key, table)[:, 0]
    torch.testing.assert_close(turned_query[5] @ turned_key[2], turned_query[9] @ turned_key[6])


def test_waves_by_hand():
    # Width 4: speeds 1 and 10000^(-1/2) = 1/100.
    expected = [0.0, 1.0, 0.0, 1.0], [math.sin(1), math.cos(1), math.sin(0.01), math.cos(0.01)]
    torch.testing.assert_close(wave_table(2, 4), torch.tensor(expected))


def test_attention_of_two_tokens_by_hand():
    # Scores / sqrt(1): the second token sees 0 and ln 3, so it mixes 1/4 of 8 and 3/4 of 4.
    query, key, value = (
        torch.tensor(numbers).view(1, 1, 2, 1)
        for numbers in ([5.0, 1.0], [0.0, math.log(3)], [8.0, 4.0])
    )
    torch.testing.assert_close(attend(query, key, value).flatten(), torch.tensor([8.0, 5.0]))


# The cache


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("portions", [[5, 1, 1, 1, 4], [1] * 12, [12], [3, 6, 3]])
@torch.no_grad()
def test_the_cache_changes_no_logits(positions, portions):
    model, ids = small(positions=positions), tokens(2, 12)
    cache = model.cache(batch=2)
    parts = [model(part, cache=cache) for part in ids.split(portions, dim=1)]
    assert cache.length == 12
    torch.testing.assert_close(torch.cat(parts, dim=1), model(ids), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_reset_cache_remembers_nothing():
    model, ids = small(), tokens(1, 6)
    cache = model.cache()
    model(tokens(1, 12), cache=cache)
    cache.reset()
    assert cache.length == 0
    torch.testing.assert_close(model(ids, cache=cache), model(ids))


def test_the_cache_takes_the_precision_of_the_computation():
    model = small()
    with torch.autocast("cpu", torch.bfloat16):
        assert model.cache().layers[0].keys.dtype == torch.bfloat16
    assert model.cache().layers[0].keys.dtype == torch.float32
    assert model.bfloat16().cache().layers[0].keys.dtype == torch.bfloat16


@torch.no_grad()
def test_the_cache_changes_no_logits_under_autocast():
    model, ids = small(), tokens(1, 12)
    with torch.autocast("cpu", torch.bfloat16):
        cache = model.cache()
        parts = [model(part, cache=cache) for part in ids.split([6, 1, 1, 4], dim=1)]
        whole = model(ids)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=0.2, rtol=0.05)


def test_more_tokens_than_the_context_are_a_bug():
    with pytest.raises(AssertionError, match="13 tokens in a context of 12"):
        small()(tokens(1, 13))


# Loss


def test_forward_with_targets_is_the_loss():
    model, ids, targets = small(), tokens(2, 12), tokens(2, 12)
    expected = F.cross_entropy(model(ids).flatten(0, 1), targets.flatten(), reduction="sum")
    torch.testing.assert_close(model(ids, targets), expected)
    torch.testing.assert_close(model.loss(ids, targets), expected)


def test_loss_without_any_target_is_zero_and_has_a_gradient():
    model, ids = small(), tokens(1, 12)
    loss = model(ids, torch.full_like(ids, -1))
    loss.backward()
    assert loss.item() == 0
    assert all(not parameter.grad.any() for parameter in model.parameters())


def test_under_autocast_the_loss_is_fp32_and_close():
    model, ids, targets = small(), tokens(4, 12), tokens(4, 12)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(ids, targets)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(model(ids, targets).item(), rel=0.02)


# Weights


def test_the_seed_decides_the_fresh_weights():
    def fresh(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        model = Transformer(ModelConfig(depth=1, width=8, heads=2, hidden=8, context=4), VOCAB)
        return torch.cat([parameter.flatten() for parameter in model.parameters()])

    assert torch.equal(fresh(1), fresh(1))
    assert not torch.equal(fresh(1), fresh(2))


def test_fresh_weights_have_gpt2s_spread():
    config = ModelConfig(
        depth=8, width=128, heads=2, hidden=256, context=64, positions="learned", bias=True
    )
    state = Transformer(config, 512).state_dict()
    residual = 0.02 / 4  # 16 maps write into the residual stream
    assert state["embedding.weight"].std().item() == pytest.approx(0.02, rel=0.05)
    assert state["positions.weight"].std().item() == pytest.approx(0.02, rel=0.05)
    assert state["blocks.3.attention.qkv.weight"].std().item() == pytest.approx(0.02, rel=0.05)
    assert state["blocks.3.attention.out.weight"].std().item() == pytest.approx(residual, rel=0.05)
    assert state["blocks.3.mlp.out.weight"].std().item() == pytest.approx(residual, rel=0.05)
    assert not state["blocks.3.mlp.out.bias"].any()
    assert (state["norm.weight"] == 1).all()


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_fresh_model_guesses_all_tokens_alike(positions):
    config = ModelConfig(depth=2, width=64, heads=2, hidden=64, context=32, positions=positions)
    model, ids = Transformer(config, 100), torch.randint(100, (4, 32))
    targets = torch.randint(100, (4, 32))
    assert model(ids, targets).item() / 128 == pytest.approx(math.log(100), abs=0.1)


def test_a_tied_head_has_one_name_and_tables_have_none():
    state = small(positions="rotary", tied=True).state_dict()
    assert "head.weight" not in state
    assert not [name for name in state if "table" in name]
    assert "head.weight" in small(tied=False).state_dict()


def test_dropout_acts_in_training_only():
    model, ids = small(dropout=0.5), tokens(1, 12)
    assert torch.equal(model(ids), model(ids))
    model.train()
    assert not torch.equal(model(ids), model(ids))


def test_attention_drops_connections_in_training():
    config = ModelConfig(depth=1, width=8, heads=2, hidden=8, context=4, dropout=0.5)
    attention, x = Attention(config), torch.randn(1, 4, 8)
    assert not torch.equal(attention(x), attention(x))
    attention.eval()
    assert torch.equal(attention(x), attention(x))


@pytest.mark.parametrize("positions", POSITIONS)
def test_training_on_one_sequence_learns_it(positions):
    config = ModelConfig(depth=2, width=32, heads=2, hidden=64, context=16, positions=positions)
    model, ids = Transformer(config, VOCAB), tokens(1, 17)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(100):
        loss = model(ids[:, :-1], ids[:, 1:]) / 16
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.3

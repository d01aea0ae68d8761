"""Fresh weights by their inputs: sizes by hand, and what they are for, a narrow and deep model."""

import pytest
import torch

from llm.config import ModelConfig
from llm.model import Transformer


def fresh(init: str, **shape) -> Transformer:
    """A model whose every matrix is large enough to measure its spread."""
    settings = {"depth": 4, "width": 64, "heads": 2, "hidden": 256, "context": 64} | shape
    torch.manual_seed(0)
    return Transformer(ModelConfig(init=init, **settings), 512)


def test_by_fan_in_spreads_are_those_of_the_inputs_and_layers_add_nothing():
    state = fresh("fan_in", positions="learned", bias=True, tied=False).state_dict()
    for name in ("embedding", "positions", "head", "blocks.3.attention.qkv", "blocks.0.mlp.up"):
        assert state[f"{name}.weight"].std().item() == pytest.approx(1 / 8, rel=0.05), name
    written = [value for name, value in state.items() if name.endswith("out.weight")]
    assert len(written) == 8
    assert not any(value.any() for value in written)
    assert not state["blocks.1.attention.qkv.bias"].any()


def test_by_fan_in_a_fresh_layer_changes_nothing_and_its_first_update_does():
    model = fresh("fan_in")
    x = torch.randn(1, 8, 64)
    block, rotation = model.blocks[0], model.positions(x, 0, 8)[1]
    assert torch.equal(block(x, rotation), x)
    ids = torch.randint(512, (2, 9))
    model(ids[:, :-1], ids[:, 1:]).backward()
    assert all(one.mlp.out.weight.grad.any() for one in model.blocks)


def test_the_rule_leaves_the_generator_where_gpt2s_does():
    """A rule must not change what is drawn behind it."""
    after = []
    for init in ("gpt2", "fan_in"):
        fresh(init)
        after.append(torch.rand(1))
    assert torch.equal(*after)

"""Sizes by arithmetic against hand-worked numbers and built models."""

import itertools

import pytest
import torch

from llm.config import ModelConfig
from llm.model import Transformer
from llm.size import active_parameters, flops_per_token, parameters

NANOGPT_CHAR = ModelConfig(
    depth=6,
    width=384,
    heads=6,
    hidden=1536,
    context=256,
    positions="learned",
    norm="layernorm",
    mlp="gelu",
    bias=False,
    tied=True,
    dropout=0.2,
)


def test_the_preset_of_nanogpts_character_model_has_its_parameter_count():
    """10,745,088 = numel of all parameters of karpathy/nanoGPT `GPT` (model.py), instantiated with
    config/train_shakespeare_char.py and 65 characters; it prints 10.65M, without the positions.

    embedding 65 x 384; positions 256 x 384; a layer 4 x 384^2 + 2 x 384 x 1536; 13 norms of 384.
    """
    assert parameters(NANOGPT_CHAR, 65) == {
        "token embedding": 24_960,
        "positions": 98_304,
        "attention": 3_538_944,
        "mlp": 7_077_888,
        "norms": 4_992,
        "head": 0,
    }
    assert sum(parameters(NANOGPT_CHAR, 65).values()) == 10_745_088
    assert 10_745_088 - 98_304 == 10_646_784  # the 10.65M


CHOICES = itertools.product(
    ["rotary", "learned", "sinusoidal"],
    ["rmsnorm", "layernorm"],
    ["swiglu", "gelu"],
    [False, True],
    [False, True],
)


@pytest.mark.parametrize(("positions", "norm", "mlp", "bias", "tied"), list(CHOICES))
def test_count_equals_the_built_model(positions, norm, mlp, bias, tied):
    config = ModelConfig(
        depth=2,
        width=8,
        heads=2,
        hidden=24,
        context=5,
        positions=positions,
        norm=norm,
        mlp=mlp,
        bias=bias,
        tied=tied,
    )
    built = sum(parameter.numel() for parameter in Transformer(config, 11).parameters())
    assert sum(parameters(config, 11).values()) == built


SPECIAL = [
    {"kv_heads": 1},
    {"kv_heads": 2, "bias": True},
    {"qkv_bias": True},
    {"qkv_bias": False, "bias": True},
    {"qk_norm": True, "kv_heads": 2},
    {"positions": "alibi"},
    {"positions": "none", "window": 3},
    {"mlp": "geglu"},
    {"mlp": "relu2", "bias": True},
    {"experts": 3, "experts_per_token": 1},
    {"experts": 5, "mlp": "relu", "kv_heads": 2, "qkv_bias": True},
]


@pytest.mark.parametrize("choices", SPECIAL, ids=lambda choices: "-".join(map(str, choices)))
def test_count_equals_the_built_model_of_special_parts(choices):
    settings = {"depth": 2, "width": 24, "heads": 4, "hidden": 10, "context": 5}
    config = ModelConfig(**(settings | choices))
    built = sum(parameter.numel() for parameter in Transformer(config, 11).parameters())
    assert sum(parameters(config, 11).values()) == built


def test_active_parameters_are_those_that_get_a_gradient_from_one_token():
    settings = {"depth": 2, "width": 24, "heads": 4, "hidden": 16, "context": 5, "tied": False}
    config = ModelConfig(**settings, experts=5, experts_per_token=2)
    torch.manual_seed(0)
    model = Transformer(config, 11).eval()
    model(torch.tensor([[3]]), torch.tensor([[4]])).backward()
    idle = sum(
        int((weight.grad.flatten(1) == 0).all(1).sum()) * weight[0].numel()
        for name, weight in model.named_parameters()
        if ".mlp." in name and weight.dim() == 3
    )
    assert idle == 2 * 3 * (3 * 24 * 16)  # layers, experts left out, their numbers
    total = sum(parameters(config, 11).values())
    assert active_parameters(config, 11) == total - idle


def test_flops_of_a_window_are_those_of_the_tokens_in_it():
    # Of 6 tokens in a window of 2 the middle of the first sees 1/2 more than it, the others 2:
    # under the diagonal lie 1/2 + 3/2 + 4 x 2 = 10 of 6 x 6, where a whole triangle has 18.
    whole = ModelConfig(depth=3, width=8, heads=2, hidden=16, context=6)
    near = ModelConfig(depth=3, width=8, heads=2, hidden=16, context=6, window=2)
    assert flops_per_token(whole, 5) - flops_per_token(near, 5) == 12 * 3 * 8 * (18 - 10) / 6


def test_flops_of_experts_are_those_of_the_ones_that_a_token_goes_to():
    config = ModelConfig(depth=1, width=2, heads=1, hidden=3, context=4, experts=7)
    # attention 16, router 7 x 2 = 14, two MLPs of 18, tied head 10; attention as below
    assert flops_per_token(config, vocab=5) == 6 * (16 + 14 + 36 + 10) + 48


def test_flops_of_a_token_by_hand():
    config = ModelConfig(depth=1, width=2, heads=1, hidden=3, context=4, mlp="swiglu")
    # attention 4 x 2 x 2 = 16, mlp 3 x 2 x 3 = 18, tied head 5 x 2 = 10: 44 weights, 6 FLOPs each.
    # Scores and mixing: 2 products x 2 FLOPs x 3 (forward, backward) x 4 tokens x 2 / 2 (causal).
    assert flops_per_token(config, vocab=5) == 6 * 44 + 48


def test_a_tied_head_multiplies_as_much_as_an_untied_one():
    tied, untied = (
        ModelConfig(depth=1, width=2, heads=1, hidden=3, context=4, tied=tied)
        for tied in (True, False)
    )
    assert flops_per_token(tied, vocab=5) == flops_per_token(untied, vocab=5)

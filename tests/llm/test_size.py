"""Sizes by arithmetic against hand-worked numbers, built models and what autograd really keeps."""

import itertools

import pytest
import torch

from llm.config import ModelConfig
from llm.model import Transformer
from llm.size import bytes_per_worker, flops_per_token, parameters

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


def test_weights_gradients_and_optimizer_bytes_by_hand():
    config = ModelConfig(depth=1, width=2, heads=1, hidden=3, context=4, mlp="gelu")
    # embedding 10, attention 16, mlp 12, three norms of 2: 44 parameters.
    fp32 = bytes_per_worker(config, vocab=5, micro_batch=3, bf16=False, gpu=False)
    bf16 = bytes_per_worker(config, vocab=5, micro_batch=3, bf16=True, gpu=True)
    assert (fp32["weights"], fp32["gradients"], fp32["optimizer"]) == (176, 176, 352)
    assert (bf16["weights"], bf16["gradients"], bf16["optimizer"]) == (264, 176, 352)
    assert (fp32["saving"], bf16["saving"]) == (528, 0)  # a GPU's is not where the copy is
    assert fp32["logits"] == 3 * 4 * 5 * 8
    assert bf16["logits"] == 3 * 4 * 5 * 6


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("mlp", ["gelu", "swiglu"])
def test_estimated_activations_are_within_a_quarter_of_what_autograd_keeps(mlp, bf16):
    config = ModelConfig(depth=4, width=64, heads=2, hidden=192, context=64, mlp=mlp)
    model, vocab, batch = Transformer(config, 16), 16, 4
    kept: dict[int, int] = {}
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if tensor.dim() > 2 and storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.randint(vocab, (batch, config.context))
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16), hooks:
        loss = model(ids, ids)
    estimate = bytes_per_worker(config, vocab, batch, bf16, gpu=False)["activations"]
    assert loss.requires_grad
    assert estimate == pytest.approx(sum(kept.values()), rel=0.25)

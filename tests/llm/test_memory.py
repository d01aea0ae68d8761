"""Memory by arithmetic against numbers worked by hand, what autograd keeps, what processes took."""

import itertools
from dataclasses import replace

import pytest
import torch

from llm.config import ModelConfig
from llm.memory import (
    GLIBC_GAPS,
    Kernels,
    Layout,
    gathered,
    kept_per_token,
    memory,
    processor_kernels,
    saved,
)
from llm.model import Transformer
from llm.processor import has_tiles, instructions
from llm.seconds import Machine
from tests.bench.plan import ON_CPU, TOY, predicted, train
from tests.published import PUBLISHED

SMALL = ModelConfig(depth=1, width=2, heads=1, hidden=3, context=4, mlp="gelu")
"""Embedding 10 (5 tokens), attention 16, mlp 12, three norms of 2: 44 parameters."""

BARE = Kernels(gaps=0, process=0)


def test_classes_of_one_process_by_hand():
    parts = memory(SMALL, 5, Layout(micro_batch=3, rounds=2), BARE)
    assert (parts["weights"], parts["gradients"], parts["optimizer"]) == (176, 176, 352)
    # Logits and slopes in bf16, log probabilities in fp32; the head's gradient.
    assert parts["logits"] == 3 * 4 * 5 * (2 + 2 + 4) + 10 * 4
    # Norms 2 x 4 x 2; bf16: two casts of 2, query, key and value with what the rotation left of
    # them and mixed values 6 x 2, MLP 2 x 3; the last norm 4 x 2 and its cast 2 x 2.
    assert parts["activations"] == 12 * (16 + 2 * (4 + 12 + 6) + 12)
    assert parts["buffers"] == 2 * (16 + 12 + 10)  # bf16 copies of all matrices and of the head


def test_gradients_take_the_place_of_what_a_single_micro_batch_kept():
    long = memory(SMALL, 5, Layout(micro_batch=3), BARE)
    assert long["gradients"] == 0 and long["activations"] > 0
    short = memory(replace(SMALL, context=1, width=16, hidden=48), 5, Layout(micro_batch=1), BARE)
    assert short["gradients"] > 0 and short["activations"] == short["logits"] == 0


def test_shares_of_a_shared_model_by_hand():
    layout = Layout(micro_batch=1, workers=4, shards=4)
    parts = memory(SMALL, 5, layout, BARE)
    assert (parts["weights"], parts["gradients"], parts["optimizer"]) == (44, 44, 88)
    # Two layers of 28 in bf16 and a gradient in fp32; embedding and norms with theirs in fp32.
    assert parts["buffers"] == gathered(SMALL, 5, layout, BARE) == 28 * (2 * 2 + 4) + 16 * 8
    assert saved(SMALL, 5, layout) == 12 * 44 / 4


def test_gaps_are_a_share_of_what_comes_and_goes():
    parts = memory(SMALL, 5, Layout(micro_batch=3, rounds=2), replace(BARE, gaps=0.5, process=7))
    moving = sum(parts[name] for name in ("gradients", "activations", "logits", "buffers"))
    assert parts["cache"] == moving / 2 and parts["process"] == 7


def test_computing_again_keeps_less():
    model = ModelConfig(depth=12, width=64, heads=2, hidden=192, context=64)
    none, half, full = (
        kept_per_token(model, Layout(micro_batch=1, recompute=what), BARE)
        for what in ("none", "selective", "full")
    )
    assert full < half < none


def kept_by_autograd(config: ModelConfig, batch: int, bf16: bool) -> int:
    """Bytes of tensors that wait for the backward pass, but for weights and the loss's."""
    model, vocab, tokens = Transformer(config, 16), 16, batch * config.context
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    shapes = {tuple(parameter.shape) for parameter in model.parameters()}
    copies = shapes | {shape[::-1] for shape in shapes}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        copied = tensor.dtype == torch.bfloat16 and tuple(tensor.shape) in copies
        if storage.data_ptr() not in weights and not copied:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.randint(vocab, (batch, config.context))
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16), hooks:
        loss = model(ids, ids)
    assert loss.requires_grad
    return sum(kept.values()) - 4 * tokens * vocab


KINDS = itertools.product(
    ["gelu", "swiglu"], [False, True], ["rmsnorm", "layernorm"], ["rotary", "learned"], [40, 576]
)


@pytest.mark.parametrize(("mlp", "bf16", "norm", "positions", "context"), list(KINDS))
def test_activations_are_what_autograd_keeps_within_5_percent(mlp, bf16, norm, positions, context):
    config = ModelConfig(
        depth=4,
        width=64,
        heads=2,
        hidden=192,
        context=context,
        mlp=mlp,
        norm=norm,
        positions=positions,
    )
    kernels = processor_kernels(config, bf16, has_tiles(instructions()))
    expected = 4 * context * kept_per_token(config, Layout(micro_batch=4), kernels)
    assert kept_by_autograd(config, 4, bf16) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("one", [one for one in PUBLISHED if one.gib], ids=lambda one: one.name)
def test_published_memory_within_10_percent(one):
    assert one.predicted_gib == pytest.approx(one.gib, rel=0.10)


@pytest.fixture(scope="module")
def process() -> int:
    """Bytes of a process that trains next to nothing."""
    return train(TOY).bytes


@pytest.mark.slow
@pytest.mark.parametrize("one", ON_CPU, ids=["1M", "10M", "100M"])
def test_the_peak_of_a_training_process_within_15_percent(one, process):
    one = replace(one, steps=3)  # the second saves
    measured = train(one)
    numbers, room, _ = predicted(one, process, Machine(products=((1.0, 1.0),), bandwidth=1.0))
    assert numbers == measured.parameters
    assert room == pytest.approx(measured.bytes, rel=0.15)
    beyond = measured.bytes - process
    assert room - process == pytest.approx(beyond, rel=0.30), f"gaps are not {GLIBC_GAPS}"

"""What a plan says that writing takes is what it takes."""

import pytest
import torch

from llm.config import ModelConfig
from llm.model import Transformer
from llm.native_pool import NativePool
from llm.writer import Writer
from llm.writer_memory import key_value_bytes, serving_bytes
from tests.shapes import SHAPES


def make_model(shape: str) -> Transformer:
    small = {"depth": 2, "width": 32, "heads": 2, "hidden": 48, "context": 96}
    return Transformer(ModelConfig(**(small | SHAPES[shape])), 50)


@pytest.mark.parametrize("shape", SHAPES)
def test_planned_keys_and_values_are_those_that_are_held(shape: str) -> None:
    model = make_model(shape)
    slots = Writer(model, "fp32").slots(3, 96)
    assert 3 * key_value_bytes(model.config, 96, 4) == slots.memory.nbytes
    for precision in ("fp32", "bf16", "int8"):
        pool = Writer(model, precision).pool(5)  # type: ignore[arg-type]
        if isinstance(pool, NativePool):
            planned = serving_bytes(model.config, 50, 5 * 96 + 1, precision)
            assert planned["keys and values"] == pool.memory.nbytes


def test_a_quarter_of_the_heads_of_keys_is_a_quarter_of_the_memory() -> None:
    torch.manual_seed(0)
    shape = {"depth": 1, "width": 128, "heads": 8, "hidden": 64, "context": 64}
    held = [
        Writer(Transformer(ModelConfig(**shape, kv_heads=heads), 50), "bf16").pool(2).memory.nbytes
        for heads in (8, 2)
    ]
    assert held[0] == 4 * held[1]


def test_planned_weights_count_what_is_looked_up_and_what_is_multiplied() -> None:
    config = ModelConfig(depth=1, width=32, heads=2, hidden=64, context=64)
    layer = 4 * 32 * 32 + 3 * 32 * 64 + 3 * 32
    planned = serving_bytes(config, 50, 64, "bf16")
    assert planned["weights"] == 4 * 50 * 32 + 2 * 50 * 32 + 2 * layer

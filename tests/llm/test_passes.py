"""Layers that are compiled or computed again give the numbers of plain ones."""

import shutil

import pytest
import torch
from torch import Tensor, nn

from llm.config import ModelConfig
from llm.model import Transformer
from llm.passes import (
    compile_layers,
    layers_of,
    pays,
    products_of,
    recompute_layers,
    why_not_compiled,
)
from llm.world import CPU

MODEL = ModelConfig(
    depth=2, width=32, heads=2, kv_heads=2, hidden=64, qkv_bias=False, context=16, dropout=0.2
)
IDS = torch.arange(34).reshape(2, 17) % 11


def model() -> Transformer:
    torch.manual_seed(1)
    return Transformer(MODEL, 11)


def learn(model: Transformer) -> tuple[float, list[Tensor]]:
    """The loss and the gradients of a pass whose dropout is seeded."""
    torch.manual_seed(2)
    loss = model(IDS[:, :-1], IDS[:, 1:])
    loss.backward()
    gradients = [one.grad for one in model.parameters()]
    return float(loss), [one for one in gradients if one is not None]


def kept(model: Transformer) -> int:
    """Numbers that a forward pass keeps for the backward pass."""
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(IDS[:, :-1], IDS[:, 1:])
    return sum(sizes.values())


def test_layers_computed_again_give_the_same_numbers_and_keep_less() -> None:
    plain, again = model(), model()
    recompute_layers(again)
    loss, gradients = learn(again)
    whole, others = learn(plain)
    assert loss == whole
    assert all(map(torch.equal, gradients, others))
    assert kept(again) < 0.5 * kept(plain)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++, with which torch compiles")
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("parts", [False, True])
def test_compiled_layers_learn_alike_and_generate_by_plain_code(
    parts: bool, recompute: bool
) -> None:
    plain, compiled = model(), model()
    compile_layers(compiled, parts)
    if recompute:
        recompute_layers(compiled)
    loss, gradients = learn(compiled)
    whole, others = learn(plain)
    assert loss == pytest.approx(whole, rel=1e-6)  # dropout draws are the same
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert list(compiled.state_dict()) == list(plain.state_dict())
    compiled.eval(), plain.eval()
    with torch.no_grad():
        cache = compiled.cache()
        pieces = [compiled(IDS[:1, at : at + 1], cache=cache) for at in range(5)]
        assert torch.equal(compiled(IDS[:, :9]), plain(IDS[:, :9]))
        torch.testing.assert_close(torch.cat(pieces, 1), plain(IDS[:1, :5]))


def test_layers_are_found_by_the_name_of_their_list() -> None:
    one = model()
    assert list(layers_of(one)) == list(one.blocks)
    assert products_of(one.blocks[0]) == [one.blocks[0].attention, one.blocks[0].mlp]


def test_short_trainings_are_not_compiled() -> None:
    threads = torch.get_num_threads()
    hour = 3600 * 40e9 * threads
    assert pays(hour, 1, CPU) and pays(8 * hour, 8, CPU)
    assert not pays(hour / 5, 1, CPU) and not pays(hour, 5, CPU)


def test_a_machine_without_a_compiler_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nowhere/g++")
    monkeypatch.setattr("torch.compile", broken)
    why_not_compiled.cache_clear()
    assert why_not_compiled(CPU) == "InvalidCxxCompiler: no C++ compiler"
    why_not_compiled.cache_clear()


def broken(*_: object, **__: object) -> None:
    raise RuntimeError("InvalidCxxCompiler: no C++ compiler\nand a traceback")

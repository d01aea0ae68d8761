"""Products that were laid out beforehand are those of F.linear, row by row the same."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm.activations import ACTIVATIONS
from llm.between import make_gate, make_norm
from llm.feed_forward import in_portions
from llm.native import library
from llm.products import NativeProduct, lay_out, quantized

SHAPES = [(32, 32), (64, 96), (48, 320), (256, 1000), (768, 23)]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def make(inputs: int, outputs: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(outputs, inputs) * 0.1, torch.randn(outputs), torch.randn(37, inputs)


def without_compiler(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("llm.products.library", lambda *_: None)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_products_are_those_of_f_linear(
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    inputs: int,
    outputs: int,
    with_bias: bool,
    native: bool,
) -> None:
    if not native:
        without_compiler(monkeypatch)
    weight, bias, x = make(inputs, outputs)
    added = bias if with_bias else None
    product = lay_out(weight, added, precision)  # type: ignore[arg-type]
    expected = F.linear(x, weight, added)
    x = x if precision == "fp32" else x.bfloat16()
    found = product(x).float()
    # half a step of 256 in bf16; of inputs and weights besides, of 127 in int8
    allowed = {"fp32": 1e-5, "bf16": 0.01, "int8": 0.03}[precision]
    assert found.shape == expected.shape
    assert (found - expected).norm() <= allowed * expected.norm()


@pytest.mark.parametrize("precision", ["bf16", "int8"])
@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
def test_a_row_is_the_same_in_any_company(precision: str, inputs: int, outputs: int) -> None:
    weight, bias, x = make(inputs, outputs)
    product = lay_out(weight, bias, precision)  # type: ignore[arg-type]
    if not isinstance(product, NativeProduct):
        pytest.skip("no compiler, or a processor that does not multiply bf16 or bytes")
    x = x.bfloat16()
    whole = product(x)
    for first in (0, 3, 11):
        for rows in (1, 2, 3, 4, 7, 8, 9, 12, 13, 20):
            assert torch.equal(product(x[first : first + rows]), whole[first : first + rows])


def test_where_there_are_matrix_tiles_bf16_is_left_to_onednn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("llm.products.TILES", True)
    weight, bias, x = make(64, 96)
    product = lay_out(weight, bias, "bf16")
    assert not isinstance(product, NativeProduct)
    near = F.linear(x.bfloat16(), weight.bfloat16(), bias.bfloat16())
    torch.testing.assert_close(product(x.bfloat16()), near, rtol=0.02, atol=0.02)


def test_weights_may_go_on_changing() -> None:
    weight, _, x = make(64, 96)
    for precision in ("fp32", "bf16", "int8"):
        product = lay_out(weight, None, precision)  # type: ignore[arg-type]
        rows = x if precision == "fp32" else x.bfloat16()
        before = product(rows)
        weight.add_(1.0)
        assert torch.equal(product(rows), before)
        weight.sub_(1.0)


def test_whole_numbers_are_as_near_as_they_can_be() -> None:
    weight, _, _ = make(64, 96)
    whole, scale = quantized(weight)
    assert whole.abs().max() == 127
    assert ((whole * scale[:, None] - weight).abs() <= scale[:, None] / 2 + 1e-6).all()
    assert not quantized(torch.zeros(2, 4))[0].any()


def test_a_file_that_cannot_be_compiled_is_done_without() -> None:
    assert library("attend.c", ("BF16=2", "FEATURES=nonsense")) is None


# Between products


@pytest.mark.parametrize("width", [16, 96, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_are_those_of_the_model(width: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    norm = nn.RMSNorm(width, eps=1e-5).requires_grad_(False)
    norm.weight.copy_(torch.randn(width))
    x, added = torch.randn(7, width) * 3, torch.randn(7, width).to(dtype)
    for more in (None, added):
        total = x if more is None else x + more
        found, normal = make_norm(norm, dtype)(x.clone(), more)
        torch.testing.assert_close(found, total)
        assert normal.dtype == dtype
        allowed = 1e-5 if dtype == torch.float32 else 0.01
        torch.testing.assert_close(normal.float(), norm(total), rtol=allowed, atol=allowed)


@pytest.mark.parametrize("hidden", [16, 176])
def test_the_gate_is_that_of_swiglu(hidden: int) -> None:
    torch.manual_seed(0)
    both = (torch.randn(5, 2 * hidden) * 20).bfloat16()
    both[0, :4] = torch.tensor([0.0, -0.0, 300.0, -300.0])
    gate = make_gate(hidden, both.device, torch.bfloat16)
    if gate is None:
        pytest.skip("no compiler")
    first, second = both.float().chunk(2, -1)
    torch.testing.assert_close(gate(both).float(), F.silu(first) * second, rtol=0.01, atol=1e-6)


@pytest.mark.parametrize("kind", sorted(ACTIVATIONS))
def test_a_non_linearity_is_the_same_in_any_company(kind: str) -> None:
    torch.set_num_threads(3)
    torch.manual_seed(0)
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(700, 64).to(dtype) * 3
        apply = in_portions(ACTIVATIONS[kind])
        whole = apply(x)
        torch.testing.assert_close(whole, ACTIVATIONS[kind](x))
        for first, rows in ((0, 1), (3, 5), (11, 513), (160, 540)):
            assert torch.equal(apply(x[first : first + rows]), whole[first : first + rows])

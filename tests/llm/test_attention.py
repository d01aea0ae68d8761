"""Attention by plain products is what the fused kernel computes, gradients included."""

import pytest
import torch
from torch import Tensor

import llm.attention
from llm.attention import attend, attend_by_products, document_mask


def fused(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """In double precision, where products are never taken."""
    return attend(query.double(), key.double(), value.double(), 0.0, mask)


def products(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    return attend_by_products(query, key, value, 0.0, mask)


def documents(tokens: int) -> Tensor:
    return document_mask((torch.arange(tokens) // 3).expand(2, tokens))


@pytest.mark.parametrize(("new", "seen"), [(8, 8), (1, 8), (3, 8), (1, 1)])
def test_products_agree_with_the_fused_kernel(new: int, seen: int) -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 3, new, 4), *torch.randn(2, 2, 3, seen, 4)
    mask = torch.ones(new, seen, dtype=torch.bool).tril(seen - new) if 1 < new < seen else None
    found = products(query, key, value, mask)
    torch.testing.assert_close(found.double(), fused(query, key, value, None), rtol=0, atol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_shared_keys_are_those_that_each_head_would_have(masked: bool) -> None:
    torch.manual_seed(0)
    mask = documents(8) if masked else None
    query = torch.randn(2, 6, 8, 4)
    key, value = torch.randn(2, 2, 3, 8, 4)
    own = [shared.repeat_interleave(2, dim=1) for shared in (key, value)]
    expected = fused(query, *own, mask)
    for found in (attend(query, key, value, 0.0, mask), products(query, key, value, mask)):
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_their_gradients_agree(masked: bool) -> None:
    torch.manual_seed(0)
    mask = documents(8) if masked else None
    inputs = [torch.randn(2, 3, 8, 4, requires_grad=True) for _ in range(3)]
    weight = torch.randn(2, 3, 8, 4)
    found = torch.autograd.grad((products(*inputs, mask) * weight).sum(), inputs)
    expected = torch.autograd.grad((fused(*inputs, mask) * weight).sum(), inputs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("longest", [0, 512], ids=["fused", "products"])
@pytest.mark.parametrize("masked", [False, True])
def test_in_bf16_either_way_is_close(
    longest: int, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llm.attention, "LONGEST_BY_PRODUCTS", longest)
    monkeypatch.setattr(llm.attention, "TILES", False)
    torch.manual_seed(0)
    mask = documents(8) if masked else None
    inputs = torch.randn(3, 2, 3, 8, 4).bfloat16().unbind(0)
    found = attend(*inputs, 0.0, mask)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), fused(*inputs, mask), rtol=0, atol=0.03)


def test_dropout_leaves_the_mean_as_it_is() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, 1, 1, 4)
    drawn = torch.cat([attend_by_products(query, key, value, 0.25, None) for _ in range(2000)])
    kept = drawn[..., 0] != 0
    assert kept.float().mean() == pytest.approx(0.75, abs=0.05)
    torch.testing.assert_close(drawn[kept][0], value.flatten() / 0.75)

"""Causal attention in C against torch's in fp64."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from llm import attention, causal, memory
from llm.attention import attend_by_products, first_seen, seen_mask
from llm.causal import attend_causally, available

pytestmark = pytest.mark.skipif(
    not available(64), reason="no compiler, or a processor that cannot add up products of bf16"
)

SHAPES = [(2, 3, 3, 64, 64), (2, 4, 2, 256, 64), (1, 4, 1, 100, 32), (2, 2, 2, 37, 48)]
SHAPES += [(1, 2, 2, 513, 128), (1, 3, 1, 65, 16)]
"""Texts, heads, heads of keys and values, tokens, features."""

Inputs = tuple[Tensor, Tensor, Tensor]
Way = Callable[[Tensor, Tensor, Tensor], Tensor]


PRECISIONS = [torch.bfloat16, torch.float32]
ERROR = {torch.bfloat16: 0.004, torch.float32: 2e-6}


def drawn(
    texts: int,
    heads: int,
    shared: int,
    tokens: int,
    features: int,
    dtype: torch.dtype = torch.bfloat16,
) -> Inputs:
    """Queries, keys and values as a layer's product gives them: heads side by side in memory."""
    torch.manual_seed(0)
    qkv = torch.randn(texts, tokens, heads + 2 * shared, features).to(dtype)
    query, key, value = qkv.split((heads, shared, shared), dim=2)
    return query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)


def passed(way: Way, inputs: Inputs) -> list[Tensor]:
    """What comes out, and the gradients, of something that weighs all features differently."""
    leaves = [one.detach().requires_grad_() for one in inputs]
    mixed = way(*leaves)
    weights = torch.linspace(-1, 1, mixed.numel()).view(mixed.shape)
    (mixed * weights.to(mixed.dtype)).sum().backward()
    return [mixed.detach().double(), *(one.grad.double() for one in leaves if one.grad is not None)]


def exact(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """By torch, in fp64."""
    full = query.double(), key.double(), value.double()
    causal = mask is None
    return F.scaled_dot_product_attention(*full, mask, is_causal=causal, enable_gqa=True)


def distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_near_the_truth(shape: tuple[int, int, int, int, int], dtype: torch.dtype):
    inputs = drawn(*shape, dtype)
    right = passed(exact, inputs)
    ours = passed(attend_causally, inputs)
    others = passed(lambda q, k, v: attend_by_products(q, k, v, 0.0, None), inputs)
    assert len(ours) == len(right) == 4
    for mine, theirs, true in zip(ours, others, right, strict=True):
        assert distance(mine, true) < ERROR[dtype]
        if dtype == torch.bfloat16:
            assert distance(mine, true) < distance(theirs, true), "than products in the open"


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
def test_what_is_beside_a_text_changes_no_bit_of_it(dtype: torch.dtype):
    query, key, value = drawn(3, 4, 2, 100, 32, dtype)
    together = passed(attend_causally, (query, key, value))
    alone = passed(attend_causally, (query[1:2], key[1:2], value[1:2]))
    assert torch.equal(together[0][1:2], alone[0])
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        again = passed(attend_causally, (query, key, value))
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(together, again, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
def test_no_query_sees_what_comes_after_it(dtype: torch.dtype):
    query, key, value = drawn(1, 2, 2, 80, 16, dtype)
    before = attend_causally(query, key, value)
    key[:, :, 41:], value[:, :, 41:] = 100.0, -50.0
    assert torch.equal(attend_causally(query, key, value)[:, :, :41], before[:, :, :41])


def test_torch_finds_the_operators_well_described():
    leaves = [one.detach().requires_grad_() for one in drawn(1, 2, 1, 20, 16)]
    torch.library.opcheck(torch.ops.humpty.attend_forward.default, (*leaves, None))


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("window", [0, 30])
@pytest.mark.parametrize("lengths", [(100,), (1, 16, 47, 30, 6), (64, 36), (99, 1)], ids=str)
def test_what_began_before_is_not_seen(lengths: tuple[int, ...], window: int, dtype: torch.dtype):
    inputs = drawn(2, 4, 2, 100, 32, dtype)
    documents = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))[None]
    starts = first_seen(100, window, documents)
    mask = seen_mask(0, 100, window, documents, torch.device("cpu"))
    assert starts is not None and mask is not None
    right = passed(lambda *parts: exact(*parts, mask), inputs)
    ours = passed(lambda *parts: attend_causally(*parts, starts), inputs)
    for mine, true in zip(ours, right, strict=True):
        assert distance(mine, true) < ERROR[dtype]


def test_the_reckoning_of_memory_knows_what_is_done_in_c():
    assert memory.MOST_FEATURES == causal.MOST_FEATURES
    assert memory.SHORTEST_IN_C == attention.SHORTEST_IN_C

"""Cross entropy of next tokens from what the head reads, without ever holding all logits.

A sum: dividing by the right count is the caller's business. Sums of micro-batches and workers add
up, means do not when the numbers of targets differ.

The derivative of the loss by the logits, p - 1 at the target, is known as soon as the logits are.
So rows are taken a few at a time: logits, probabilities, loss and both gradients of the head's
product, then the next; nothing of size (rows of the batch, V) exists, and nothing is computed
twice. The gradient of the head's weights, which there has to be anyway, adds up in fp32. The price:
the head's gradients are there when the backward pass begins, not behind it.
2048 rows of 384 on one thread, against all logits at once, forward and backward: V 8192 fp32 82 /
226 MB, bf16 80 / 192 MB and, with the softmax in C (loss.c), 218 / 228 ms; V 32768 fp32 210 / 575
MB, bf16 267 / 501 MB (peak of memory and process time, AVX512 without AMX).

N rows of targets, D width, V vocabulary.
"""

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from llm.native import VALUES, library

IGNORED = -1
"""Target of a position that has nothing to predict."""

ROWS = 256
"""That are taken at a time."""


class Drift:
    """How far the softmax's sum Z is from 1: what `price` (PaLM's z-loss) is put on.

    It is minimised with the loss, which is that of the targets alone; sums gather here, until they
    are taken.
    """

    def __init__(self, price: float) -> None:
        self.price = price
        self.squares: Tensor | float = 0.0
        self.count: Tensor | float = 0.0

    def add(self, squares: Tensor, count: Tensor) -> None:
        """Remember a sum of log^2 Z over so many targets."""
        self.squares = self.squares + squares
        self.count = self.count + count

    def take(self) -> tuple[float, float]:
        """Both sums since they were last taken, the first times its price."""
        sums = self.price * float(self.squares), float(self.count)
        self.squares = self.count = 0.0
        return sums


def head_loss(
    features: Tensor,
    weight: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    drift: Drift | None = None,
) -> Tensor:
    """Sum over targets other than -1 of -log p, in nats: (..., D), (V, D), (...) -> ().

    weights: (...), what each target's loss is multiplied by; none: 1. Logits are of autocast's
    precision, all else is fp32.
    """
    features, targets = features.flatten(0, -2), targets.flatten()
    counts = (targets != IGNORED).float()
    if weights is not None:
        counts = counts * weights.flatten()
    device = features.device.type
    if torch.is_autocast_enabled(device):
        features = features.to(torch.get_autocast_dtype(device))
    learns = torch.is_grad_enabled()
    price = drift.price if drift and learns else 0.0
    wanted = (learns and features.requires_grad, learns and weight.requires_grad)
    loss, squares = HeadLoss.apply(features, weight, targets, counts, price, wanted)
    if price:
        drift.add(squares, counts.sum())  # type: ignore[union-attr]
    return loss


class HeadLoss(torch.autograd.Function):
    """The loss, the sum of log^2 Z, and both gradients in one way through the rows."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        targets: Tensor,
        counts: Tensor,
        price: float,
        wanted: tuple[bool, bool],
    ) -> tuple[Tensor, Tensor]:
        by_features = torch.empty_like(features) if wanted[0] else None
        by_weight = torch.zeros_like(weight) if wanted[1] else None
        sums = torch.zeros(2, device=features.device)
        with torch.autocast(features.device.type, enabled=False):
            head = weight.to(features.dtype)
            for start in range(0, len(features), ROWS):
                rows = slice(start, start + ROWS)
                x, chosen = features[rows], targets[rows, None].clamp(min=0)
                part, slope = loss_and_slope(x @ head.T, chosen, counts[rows, None], price)
                sums += part
                if by_features is not None:
                    by_features[rows] = slope @ head
                if by_weight is not None:
                    add_product(by_weight, slope.T, x)
        ctx.save_for_backward(by_features, by_weight)
        loss, squares = sums.unbind()
        ctx.mark_non_differentiable(squares)
        return loss, squares

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        gradients = (one if one is None else one.mul_(slope) for one in ctx.saved_tensors)
        return (*gradients, None, None, None, None)


def loss_and_slope(
    logits: Tensor, chosen: Tensor, counts: Tensor, price: float
) -> tuple[Tensor, Tensor]:
    """Sums of c (-log p) and of c log^2 Z in fp32: (2,), and the derivative of what is minimised,
    loss + price x squares, by the logits, which it may replace: (rows, V), (rows, 1), (rows, 1) ->
    (rows, V).
    """
    traced = torch.compiler.is_compiling()  # then torch makes one of its own
    if logits.device.type == "cpu" and not traced and native(logits.dtype) is not None:
        return loss_and_slope_in_c(logits, chosen, counts, price)
    log_p = torch.log_softmax(logits, -1, dtype=torch.float32)
    log_p_chosen = log_p.gather(1, chosen)
    log_z = logits.gather(1, chosen).float() - log_p_chosen
    sums = torch.stack([-(counts * log_p_chosen).sum(), (counts * log_z**2).sum()])
    slope = log_p.exp_().mul_(counts * (1 + 2 * price * log_z))
    return sums, slope.scatter_add_(1, chosen, -counts).to(logits.dtype)


def loss_and_slope_in_c(
    logits: Tensor, chosen: Tensor, counts: Tensor, price: float
) -> tuple[Tensor, Tensor]:
    """The same in one way through the logits (loss.c), instead of torch's eight."""
    lose = native(logits.dtype)
    assert lose is not None
    logits, chosen, counts = logits.contiguous(), chosen.contiguous(), counts.contiguous()
    losses, log_z = torch.empty_like(counts), torch.empty_like(counts)
    given = (logits, chosen, counts, losses, log_z)
    threads = torch.get_num_threads()
    lose(*(each.data_ptr() for each in given), *logits.shape, threads, price)
    return torch.stack([(counts * losses).sum(), (counts * log_z**2).sum()]), logits


@cache
def native(dtype: torch.dtype) -> Callable[..., None] | None:
    """The function of loss.c for logits of a precision; None where it cannot be had."""
    if dtype not in VALUES:
        return None
    loaded = library("loss.c", VALUES[dtype])
    if loaded is None:
        return None
    lose: Callable[..., None] = loaded.lose
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    loaded.lose.argtypes = [pointer] * 5 + [number] * 3 + [ctypes.c_float]
    loaded.lose.restype = None
    return lose


def add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left @ right, in the precision of `total`."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right

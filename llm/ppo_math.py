"""The mathematics of PPO on answers, as functions of tensors: no model, no config, no processes.

An answer is a row; each of its tokens is an action, rewarded by how far its log-probability moved
away from the reference's and, at the answer's last token, by the score of the whole (Ziegler et
al. 2019; Ouyang et al. 2022). Losses are sums over tokens: the caller divides by the tokens of the
whole minibatch, so that it may be cut and dealt out in any way. What is outside the mask may hold
anything, NaN too, and reaches neither a result nor a gradient.

B answers, A tokens of the longest, V vocabulary. mask: (B, A) bool, true at an answer's own tokens,
which are the first of its row.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

FORBIDDEN = -1e9
"""Logit of a token that is never written. Its probability is exactly 0 in fp32, and unlike that of
-inf its product with the logit is 0, too."""

LARGEST_ERROR = 0.2
"""Of the divergence, as a share of its target, that the controller reacts to (Ziegler 2019)."""

TINY = 1e-8
"""Guard against dividing by a variance of zero."""

ROWS = 256
"""Taken at a time by `logprobs_of` and `entropy`: so many logits in fp32 stay in the cache."""


# What the policy thinks of its tokens


def forbid(logits: Tensor, never: Sequence[int]) -> Tensor:
    """Takes away, in place, the probability of tokens that are never written: (..., V)."""
    if never:
        logits[..., list(never)] = FORBIDDEN
    return logits


def logprobs_of(logits: Tensor, ids: Tensor, temperature: float = 1.0) -> Tensor:
    """log p of each token, in fp32: (..., V), (...) -> (...)."""
    parts = zip(logits.flatten(0, -2).split(ROWS), ids.flatten().split(ROWS), strict=True)
    losses = [F.cross_entropy(heated(x, temperature), y, reduction="none") for x, y in parts]
    return -torch.cat(losses).view(ids.shape)


def entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """-sum p log p in nats, in fp32: (..., V) -> (...)."""
    parts = [spread(heated(x, temperature)) for x in logits.flatten(0, -2).split(ROWS)]
    return torch.cat(parts).view(logits.shape[:-1])


def spread(logits: Tensor) -> Tensor:
    """Entropy of (rows, V); logits must be finite."""
    logprobs = logits.log_softmax(-1)
    return -(logprobs.exp() * logprobs).sum(-1)


def heated(logits: Tensor, temperature: float) -> Tensor:
    """fp32 logits at a temperature."""
    return logits.float() if temperature == 1 else logits.float() / temperature


# What it costs to move away from the reference


def k1(logprobs: Tensor, reference: Tensor) -> Tensor:
    """log p/q of what p wrote: its mean is KL(p || q), each may be negative (Schulman 2020)."""
    return logprobs - reference


def k3(logprobs: Tensor, reference: Tensor) -> Tensor:
    """q/p - 1 - log q/p: has the same mean, varies less, is never negative (Schulman 2020)."""
    return torch.expm1(reference - logprobs) - (reference - logprobs)


def kl_rewards(
    scores: Tensor, logprobs: Tensor, reference: Tensor, mask: Tensor, coefficient: float
) -> Tensor:
    """Reward of each token: (B,), (B, A) -> (B, A). Every answer has at least one token."""
    assert mask.any(1).all(), "an answer has no token that could bear its score"
    rewards = kept(-coefficient * k1(logprobs, reference), mask)
    last = mask.sum(1, keepdim=True) - 1  # (B, 1)
    return rewards.scatter_add(1, last, scores[:, None].to(rewards.dtype))


def next_coefficient(
    coefficient: float, kl: float, target: float, horizon: int, answers: int
) -> float:
    """The price of a nat after a step of `answers` (Ziegler et al. 2019, section 2.2)."""
    error = min(max(kl / target - 1, -LARGEST_ERROR), LARGEST_ERROR)
    return coefficient * (1 + error * answers / horizon)


# Advantages


def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates (Schulman et al. 2016) and the critic's targets: (B, A) each.

    delta_t = r_t + gamma V_{t+1} - V_t,  advantage_t = delta_t + gamma lam advantage_{t+1},
    and behind the answer's last token both V and the advantage are 0.
    """
    rewards, values = kept(rewards, mask), kept(values, mask)
    following = F.pad(values[:, 1:], (0, 1))
    deltas = rewards + gamma * following - values
    advantages = torch.zeros_like(deltas)
    later = torch.zeros_like(deltas[:, 0])  # (B,)
    for t in reversed(range(deltas.size(1))):
        later = deltas[:, t] + gamma * lam * later
        advantages[:, t] = later
    return advantages, advantages + values


def masked_whiten(x: Tensor, mask: Tensor, shift_mean: bool = True) -> Tensor:
    """To unit variance over all tokens, and mean 0 unless it is not to be shifted: (B, A)."""
    mean, variance = moments(x, mask)
    whitened = (x - mean) * torch.rsqrt(variance + TINY)
    return kept(whitened if shift_mean else whitened + mean, mask)


def moments(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased variance over all tokens; of a single token the variance is 0."""
    count = mask.sum()
    mean = kept(x, mask).sum() / count
    squares = kept(x - mean, mask).square().sum()
    return mean, squares / (count - 1).clamp(min=1)


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """Share of the returns' variance that the critic foresaw: 1 all, 0 none, below 0 worse."""
    _, total = moments(returns, mask)
    _, rest = moments(returns - values, mask)
    return 1 - float(rest / total) if total > 0 else 0.0


# Losses


class PolicyLoss(NamedTuple):
    """Sums over tokens: the loss, how many were clipped, KL(old || new) as k3 estimates it."""

    loss: Tensor
    clipped: Tensor
    approx_kl: Tensor


def policy_loss(
    logprobs: Tensor, old: Tensor, advantages: Tensor, mask: Tensor, clip: float
) -> PolicyLoss:
    """-min(ratio advantage, clipped ratio advantage) (Schulman et al. 2017, eq. 7): all (B, A)."""
    change = kept(logprobs - old, mask)
    advantages = kept(advantages, mask)
    ratio = change.exp()
    free = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - clip, 1 + clip)
    with torch.no_grad():
        approx_kl = kept(k3(torch.zeros_like(change), change), mask).sum()
    return PolicyLoss(torch.maximum(free, clipped).sum(), (clipped > free).sum(), approx_kl)


class ValueLoss(NamedTuple):
    """Sums over tokens: the loss, and how many were clipped."""

    loss: Tensor
    clipped: Tensor


def value_loss(
    values: Tensor, old: Tensor, returns: Tensor, mask: Tensor, clip: float
) -> ValueLoss:
    """Half the larger square of errors, the value moved freely or by at most `clip`: (B, A)."""
    values, old, returns = (kept(x, mask) for x in (values, old, returns))
    free = (values - returns).square()
    clipped = (values.clamp(old - clip, old + clip) - returns).square()
    return ValueLoss(0.5 * torch.maximum(free, clipped).sum(), (clipped > free).sum())


def kept(x: Tensor, mask: Tensor) -> Tensor:
    """0 outside the mask, whatever is there."""
    return x.masked_fill(~mask, 0)

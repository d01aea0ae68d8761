"""Prompts with their answers, and all that PPO knows about them when it begins to learn.

An answer's numbers stand in a row of their own, the first for its first token: (B, A), with a mask.
Models read whole texts, (B, T), where the token before an answer's first predicts it. The two are
never laid over each other: what a forward pass gives at `predicting` positions comes out end to
end, as N numbers, in the very order in which (B, A)[mask] has them. So the head computes logits for
answer tokens only, and short answers cost nothing.

B answers, T tokens of the longest text, A tokens of an answer at most, N answer tokens of all.
"""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from llm.packing import rounded
from llm.ppo_math import explained_variance, k1


@dataclass(frozen=True)
class Texts:
    """Prompts with answers: ids (B, T), 0 behind; prompt, length (B,): tokens, with the answer."""

    ids: Tensor
    prompt: Tensor
    length: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: Tensor) -> "Texts":
        """Some of them, padded hardly longer than they need (`llm.packing.rounded`)."""
        length = self.length[rows]
        return Texts(self.ids[rows, : rounded(int(length.max()))], self.prompt[rows], length)

    def to(self, device: torch.device) -> "Texts":
        """The same on a device."""
        return Texts(*(x.to(device) for x in (self.ids, self.prompt, self.length)))

    @property
    def inputs(self) -> Tensor:
        """What a model reads to predict all that follows: (B, T - 1)."""
        return self.ids[:, :-1]

    @property
    def predicting(self) -> Tensor:
        """Positions of `inputs` whose next token belongs to the answer: (B, T - 1) bool."""
        place = torch.arange(1, self.ids.size(1), device=self.ids.device)
        return (place >= self.prompt[:, None]) & (place < self.length[:, None])

    @property
    def targets(self) -> Tensor:
        """The tokens of all answers, end to end: (N,)."""
        return self.ids[:, 1:][self.predicting]

    def mask(self, room: int) -> Tensor:
        """Which of `room` places each answer fills: (B, A) bool."""
        place = torch.arange(room, device=self.ids.device)
        return place < (self.length - self.prompt)[:, None]

    def answers(self) -> list[list[int]]:
        """The tokens of each answer."""
        spans = zip(self.ids.tolist(), self.prompt.tolist(), self.length.tolist(), strict=True)
        return [ids[start:stop] for ids, start, stop in spans]


def texts_of(prompts: list[list[int]], answers: list[list[int]]) -> Texts:
    """Prompts and answers, joined and padded."""
    rows = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
    length = torch.tensor([len(row) for row in rows])
    ids = torch.zeros(len(rows), int(length.max()), dtype=torch.int64)
    for place, row in zip(ids, rows, strict=True):
        place[: len(row)] = torch.tensor(row)
    return Texts(ids, torch.tensor([len(prompt) for prompt in prompts]), length)


def in_slots(length: Tensor, size: int) -> list[Tensor]:
    """Rows of texts of `length` (B,) in micro batches of texts that are about equally long."""
    return list(torch.argsort(length, stable=True).split(size))


def laid_out(flat: Tensor, mask: Tensor) -> Tensor:
    """Numbers, or rows of them, in their places, 0 elsewhere: (N, ...) -> (B, A, ...)."""
    rows = flat.new_zeros(*mask.shape, *flat.shape[1:])
    rows[mask] = flat
    return rows


@dataclass(frozen=True)
class Experience:
    """The answers of a step, alike in all processes; (B, A) if nothing else is said."""

    texts: Texts
    mask: Tensor
    ended: Tensor
    """(B,) whether an answer came to its end."""
    rewards: Tensor
    """(B,) of the reward model or the rule, that of a truncated answer included."""
    written: Tensor
    """Log-probabilities as they were drawn from."""
    logprobs: Tensor
    """The same as the trainer computes them: what ratios are taken to."""
    reference: Tensor
    """Log-probabilities of the reference."""
    values: Tensor
    """What the critic expects before each token."""
    entropy: Tensor
    """Of the policy before each token, in nats."""
    advantages: Tensor
    returns: Tensor

    @property
    def kl(self) -> Tensor:
        """Estimate of each answer's divergence, in nats: (B,)."""
        return torch.where(self.mask, k1(self.logprobs, self.reference), 0.0).sum(1)

    def mean(self, x: Tensor) -> float:
        """Over all answer tokens."""
        return float(x[self.mask].mean())


def describe(experience: Experience, coefficient: float) -> dict[str, float]:
    """What the answers of a step are like."""
    e, kl = experience, float(experience.kl.mean())
    return {
        "reward": float(e.rewards.mean()),
        "score": float(e.rewards.mean()) - coefficient * kl,
        "kl": kl,
        "kl_error": float(e.kl.std(correction=0)) / len(e.kl) ** 0.5,
        "coefficient": coefficient,
        "entropy": e.mean(e.entropy),
        "length": float((e.texts.length - e.texts.prompt).float().mean()),
        "ended": float(e.ended.float().mean()),
        "mismatch": e.mean((e.written - e.logprobs).abs()),
        "same": share_of_most_frequent(e.texts.answers()),
        "explained_variance": explained_variance(e.values, e.returns, e.mask),
    }


def share_of_most_frequent(answers: list[list[int]]) -> float:
    """How many of the answers are the one that occurs most often."""
    (_, count), *_ = Counter(map(tuple, answers)).most_common(1)
    return count / len(answers)

"""Answers to many prompts at once, with the log-probability of every token that was written.

All prompts are read in one padded batch, then each step writes a token per answer; an answer that
has ended leaves the batch, and the step becomes cheaper. What an answer says depends on its prompt
and on its key alone, not on the batch that it is written in, nor on the machine's number of
processes: its uniform numbers come from PCG64 seeded with the key, and each picks a token where
the distribution function passes it.

B prompts, A tokens of an answer at most, T tokens of the longest text, V vocabulary.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from llm.ppo_math import forbid
from llm.writer import Writer

Key = tuple[int, ...]

UNIFORM_BITS = 23
"""Of a uniform number: one fewer than fp32 has, so that it stays below 1 times any sum."""


class Answers(NamedTuple):
    """Prompts with their answers, 0 behind them; all on the CPU.

    ids: (B, T) int64; prompt, length: (B,) int64, tokens of the prompt, and with the answer;
    logprobs: (B, A) fp32 of the answer's tokens, its end included, as they were drawn;
    ended: (B,) bool, whether the last token is the end.
    """

    ids: Tensor
    prompt: Tensor
    length: Tensor
    logprobs: Tensor
    ended: Tensor


def write_answers(
    writer: Writer,
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int,
    end: int,
    never: Sequence[int],
    temperature: float,
    keys: Sequence[Key],
) -> Answers:
    """An answer of 1 to `max_tokens` tokens, its `end` included, to each prompt.

    Temperature 0 takes the most probable tokens and gives their log-probabilities at 1. Tokens in
    `never` are not written, and probabilities are those without them.
    """
    assert all(prompts), "a prompt is empty"
    assert len(prompts) == len(keys), f"{len(prompts)} prompts, {len(keys)} keys"
    page = Page(prompts, max_tokens)
    room = page.ids.size(1)
    assert room <= writer.config.context, f"{room} tokens in a context of {writer.config.context}"
    uniforms = torch.from_numpy(np.stack([draw(key, max_tokens) for key in keys]))  # (B, A)
    chooser = Chooser(temperature, never)
    with torch.inference_mode():
        slots = writer.slots(len(prompts), room)
        logits = writer.read(*page.prompts(writer.device), slots)
        for step in range(max_tokens):
            tokens, logprobs = chooser(logits, uniforms[page.rows, step])
            page.add(step, tokens, logprobs)
            staying = tokens != end
            if step + 1 == max_tokens or not staying.any():
                break
            if not staying.all():
                order = slots.leave(staying.to(writer.device)).cpu()
                page.rows, tokens = page.rows[order], tokens[order]
            logits = writer.write(tokens.to(writer.device), slots)
    return page.answers(end)


class Page:
    """What has been written, and to which of its rows the batch's rows belong."""

    def __init__(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> None:
        self.prompt = torch.tensor([len(prompt) for prompt in prompts])
        self.length = self.prompt.clone()
        self.ids = torch.zeros(len(prompts), int(self.prompt.max()) + max_tokens, dtype=torch.int64)
        for row, prompt in zip(self.ids, prompts, strict=True):
            row[: len(prompt)] = torch.tensor(prompt)
        self.logprobs = torch.zeros(len(prompts), max_tokens)
        self.rows = torch.arange(len(prompts))

    def prompts(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """All prompts and their lengths: (B, T), (B,)."""
        return self.ids[:, : int(self.prompt.max())].to(device), self.prompt.to(device)

    def add(self, step: int, tokens: Tensor, logprobs: Tensor) -> None:
        """Write a token into each row that goes on."""
        self.ids[self.rows, self.length[self.rows]] = tokens
        self.logprobs[self.rows, step] = logprobs
        self.length[self.rows] += 1

    def answers(self, end: int) -> Answers:
        """All of it; the widest row has no 0 behind it."""
        ids = self.ids[:, : int(self.length.max())].clone()
        last = ids.gather(1, self.length[:, None] - 1)[:, 0]
        return Answers(ids, self.prompt, self.length, self.logprobs, last == end)


def draw(key: Key, count: int) -> np.ndarray:
    """Uniform numbers in [0, 1) that depend on the key alone: (count,) fp32."""
    bits = np.random.PCG64(list(key)).random_raw(count) >> np.uint64(64 - UNIFORM_BITS)
    return bits.astype(np.float32) * np.float32(2.0**-UNIFORM_BITS)


class Chooser:
    """Picks next tokens; what they have in common is worked out once."""

    def __init__(self, temperature: float, never: Sequence[int]) -> None:
        self.temperature, self.never = temperature, never
        self.shift = torch.empty(0)

    def __call__(self, logits: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens for logits (R, V) and their log-probabilities: (R,), (R,), on the CPU."""
        if not len(self.shift):
            self.shift = forbid(torch.zeros(logits.size(1), device=logits.device), self.never)
        # one pass: to fp32, divided by the temperature, what is forbidden out of reach
        logits = torch.add(self.shift, logits, alpha=1 / (self.temperature or 1.0))
        shares = logits.softmax(-1)  # (R, V)
        if self.temperature == 0:
            tokens = logits.argmax(-1)
        else:
            tokens = pick(shares, uniforms.to(logits.device))
        return tokens.cpu(), shares.gather(1, tokens[:, None])[:, 0].log().cpu()


def pick(shares: Tensor, uniforms: Tensor) -> Tensor:
    """Where each row's distribution function, (R, V), passes its uniform number: (R,).

    The sum of a row is 1 but for rounding, so numbers are taken as shares of that sum; none reaches
    it, so a token without a share is never picked.
    """
    heights = shares.cumsum(-1)
    return torch.searchsorted(heights, uniforms[:, None] * heights[:, -1:], right=True)[:, 0]

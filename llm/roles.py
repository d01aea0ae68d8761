"""Who does what in PPO besides learning: writing answers, and judging them.

The trainer asks through `Roles`, so it does not know whether it does these things itself (`Local`)
or actors on other machines do (cluster/ppo.py). Both call the same functions on the same micro
batches, which is why the numbers are the same. What is asked of a judge is asked at once and
fetched later, so that machines of others work while the trainer reads the answers itself.

B answers of a micro batch, N tokens of them, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from llm.chat import Template
from llm.examples import Prompt
from llm.experience import Texts
from llm.model import Transformer
from llm.ppo_math import forbid, logprobs_of
from llm.ppo_memory import WRITTEN_TOGETHER
from llm.reward import Normaliser, Scorer
from llm.rollout import Answers, Key, write_answers
from llm.rules import Rule
from llm.run import Setting
from llm.train import autocast
from llm.writer import Writer

Later = Callable[[], list[Tensor]]
"""Fetches what was asked for, one tensor a micro batch."""


@dataclass(frozen=True)
class Manner:
    """How answers are written: up to `end`, never with certain tokens."""

    end: int
    never: tuple[int, ...]
    max_tokens: int
    temperature: float


class Roles(Protocol):
    """What the trainer asks of others."""

    def write(self, prompts: list[list[int]], keys: list[Key], manner: Manner) -> list[Answers]:
        """Answers to the prompts, in their order, some at a time."""

    def reference(self, parts: list[Texts]) -> Later:
        """The reference's log-probabilities of the answers' tokens: (N,) of each part."""

    def rewards(self, parts: list[Texts], prompts: list[list[Prompt]]) -> Later:
        """What each answer is worth: (B,) of each part."""

    def follow(self, policy: Transformer) -> None:
        """Write as the policy does from now on."""


def answer_logits(model: Transformer, texts: Texts, never: Sequence[int]) -> Tensor:
    """What a model expects in place of each answer token: (N, V)."""
    features = model.features(texts.inputs)[texts.predicting]
    return forbid(model.logits(features), never)


def answer_logprobs(model: Transformer, texts: Texts, manner: Manner) -> Tensor:
    """Log-probabilities of the answers' tokens: (N,)."""
    return logprobs_of(answer_logits(model, texts, manner.never), texts.targets, manner.temperature)


class RewardModel:
    """Judges with a model: rewards in standard deviations, up to `clip` of them."""

    def __init__(self, scorer: Scorer, normaliser: Normaliser, clip: float) -> None:
        self.scorer, self.normaliser, self.clip = scorer, normaliser, clip

    def __call__(self, texts: Texts, prompts: list[Prompt]) -> Tensor:
        """(B,)."""
        rewards = self.scorer.rewards(texts.ids, texts.length)
        return self.normaliser(rewards).clamp(-self.clip, self.clip)


class RewardRule:
    """Judges with a function of texts."""

    def __init__(self, rule: Rule, template: Template) -> None:
        self.rule, self.template = rule, template

    def __call__(self, texts: Texts, prompts: list[Prompt]) -> Tensor:
        """(B,)."""
        answers = map(self.template.decode, texts.answers())
        return torch.tensor(
            [
                self.rule(prompt.question, answer, prompt.reference)
                for prompt, answer in zip(prompts, answers, strict=True)
            ]
        )


class Judge:
    """The reference, and who gives rewards."""

    def __init__(
        self, reference: Transformer, reward: RewardModel | RewardRule, manner: Manner, on: Setting
    ) -> None:
        self.model, self.reward, self.manner, self.on = reference, reward, manner, on

    @torch.no_grad()
    def reference(self, texts: Texts) -> Tensor:
        """Log-probabilities of the answers' tokens: (N,)."""
        texts = texts.to(self.on.world.device)
        with autocast(self.on.world.device, self.on.precision):
            return answer_logprobs(self.model, texts, self.manner).cpu()

    @torch.no_grad()
    def rewards(self, texts: Texts, prompts: list[Prompt]) -> Tensor:
        """(B,)."""
        texts = texts.to(self.on.world.device)
        with autocast(self.on.world.device, self.on.precision):
            return self.reward(texts, prompts).cpu()


class Local:
    """Everything in the trainer's own process."""

    def __init__(self, policy: Transformer, judge: Judge) -> None:
        self.writer = Writer(policy, judge.on.precision)
        self.judge = judge

    def write(self, prompts: list[list[int]], keys: list[Key], manner: Manner) -> list[Answers]:
        """See `Roles`."""
        return write_all(self.writer, prompts, keys, manner)

    def reference(self, parts: list[Texts]) -> Later:
        """See `Roles`."""
        return lambda: [self.judge.reference(texts) for texts in parts]

    def rewards(self, parts: list[Texts], prompts: list[list[Prompt]]) -> Later:
        """See `Roles`."""
        pairs = list(zip(parts, prompts, strict=True))
        return lambda: [self.judge.rewards(texts, asked) for texts, asked in pairs]

    def follow(self, policy: Transformer) -> None:
        """See `Roles`."""
        self.writer.refresh(policy)


def write_all(
    writer: Writer, prompts: list[list[int]], keys: list[Key], manner: Manner
) -> list[Answers]:
    """Answers to prompts, `WRITTEN_TOGETHER` at a time."""
    return [
        write_answers(
            writer,
            prompts[start : start + WRITTEN_TOGETHER],
            max_tokens=manner.max_tokens,
            end=manner.end,
            never=manner.never,
            temperature=manner.temperature,
            keys=keys[start : start + WRITTEN_TOGETHER],
        )
        for start in range(0, len(prompts), WRITTEN_TOGETHER)
    ]

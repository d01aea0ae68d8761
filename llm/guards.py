"""What goes wrong in PPO without an error, noticed by its figures: decided here, done elsewhere.

A policy that is trained against a reward finds ways to raise it that nobody meant, or breaks while
every number stays finite. `judge` looks at the figures of the answers that a step is about to learn
from, `judge_validation` at those of held-out data; both are pure and return what is wrong and what
is to be done about it, or nothing. Thresholds are `GuardConfig`'s; the reasons, in their order:

mismatch    who wrote the answers and who learns from them are not the same model
ratio       nor is the trainer itself, a moment later
negative    a mean of log p/q over what p wrote estimates a KL, so far below 0 it cannot be one
divergence  the policy has left the reference behind
entropy     the policy no longer chooses
length      answers are hardly more than their ends
same        one answer to every prompt
preference  the reward rises while the policy sides with people less and less (Gao et al. 2022)
"""

from dataclasses import asdict, dataclass, replace
from typing import Literal

from llm.align_config import GuardConfig

Action = Literal["stop", "shrink"]

NEGATIVE_KL = -0.1
"""Nats per answer; a mean below it that is also this many standard errors below 0 ..."""

CERTAIN = 4.0
"""... is no accident: 1 in 30,000 steps of a normal estimate."""

MANY = 16
"""Answers of a batch, below which two that are the same say nothing."""

SHRINKS = 4
"""The lr is halved at most that often, less one: the fourth time ends the training."""

PATIENCE = 5
"""Steps after a shrink in which nothing is judged: a smaller lr acts only on what comes."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What the answers of a step look like before anything is learned from them."""

    mismatch: float
    """Mean difference in size between the writer's log-probabilities and the trainer's."""
    kl: float
    """Mean log p/q of the answers, in nats."""
    kl_error: float
    """Standard error of that mean."""
    entropy: float
    """Nats per token."""
    length: float
    """Tokens per answer, its end included."""
    same: float
    """Share of the most frequent answer."""
    answers: int


@dataclass(frozen=True)
class Memory:
    """What guards remember from step to step; part of the checkpoint."""

    shrinks: int = 0
    shrunk_at: int = -PATIENCE
    best_preference: float = -1.0
    """Of the validations so far; -1: there was none."""
    reward_then: float = 0.0
    """The reward of that validation."""

    def to_floats(self) -> dict[str, float]:
        """As a checkpoint keeps it."""
        return {key: float(value) for key, value in asdict(self).items()}

    @classmethod
    def from_floats(cls, record: dict[str, float]) -> "Memory":
        """The inverse of `to_floats`."""
        whole = {name: int(record[name]) for name in ("shrinks", "shrunk_at")}
        return cls(**{**record, **whole})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Verdict:
    """What is wrong, in words for people, and what is to be done."""

    kind: str
    message: str
    action: Action


def judge(figures: Figures, memory: Memory, step: int, config: GuardConfig) -> Verdict | None:
    """The first thing that is wrong with the answers of `step`, if anything is."""
    if resting(memory, step):
        return None
    for kind, wrong, message in complaints(figures, config):
        if wrong:
            return verdict(kind, message, memory, config)
    return None


def resting(memory: Memory, step: int) -> bool:
    """Whether the learning rate was halved only just now."""
    return step - memory.shrunk_at < PATIENCE


def complaints(figures: Figures, config: GuardConfig) -> list[tuple[str, bool, str]]:
    """Every reason, whether it is given, and what would be said."""
    f = figures
    return [
        (
            "mismatch",
            not f.mismatch <= config.mismatch,
            f"log-probabilities of writing and training differ by {f.mismatch:.3g} nats a token "
            f"(guards.mismatch: {config.mismatch:g}); train with precision: fp32",
        ),
        (
            "negative",
            f.kl < NEGATIVE_KL and f.kl < -CERTAIN * f.kl_error,
            f"the KL estimate is {f.kl:.3g} +- {f.kl_error:.2g} nats per answer, and no KL is "
            "negative: answers are not drawn from the policy; keep temperature: 1",
        ),
        (
            "divergence",
            not f.kl <= config.kl,
            f"the policy is {f.kl:.4g} nats per answer away from the reference (guards.kl: "
            f"{config.kl:g}); raise kl.coefficient, or lower optim.lr",
        ),
        (
            "entropy",
            f.entropy < config.entropy,
            f"the policy's entropy is {f.entropy:.3g} nats per token (guards.entropy: "
            f"{config.entropy:g}); raise kl.coefficient or entropy, or lower optim.lr",
        ),
        (
            "length",
            f.length < config.length,
            f"answers have {f.length:.3g} tokens on average (guards.length: {config.length:g}); "
            "look at what the reward makes of empty answers",
        ),
        (
            "same",
            f.answers >= MANY and f.same > config.same,
            f"{f.same:.0%} of the answers are one and the same (guards.same: {config.same:g}); "
            "raise kl.coefficient or entropy, or lower optim.lr",
        ),
    ]


def judge_ratio(ratio: float, memory: Memory, step: int, config: GuardConfig) -> Verdict | None:
    """Whether the trainer disagrees with itself: before its first update every ratio is 1."""
    if resting(memory, step) or ratio <= config.mismatch:
        return None
    message = (
        f"ratios of the first minibatch differ from 1 by {ratio:.3g} on average (guards.mismatch: "
        f"{config.mismatch:g}) before anything was learned; train with precision: fp32"
    )
    return verdict("ratio", message, memory, config)


def judge_validation(
    reward: float, preference: float, memory: Memory, step: int, config: GuardConfig
) -> Verdict | None:
    """Whether the reward has risen since people's side was taken most, and that no longer is."""
    fallen = memory.best_preference - preference
    if resting(memory, step) or fallen <= config.preference or reward <= memory.reward_then:
        return None
    message = (
        f"the reward rose from {memory.reward_then:.3g} to {reward:.3g} while the share of "
        f"held-out comparisons that the policy sides with fell from {memory.best_preference:.1%} "
        f"to {preference:.1%} (guards.preference: {config.preference:g}): it learns what the "
        "reward model gets wrong; raise kl.coefficient, or compare more answers"
    )
    return verdict("preference", message, memory, config)


def verdict(kind: str, message: str, memory: Memory, config: GuardConfig) -> Verdict:
    """To shrink, where that is wished and was not done too often; else to stop."""
    again = config.action == "shrink" and memory.shrinks + 1 < SHRINKS
    return Verdict(kind, message, "shrink" if again else "stop")


def shrunk(memory: Memory, step: int) -> Memory:
    """After the learning rate was halved once more."""
    return replace(memory, shrinks=memory.shrinks + 1, shrunk_at=step)


def validated(memory: Memory, reward: float, preference: float) -> Memory:
    """After a validation."""
    if preference <= memory.best_preference:
        return memory
    return replace(memory, best_preference=preference, reward_then=reward)

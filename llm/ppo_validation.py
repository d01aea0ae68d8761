"""How a policy does on what is held out: prompts it never learned from, and people's comparisons.

A policy sides with people in a comparison if, measured from the reference, it has raised the better
answer's log-probability more than the worse one's: DPO's implicit reward (Rafailov et al. 2023).
The reference itself sides with nobody, a share of one half. If that share falls while the reward
rises, the policy follows the reward model where people do not.
"""

import numpy as np
import torch
from torch import Tensor

from llm.examples import Comparison, Comparisons, Prompt
from llm.experience import Texts, describe, in_slots, laid_out, texts_of
from llm.ppo import Ppo, together
from llm.reward_score import share_won
from llm.roles import answer_logprobs
from llm.rollout import Key
from llm.train import autocast

COMPARED = 128
"""Comparisons at most; their share then has a standard error of 4%."""

FIGURES = ("reward", "kl", "length", "ended")


class PpoValidation:
    """Held-out prompts, each answered with the same random numbers every time; comparisons."""

    def __init__(
        self, ppo: Ppo, prompts: list[Prompt], compared: "Compared | None", seed: int
    ) -> None:
        self.ppo, self.prompts, self.compared = ppo, prompts, compared
        # A fourth number keeps these keys apart from those of training.
        self.keys: list[Key] = [(seed, 0, row, 1) for row in range(len(prompts))]

    def __call__(self, coefficient: float) -> dict[str, float]:
        """Figures that are the same in all processes; none if nothing is held out."""
        figures: dict[str, float] = {}
        if self.prompts:
            experience = self.ppo.explore(self.prompts, self.keys, coefficient)
            all_figures = describe(experience, coefficient)
            figures = {name: all_figures[name] for name in FIGURES}
        if self.compared:
            figures["preference"] = self.compared.share()
        return figures


class Compared:
    """The better and the worse answer of held-out comparisons, and the reference's view of them."""

    def __init__(self, ppo: Ppo, texts: Texts) -> None:
        self.ppo, world = ppo, ppo.world
        slots = in_slots(texts.length, ppo.config.micro_batch)
        self.slots = slots[world.rank :: world.size]
        self.parts = [texts[rows] for rows in self.slots]
        self.empty = torch.zeros(len(texts))
        self.reference = sums(ppo.roles.reference(self.parts)(), self.parts)

    @torch.no_grad()
    def share(self) -> float:
        """Of comparisons in which the policy sides with people; undecided ones count half."""
        ppo = self.ppo
        policy = [self._logprobs(part) for part in self.parts]
        pairs = zip(sums(policy, self.parts), self.reference, strict=True)
        moved = together(self.slots, [p - r for p, r in pairs], self.empty, ppo.world)
        better, worse = moved.view(-1, 2).unbind(1)
        return share_won((better - worse).cpu().numpy())

    def _logprobs(self, texts: Texts) -> Tensor:
        """Of the policy, for the answers' tokens: (N,)."""
        ppo = self.ppo
        with autocast(ppo.world.device, ppo.on.precision):
            texts = texts.to(ppo.world.device)
            return answer_logprobs(ppo.models.policy, texts, ppo.manner).cpu()


def sums(flat: list[Tensor], parts: list[Texts]) -> list[Tensor]:
    """Log-probabilities of whole answers: (N,) -> (B,) each."""
    return [
        laid_out(one.double(), part.mask(part.ids.size(1))).sum(1).float()
        for one, part in zip(flat, parts, strict=True)
    ]


def best_and_worst(comparisons: Comparisons, room: int) -> Texts | None:
    """Both answers of each comparison, the better one first; longer ones than `room` are left out.

    None if there is no comparison.
    """
    chosen = [comparisons[i] for i in range(min(len(comparisons), COMPARED))]
    chosen = [one for one in chosen if max(map(len, one.sequences)) <= room]
    if not chosen:
        return None
    rows = [row for one in chosen for row in ends_of(one)]
    prompts = [one.prompt for one in chosen for _ in range(2)]
    split = [(row[:at], row[at:]) for row, at in zip(rows, prompts, strict=True)]
    return texts_of([a for a, _ in split], [b for _, b in split])


def ends_of(comparison: Comparison) -> list[list[int]]:
    """The sequences of the best and of the worst answer."""
    best, worst = int(np.argmax(comparison.scores)), int(np.argmin(comparison.scores))
    return [comparison.sequences[i].tolist() for i in (best, worst)]

"""Training a reward model: a chat model learns which answers people prefer.

InstructGPT (Ouyang et al. 2022), step 2: all strict pairs of a ranking in one batch, a few passes
at most, since comparisons are soon known by heart. At the end the rewards of good answers that were
not trained on say what the model's numbers mean (`llm.reward.Normaliser`).
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llm.align_config import RewardConfig
from llm.align_task import AlignTask
from llm.artifact import read_model, write_shape
from llm.data import Cursor
from llm.epochs import Draw
from llm.examples import Comparisons, rows_in
from llm.preference_loss import Pairs, ranking_loss
from llm.reward import Normaliser, Scorer, write_scorer
from llm.reward_data import (
    MEASURED,
    Answers,
    ComparisonPortion,
    answer_lengths,
    best_of,
    drawn,
    measure,
    pairs_in,
)
from llm.reward_score import agreement, calibration_error, rank_correlation, share_won
from llm.run import Setting
from llm.size import flops_per_token
from llm.train import autocast
from llm.world import World

REFERENCES = 256
"""Best answers whose rewards make the normaliser: held-out ones, then ones trained on."""


class RewardRecipe:
    """The task's comparisons, measured by those held out."""

    score = "loss"
    takes_best = True

    def __init__(self, task: AlignTask, setting: Setting) -> None:
        assert isinstance(task.config, RewardConfig)
        self.task, self.config, self.setting = task, task.config, setting
        model, self.tokenizer = read_model(Path(task.start))
        self.module = Scorer(model).to(setting.world.device)
        self.module.head.bias.requires_grad_(False)  # no comparison can tell what it should be
        self.flops = flops_per_token(model.config, 0)
        self.comparisons = Comparisons(rows_in(Path(task.examples), "train"))
        self.held_out = Comparisons(rows_in(Path(task.examples), "validation"))

    def announce(self, folder: Path) -> dict[str, Any]:
        """All that weights in the folder belong to; how many comparisons there are."""
        body = self.module.body
        write_shape(folder, body.config, self.tokenizer.path, body.vocab_size)
        return {"comparisons": len(self.comparisons), "held_out": len(self.held_out)}

    def portions(self, cursor: Cursor) -> Iterator[ComparisonPortion]:
        """This process's comparisons."""
        train = self.task.train
        draw = Draw(len(self.comparisons), self.config.epochs, self.task.seed)
        sizes = self.comparisons.rows.lengths("ids")
        for numbers, first, after in drawn(draw, sizes, cursor, train, self.setting.world):
            yield ComparisonPortion(
                comparisons=tuple(self.comparisons[number] for number in numbers),
                size=train.micro_batch,
                first=first,
                after=after,
                margin=self.config.margin,
            )

    def validate(self) -> dict[str, float]:
        """How the rewards of held-out answers agree with people."""
        if not len(self.held_out):
            return {}
        which = range(min(len(self.held_out), MEASURED))
        rewards = self._measure(self.held_out, which, self.setting.world)
        pairs = pairs_in(self.held_out, which, self.config.margin)
        loss = ranking_loss(torch.from_numpy(rewards), pairs).item() / len(which)
        return {"loss": loss, **judged(rewards, answer_lengths(self.held_out, which), pairs)}

    def answers(self, step: int) -> Iterable[tuple[str, str]]:
        """A reward model answers nothing."""
        return ()

    def finish(self, folder: Path, cursor: Cursor) -> dict[str, Any]:
        """Weights and normaliser."""
        normaliser = self._normaliser()
        write_scorer(folder, self.module, normaliser)
        reward = {f"reward_{name}": value for name, value in normaliser._asdict().items()}
        return {"comparisons": len(self.comparisons), **reward}

    def _normaliser(self) -> Normaliser:
        """Mean and deviation of the rewards of answers that people preferred.

        The first process works it out by itself, as it alone writes.
        """
        alone = World(0, 1, self.setting.world.device)
        rewards: list[float] = []
        for source in (self.held_out, self.comparisons):
            which = range(min(len(source), REFERENCES - len(rewards)))
            rewards.extend(best_of(source, which, self._measure(source, which, alone)))
        return Normaliser(float(np.mean(rewards)), float(np.std(rewards)) or 1.0)

    def _measure(self, comparisons: Comparisons, which: range, world: World) -> np.ndarray:
        """Rewards of all answers of some comparisons."""
        self.module.eval()
        size = self.task.train.micro_batch
        rewards = measure(comparisons, which, self._rewards, world, size)
        self.module.train()
        return rewards

    def _rewards(self, answers: Answers) -> Tensor:
        with autocast(self.setting.world.device, self.setting.precision):
            return self.module.shared(*answers[:4])


def judged(rewards: np.ndarray, lengths: np.ndarray, pairs: Pairs) -> dict[str, float]:
    """Rewards (N,) of answers of so many tokens (N,), held against people's choices."""
    won = pairs(torch.from_numpy(rewards)).numpy()
    longer = pairs(torch.from_numpy(lengths)).numpy()
    return {
        **agreement(won),
        "calibration": calibration_error(won),
        "length_correlation": rank_correlation(rewards, lengths),
        "length_baseline": share_won(longer),
    }

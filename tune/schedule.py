"""What happens to trials under way: Ray's schedulers, told our points, tokens and brackets.

All of them compare `score`, of which less is better, at equal `tokens`. Theirs is the decision;
ours is that it can be taken again after a fall: brackets go by a trial's number in place of chance,
what ended trials once reported is told again, and a step of PBT stays within the space.
"""

import math
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    PopulationBasedTraining,
    TrialScheduler,
)
from ray.tune.schedulers.pbt import _PBTTrialState

from tune.actor import WORST
from tune.config import EarlyStopConfig, PopulationConfig, SweepConfig
from tune.space import Space, perturbed
from tune.trials import Trial


def scheduler_of(
    config: SweepConfig, length: int, seed: int, ended: Iterable[Trial]
) -> TrialScheduler:
    """The scheduler of trials that take `length` tokens, which knows what ended trials reported."""
    if config.scheduler == "none":
        return FIFOScheduler()
    if config.scheduler == "pbt":
        return Population(config.space, config.population, length, seed)
    brackets = config.early.brackets if config.scheduler == "hyperband" else 1
    scheduler = EarlyStop(config.early, length, brackets)
    for trial in ended:
        scheduler.recall(trial, config)
    return scheduler


class EarlyStop(AsyncHyperBandScheduler):
    """ASHA; with several brackets asynchronous HyperBand (Li et al. 2020, section 3.3)."""

    def __init__(self, config: EarlyStopConfig, length: int, brackets: int) -> None:
        super().__init__(
            time_attr="tokens",
            metric="score",
            mode="min",
            max_t=length,
            grace_period=min(length, grace_of(config, length)),
            reduction_factor=config.reduction,
            brackets=brackets,
            stop_last_trials=False,
        )
        self.length = length

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Trials take turns in the brackets; Ray draws lots."""
        number = trial.config["number"]
        self._trial_info[trial.trial_id] = self._brackets[number % len(self._brackets)]

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """A trial that has all its tokens ends by itself, with its figures."""
        decision = super().on_trial_result(tune_controller, trial, result)
        whole = result["tokens"] >= self.length
        return TrialScheduler.CONTINUE if whole else decision

    def recall(self, trial: Trial, config: SweepConfig) -> None:
        """Know what a trial of an earlier attempt reported."""
        known = SimpleNamespace(trial_id=trial.name, config={"number": trial.number})
        self.on_trial_add(None, known)
        for report in trial.reports:
            if config.metric in report["metrics"]:
                score = score_again(report["metrics"][config.metric], config)
                self.on_trial_result(None, known, {"tokens": report["tokens"], "score": score})


def score_again(value: float | None, config: SweepConfig) -> float:
    """The score of a figure that was written down."""
    if value is None:
        return WORST
    return value if config.mode == "min" else -value


def grace_of(config: EarlyStopConfig, length: int) -> int:
    """Tokens that every trial gets."""
    return math.ceil(length / 9) if config.grace == "auto" else config.grace


class Population(PopulationBasedTraining):
    """PBT whose every step stays within the space; a copy keeps its own folder."""

    def __init__(self, space: Space, config: PopulationConfig, length: int, seed: int) -> None:
        every = math.ceil(length / 8) if config.every == "auto" else config.every
        super().__init__(
            time_attr="tokens",
            metric="score",
            mode="min",
            perturbation_interval=every,
            quantile_fraction=config.share,
            custom_explore_fn=lambda config: config,  # Ray asks for one; _get_new_config is ours
            log_config=False,
            require_attrs=False,
        )
        self.space, self.resample, self.seed = space, config.resample, seed
        self.copies = 0

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """As Ray's, which would refuse our search, fearing that it learns from changed values."""
        self._trial_state[trial] = _PBTTrialState(trial)

    def _get_new_config(self, trial: Any, trial_to_clone: Any) -> tuple[dict[str, Any], dict]:
        """This trial's name, with values next to those of the better one."""
        self.copies += 1
        better = trial_to_clone.config["point"]
        key = (self.seed, trial.config["number"], self.copies)
        return {**trial.config, "point": perturbed(self.space, better, self.resample, *key)}, {}

"""What happens to trials under way: Ray's schedulers, told our points, tokens and brackets.

All of them compare `score`, of which less is better, at equal `tokens`. Theirs is the decision;
ours is that it can be taken again after a fall: brackets go by a trial's number in place of chance,
what ended trials once reported is told again, and a step of PBT stays within the space.
"""

import math
import shutil
from pathlib import Path
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
from tune.space import chance, perturbed
from tune.trials import Trial, hold, order_copy, read_trial, read_trials


def scheduler_of(config: SweepConfig, root: Path, length: int, seed: int) -> TrialScheduler:
    """The scheduler of trials that take `length` tokens, which knows what ended trials reported."""
    if config.scheduler == "none":
        return FIFOScheduler()
    if config.scheduler == "pbt":
        return Population(config, root, length, seed)
    brackets = config.early.brackets if config.scheduler == "hyperband" else 1
    scheduler = EarlyStop(config.early, length, brackets)
    for trial in read_trials(root):
        if trial.result:
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
    """PBT. Ray says whose turn it is and who is among the best and the worst; a copy is ordered in
    the trial's own folder (order.json), where it survives falls, and stays within the space.

    Ray's way of copying, checkpoints of its own saved while trials pause, left out 8 copies of 10
    where a population takes turns (measured, 6 trials on 2 places).
    """

    def __init__(self, config: SweepConfig, root: Path, length: int, seed: int) -> None:
        super().__init__(
            time_attr="tokens",
            metric="score",
            mode="min",
            perturbation_interval=every_of(config.population, length),
            quantile_fraction=config.population.share,
            custom_explore_fn=lambda config: config,  # Ray asks for one
            log_config=False,
            require_attrs=False,
        )
        self.sweep, self.root = config, root
        self.length, self.seed, self.copies = length, seed, 0

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """As Ray's, which would refuse our search, fearing that it learns from changed values."""
        self._trial_state[trial] = _PBTTrialState(trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """A trial that has all its tokens ends as it is."""
        if result["tokens"] >= self.length:
            return TrialScheduler.CONTINUE
        return super().on_trial_result(tune_controller, trial, result)

    def _checkpoint_or_exploit(
        self, trial: Any, tune_controller: Any, upper_quantile: list, lower_quantile: list
    ) -> None:
        """Order a copy of one of the best, if the trial is among the worst."""
        states: dict[Any, Any] = self._trial_state
        better = [one for one in upper_quantile if "held" in states[one].last_result]
        if trial not in lower_quantile or not better:
            return
        self.copies += 1
        key = (self.seed, trial.config["number"], self.copies)
        chosen = better[int(chance(*key, "who") * len(better))]
        states[trial].last_perturbation_time = states[chosen].last_perturbation_time
        states[trial].last_train_time = states[chosen].last_train_time
        state = states[chosen].last_result
        point = perturbed(self.sweep.space, state["point"], self.sweep.population.resample, *key)
        mine, other = self.trial_of(trial), self.trial_of(chosen)
        order_copy(mine, other, state["held"], state["tokens"], point)

    def _save_trial_state(self, state: Any, time: int, result: dict, trial: Any) -> float:
        """As Ray's. The trial waits for its report to end, so its checkpoint is still there."""
        score = super()._save_trial_state(state, time, result, trial)
        prefix = "point/"  # results are flat by now
        point = {k.removeprefix(prefix): v for k, v in result.items() if k.startswith(prefix)}
        state.last_result = {"tokens": time, "point": point}
        if "checkpoint" in result:
            folder = self.trial_of(trial).folder / "held"
            shutil.rmtree(folder, ignore_errors=True)
            state.last_result["held"] = hold(Path(result["checkpoint"]), folder / str(time))
        return score

    def trial_of(self, trial: Any) -> Trial:
        """Ray's trial as ours."""
        return read_trial(self.root / "trials" / trial.config["name"])


def every_of(config: PopulationConfig, length: int) -> int:
    """Tokens between two comparisons."""
    return math.ceil(length / 8) if config.every == "auto" else config.every

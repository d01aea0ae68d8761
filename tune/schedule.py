"""What happens to trials under way, as decisions that Ray Tune carries out.

All of them compare `score`, of which less is better, at equal `tokens`. ASHA and HyperBand are
Ray's, made repeatable: brackets go by a trial's number in place of chance, and what ended trials
once reported is told again after a fall. PBT is our own, see there.
"""

import math
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    TrialScheduler,
)

from tune.actor import WORST
from tune.config import EarlyStopConfig, PopulationConfig, SweepConfig
from tune.space import Point, chance, perturbed
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


class Stand(NamedTuple):
    """What a trial had reached when it came to a comparison."""

    score: float
    tokens: int
    point: Point
    held: Path | None
    """Its checkpoint, under a name that stays until the next comparison."""


class Population(FIFOScheduler):
    """PBT (Jaderberg et al. 2017), all trials compared at equal tokens.

    Ray's own compares a trial with others as they are: where a population takes turns on few
    places, whoever trained last looks best, and the worst are hardly ever replaced (measured with 6
    trials on 2 places: 5 copies in place of 18). Here a trial waits, its place is given to
    others, until all that live have come as far; then the worst are told to go on as copies of the
    best. The order lies in the trial's own folder, where it survives falls.
    """

    def __init__(self, config: SweepConfig, root: Path, length: int, seed: int) -> None:
        super().__init__()
        self.space, self.config = config.space, config.population
        self.root, self.length, self.seed = root, length, seed
        self.every = self.next = every_of(config.population, length)
        self.waiting: dict[Any, Stand] = {}
        self.copies = 0

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Wait for the others, if it is time to; a trial that has all its tokens ends as it is."""
        if not self.next <= result["tokens"] < self.length or "score" not in result:
            return TrialScheduler.CONTINUE
        prefix = "point/"  # results are flat by now
        point = {k.removeprefix(prefix): v for k, v in result.items() if k.startswith(prefix)}
        stand = Stand(result["score"], result["tokens"], point, self.held(trial, result))
        self.waiting[trial] = stand
        return TrialScheduler.PAUSE

    def held(self, trial: Any, result: dict[str, Any]) -> Path | None:
        """Another name for a trial's checkpoint; its report is not over, so that is still there."""
        if "checkpoint" not in result:
            return None
        folder = self.trial_of(trial).folder / "held"
        shutil.rmtree(folder, ignore_errors=True)
        return hold(Path(result["checkpoint"]), folder / str(result["tokens"]))

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Whoever has not come to the comparison yet; if nobody is left, compare."""
        live = [trial for trial in tune_controller.get_trials() if not trial.is_finished()]
        if self.waiting and all(trial in self.waiting for trial in live):
            self.compare()
        places = [one for one in live if one.status in (RayTrial.PENDING, RayTrial.PAUSED)]
        return next((trial for trial in places if trial not in self.waiting), None)

    def compare(self) -> None:
        """Order copies of the best in place of the worst; everybody goes on."""
        ranked = sorted(self.waiting, key=lambda one: (self.waiting[one].score, number_of(one)))
        count = min(len(ranked) // 2, math.ceil(self.config.share * len(ranked)))
        best = [trial for trial in ranked[:count] if self.waiting[trial].held is not None]
        for trial in ranked[len(ranked) - count :] if best else []:
            self.copies += 1
            key = (self.seed, number_of(trial), self.copies)
            chosen = best[int(chance(*key, "who") * len(best))]
            better = self.waiting[chosen]
            assert better.held is not None
            point = perturbed(self.space, better.point, self.config.resample, *key)
            mine, other = self.trial_of(trial), self.trial_of(chosen)
            order_copy(mine, other, better.held, better.tokens, point)
        most = max(stand.tokens for stand in self.waiting.values())
        self.next = self.every * (most // self.every + 1)
        self.waiting.clear()

    def trial_of(self, trial: Any) -> Trial:
        """Ray's trial as ours."""
        return read_trial(self.root / "trials" / trial.config["name"])


def number_of(trial: Any) -> int:
    """The number of the point that Ray's trial tries."""
    return trial.config["number"]


def every_of(config: PopulationConfig, length: int) -> int:
    """Tokens between two comparisons."""
    return math.ceil(length / 8) if config.every == "auto" else config.every

"""When a whole sweep has had enough: tokens and hours, over all attempts at it."""

import time
from collections.abc import Iterable
from typing import Any

from ray.tune.stopper import Stopper

from tune.trials import Trial, seconds_at_work, spent


class Budget(Stopper):
    """Counts what trials report; Ray Tune ends all of them when it is used up."""

    def __init__(self, tokens: int | None, hours: float | None, trials: Iterable[Trial]) -> None:
        known = list(trials)
        self.tokens, self.hours = tokens, hours
        self.spent = {trial.name: spent(trial.log) for trial in known}
        self.seconds = seconds_at_work(known)
        self.begin = time.monotonic()

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Count a report; a trial by itself never has enough."""
        self.spent[result["config"]["name"]] = result["spent"]
        return False

    @property
    def used_up(self) -> str:
        """Which of them: tokens or hours; empty while neither is."""
        if self.tokens is not None and sum(self.spent.values()) >= self.tokens:
            return "tokens"
        seconds = self.seconds + time.monotonic() - self.begin
        if self.hours is not None and seconds >= 3600 * self.hours:
            return "hours"
        return ""

    def stop_all(self) -> bool:
        """Whether Ray Tune should end everything."""
        return bool(self.used_up)

"""Decisions about trials under way, without a cluster."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.tune.folders import wrote
from tests.tune.toys import PBT_SPACE, SPACE
from tune.actor import WORST
from tune.config import EarlyStopConfig, PopulationConfig, SweepConfig
from tune.schedule import EarlyStop, Population, scheduler_of
from tune.trials import ORDER, create

CONTINUE, PAUSE, STOP = "CONTINUE", "PAUSE", "STOP"


@dataclass(eq=False)
class RayTrial:
    """What a scheduler sees of a trial."""

    number: int
    name: str = ""
    status: str = "RUNNING"
    config: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.trial_id = f"ray-{self.number}"
        self.config = {"number": self.number, "name": self.name}

    def is_finished(self) -> bool:
        return self.status == "TERMINATED"


def early(**settings: Any) -> EarlyStop:
    return EarlyStop(EarlyStopConfig(**settings), 90, settings.get("brackets", 1))


def decide(scheduler: EarlyStop, number: int, tokens: int, score: float) -> str:
    trial = RayTrial(number)
    if trial.trial_id not in scheduler._trial_info:
        scheduler.on_trial_add(None, trial)
    return scheduler.on_trial_result(None, trial, {"tokens": tokens, "score": score})


def test_the_worst_two_thirds_end_at_a_rung_and_nobody_before_it() -> None:
    scheduler = early()  # rungs at 10, 30 and 90 tokens
    assert decide(scheduler, 0, 9, WORST) == CONTINUE
    assert [decide(scheduler, n, 10, score) for n, score in ((1, 1.0), (2, 2.0), (3, 0.5))] == [
        CONTINUE,
        STOP,
        CONTINUE,
    ]
    assert decide(scheduler, 4, 10, WORST) == STOP, "a diverged trial is the worst"


def test_a_trial_with_all_its_tokens_ends_by_itself() -> None:
    scheduler = early()
    assert decide(scheduler, 0, 90, 1.0) == CONTINUE
    assert decide(scheduler, 1, 90, 2.0) == CONTINUE


def test_hyperband_gives_every_third_trial_each_grace() -> None:
    scheduler = early(brackets=3)
    decide(scheduler, 0, 30, 1.0)
    assert decide(scheduler, 3, 10, 2.0) == CONTINUE
    assert decide(scheduler, 6, 10, 3.0) == STOP
    assert decide(scheduler, 1, 10, 9.0) == CONTINUE, "its bracket waits for 30 tokens"


def test_after_a_fall_a_trial_is_measured_by_those_that_ended_before(tmp_path: Path) -> None:
    wrote(tmp_path, 0, {"lr": 1e-3, "drop": 0.1, "act": "gelu"}, [3.0, 2.0])
    config = SweepConfig(space=SPACE, metric="loss", early=EarlyStopConfig(grace=2))
    fresh, told = EarlyStop(config.early, 90, 1), scheduler_of(config, tmp_path, 90, 0)
    assert isinstance(told, EarlyStop)
    assert decide(fresh, 5, 2, 2.5) == CONTINUE
    assert decide(told, 5, 2, 2.5) == STOP


# -- population ------------------------------------------------------------------------------------


@pytest.fixture
def population(tmp_path: Path) -> tuple[Population, list[RayTrial], Any]:
    config = SweepConfig(
        space=PBT_SPACE, scheduler="pbt", population=PopulationConfig(every=10, share=0.25)
    )
    scheduler = Population(config, tmp_path, 40, 0)
    folders = [create(tmp_path, n, 0, {"lr": 0.02 * (n + 1)}) for n in range(4)]
    trials = [RayTrial(trial.number, trial.name) for trial in folders]
    return scheduler, trials, SimpleNamespace(get_trials=lambda: trials)


def reach(scheduler: Population, trial: RayTrial, tokens: int, score: float) -> str:
    folder = scheduler.trial_of(trial).folder
    checkpoint = folder / "work" / "checkpoint"
    checkpoint.mkdir(parents=True, exist_ok=True)
    (checkpoint / "weights").write_text(f"{trial.number} at {tokens}")
    result = {
        "tokens": tokens,
        "score": score,
        "point/lr": 0.02 * (trial.number + 1),
        "checkpoint": str(checkpoint),
    }
    decision = scheduler.on_trial_result(None, trial, result)
    if decision == PAUSE:
        trial.status = "PAUSED"
    return decision


def test_the_worst_becomes_a_copy_of_the_best_once_all_have_come_as_far(population: Any) -> None:
    scheduler, trials, controller = population
    assert reach(scheduler, trials[0], 9, 1.0) == CONTINUE
    for trial, score in zip(trials[:3], (3.0, 1.0, 2.0), strict=True):
        assert reach(scheduler, trial, 10, score) == PAUSE
        assert scheduler.choose_trial_to_run(controller) is None, "one is still on its way"
    assert reach(scheduler, trials[3], 11, 2.5) == PAUSE
    assert scheduler.choose_trial_to_run(controller) is trials[0]
    ordered = [t for t in trials if (scheduler.trial_of(t).folder / ORDER).exists()]
    assert ordered == [trials[0]]
    order = json.loads((scheduler.trial_of(trials[0]).folder / ORDER).read_text())
    assert (order["copied"], order["tokens"]) == (trials[1].name, 10)
    assert (Path(order["start"]) / "weights").read_text() == "1 at 10"
    assert scheduler.next == 20


def test_a_trial_that_ends_or_fails_keeps_nobody_waiting(population: Any) -> None:
    scheduler, trials, controller = population
    for trial in trials[:3]:
        reach(scheduler, trial, 10, 1.0)
    trials[3].status = "TERMINATED"
    assert scheduler.choose_trial_to_run(controller) is trials[0]


def test_nobody_is_copied_at_the_end(population: Any) -> None:
    scheduler, trials, _ = population
    assert reach(scheduler, trials[0], 40, 9.0) == CONTINUE


def test_without_checkpoints_nobody_is_copied(population: Any) -> None:
    scheduler, trials, controller = population
    for trial in trials:
        result = {"tokens": 10, "score": float(trial.number), "point/lr": 0.1}
        assert scheduler.on_trial_result(None, trial, result) == PAUSE
        trial.status = "PAUSED"
    assert scheduler.choose_trial_to_run(controller) is trials[0]
    assert not any((scheduler.trial_of(t).folder / ORDER).exists() for t in trials)

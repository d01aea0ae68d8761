"""A sweep: points are chosen, trials of them run on Ray Tune, all that is known lies on disk.

    outcome = sweep(config, function, folder, length=1_000_000)

runs `function(point, folder, report)` for many points, several at a time, and can be called again
after any fall: ended trials are read, those under way go on (tune/trials.py says why not by
`Tuner.restore`). Ray Tune has the actors, their placement and the schedulers; which point comes
next, when there is enough and what is known is decided here.
"""

import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher

from llm.errors import Stopped, TrainingError
from tune.actor import Function, Job, TrialActor
from tune.budget import Budget
from tune.config import SweepConfig
from tune.results import known_points, points_of
from tune.schedule import scheduler_of
from tune.search import Search, search_of, trials_of
from tune.trials import Trial, create, end, read_trial, read_trials

SETTINGS = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # paths of a spec are relative to where the driver stands
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # csv, json and TensorBoard files of its own
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a report without validation has no score
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one prints a banner whatever `verbose` says
    "TUNE_FORCE_TRIAL_CLEANUP_S": "60",  # for a trial to come to its next report and end there
}

HEAD = "node:__internal_head__"
"""What the head node of every cluster has 1 of."""

FALLS = 3
"""Of a trial's process, before the trial counts as failed. An exception fails at once."""

Watch = Callable[[Trial], None]
"""Is told of every trial that began, reported or ended."""


@dataclass(frozen=True)
class Needs:
    """What one trial takes of the cluster: its own process, and workers that it starts itself."""

    cpus: float = 1.0
    gpus: float = 0.0
    """Of its own process; a fraction shares a device with others."""
    workers: int = 0
    worker_cpus: float = 1.0
    worker_gpus: float = 0.0
    stream_cpus: float = 0.0
    """Besides the workers, for what feeds them."""

    @property
    def total(self) -> Mapping[str, float]:
        """All of it together."""
        return {
            "CPU": self.cpus + self.workers * self.worker_cpus + self.stream_cpus,
            "GPU": self.gpus + self.workers * self.worker_gpus,
        }


ONE_CPU = Needs()


def sweep(
    config: SweepConfig,
    function: Function,
    folder: Path,
    *,
    length: int,
    seed: int = 0,
    needs: Needs = ONE_CPU,
    watch: Watch = lambda trial: None,
) -> list[Trial]:
    """All trials, each ended. `length`: tokens of a whole trial. Needs a connection to Ray, unless
    everything has ended already."""
    folder = folder.resolve()
    known = read_trials(folder)
    budget = Budget(config.tokens, config.hours, known)
    feed = Feed(config, search_of(config, seed), folder, budget, watch)
    if feed.remaining and not budget.used_up:
        run(config, feed, Job(function, folder, config.metric, config.mode), length, seed, needs)
    trials = read_trials(folder)
    for trial in trials:
        if trial.status == "unfinished":
            if not budget.used_up:
                raise Stopped("stopped; the same command goes on with the trials under way")
            end(trial, "stopped", by=budget.used_up)
    trials = read_trials(folder)
    if all(trial.status == "failed" for trial in trials):
        first = trials[0].result["error"]
        for trial in trials:
            (trial.folder / "result.json").unlink()  # what was wrong with all of them can be mended
        raise TrainingError(f"all {len(trials)} trials failed; {trials[0].folder} with {first}")
    return trials


def run(config: SweepConfig, feed: "Feed", job: Job, length: int, seed: int, needs: Needs) -> None:
    """Let Ray Tune run what is left to do."""
    os.environ.update(SETTINGS)
    at_once = concurrency(config, needs, ray.cluster_resources())
    # A population exists as a whole and takes turns, so only resources say how many run at once:
    # shares of the one that every cluster has once.
    share = turn_of(at_once) if config.scheduler == "pbt" else 0.0
    actor = tune.with_resources(
        tune.with_parameters(TrialActor, job=job),
        {"CPU": needs.cpus, "GPU": needs.gpus, HEAD: share},
    )
    storage = job.root / ".ray-tune"
    shutil.rmtree(storage, ignore_errors=True)
    tuner = tune.Tuner(
        actor,
        tune_config=tune.TuneConfig(
            search_alg=feed,
            scheduler=scheduler_of(config, job.root, length, seed),
            num_samples=feed.remaining,
            max_concurrent_trials=None if config.scheduler == "pbt" else at_once,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(storage),
            stop=feed.budget,
            failure_config=tune.FailureConfig(max_failures=FALLS),
            verbose=0,
        ),
    )
    tuner.fit()
    shutil.rmtree(storage, ignore_errors=True)


def turn_of(at_once: int) -> float:
    """A share of 1 that so many trials, 99 at most, find room for, and not one more."""
    return math.floor(10_000 / min(at_once, 99)) / 10_000


def concurrency(config: SweepConfig, needs: Needs, cluster: Mapping[str, float]) -> int:
    """Trials at the same time: as many as there is room for, at least one."""
    if config.concurrent != "auto":
        return config.concurrent
    rooms = [cluster.get(kind, 0) / amount for kind, amount in needs.total.items() if amount]
    return max(1, int(min(rooms, default=1) + 1e-9))


class Feed(Searcher):
    """Hands Ray Tune the next trial, and writes down what became of the last."""

    def __init__(
        self, config: SweepConfig, search: Search, root: Path, budget: Budget, watch: Watch
    ) -> None:
        super().__init__(metric="score", mode="min")
        self.sweep, self.choose, self.root = config, search, root
        self.budget, self.watch = budget, watch
        known = [
            create(root, one.number, seed, one.trials[0].first)  # a fall may have left out seeds
            for one in points_of(read_trials(root))
            for seed in range(config.seeds)
        ]
        self.waiting = [trial for trial in known if not trial.result]
        self.number = 1 + max((trial.number for trial in known), default=-1)
        self.running: dict[str, Trial] = {}

    @property
    def remaining(self) -> int:
        """Trials that are yet to run."""
        return len(self.waiting) + max(0, trials_of(self.sweep) - self.number) * self.sweep.seeds

    def suggest(self, trial_id: str) -> Any:
        """The next trial: one under way, another seed of a point, or a new point."""
        if self.budget.used_up or not (self.waiting or self.add_point()):
            return Searcher.FINISHED
        trial = self.waiting.pop(0)
        self.running[trial_id] = trial
        self.watch(trial)
        return {"name": trial.name, "number": trial.number, "point": trial.point}

    def add_point(self) -> bool:
        """Choose one more point; False if there is none."""
        if self.number >= trials_of(self.sweep):
            return False
        point = self.choose(self.number, known_points(read_trials(self.root), self.sweep))
        if point is None:
            return False
        seeds = range(self.sweep.seeds)
        self.waiting += [create(self.root, self.number, seed, point) for seed in seeds]
        self.number += 1
        return True

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """A report."""
        self.watch(read_trial(self.running[trial_id].folder))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """The trial has ended: by itself, in an error, or because it was to end."""
        trial = read_trial(self.running.pop(trial_id).folder)
        if error:
            message = f"its process ended {FALLS + 1} times; the logs of Ray say why"
            end(trial, "failed", error=message)
        elif not trial.result:
            end(trial, "stopped", by=self.budget.used_up or self.sweep.scheduler)
        self.watch(read_trial(trial.folder))

    def __getstate__(self) -> dict[str, Any]:
        """Ray Tune writes down what it was given; nobody reads that, and a console has locks."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: what is known lies in the folders of the trials."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""

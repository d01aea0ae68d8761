"""Sweeps on Ray Tune: optima found, budgets kept, falls survived, failures shown."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llm.errors import TrainingError
from tests.tune.toys import (
    LENGTH,
    PBT_LENGTH,
    PBT_SPACE,
    SPACE,
    annealed,
    best_without_change,
    broken,
    training,
)
from tune.budget import Budget
from tune.config import DimensionConfig, PopulationConfig, SweepConfig
from tune.results import best, front, points_of
from tune.search import search_of
from tune.space import draw
from tune.sweep import Feed, Needs, concurrency, sweep, turn_of
from tune.trials import read_trials, spent

ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.ray


def config(**changes: object) -> SweepConfig:
    settings = {"space": SPACE, "metric": "loss", "scheduler": "none", "search": "random"}
    return SweepConfig(**{**settings, "trials": 6, "concurrent": 2, **changes})  # type: ignore[arg-type]


@pytest.mark.usefixtures("ray_cluster")
def test_a_grid_finds_its_best_point_and_tries_each_once(tmp_path: Path) -> None:
    space = {
        "lr": DimensionConfig(grid=(1e-4, 5e-3, 1e-1)),
        "drop": DimensionConfig(grid=(0.1,)),
        "act": DimensionConfig(choice=("relu", "gelu")),
    }
    spec = config(space=space, search="grid", trials="auto")
    trials = sweep(spec, training(), tmp_path, length=LENGTH)
    assert len({json.dumps(trial.point) for trial in trials}) == len(trials) == 6
    found = best(trials, spec)
    assert found is not None
    assert found.point == {"lr": 5e-3, "drop": 0.1, "act": "gelu"}
    assert found.figure("loss") == pytest.approx(1 / 9)


@pytest.mark.usefixtures("ray_cluster")
def test_asha_stops_bad_trials_early_and_their_curves_stay(tmp_path: Path) -> None:
    spec = config(scheduler="asha", trials=8, concurrent=1)  # else it depends on who comes first
    trials = sweep(spec, training(), tmp_path, length=LENGTH, seed=1)  # some of the best come early
    stopped = [trial for trial in trials if trial.status == "stopped"]
    assert stopped and all(trial.result["by"] == "asha" for trial in stopped)
    assert all(1 <= trial.tokens < LENGTH and trial.reports for trial in stopped)
    found = best(trials, spec)
    assert found is not None and found.trials[0].tokens == LENGTH
    assert sum(spent(trial.log) for trial in trials) < 8 * LENGTH


@pytest.mark.usefixtures("ray_cluster")
def test_a_random_sweep_runs_the_points_of_its_seed_and_several_seeds_of_each(
    tmp_path: Path,
) -> None:
    spec = config(trials=2, seeds=2)
    trials = sweep(spec, training(), tmp_path, length=LENGTH, seed=7)
    search = search_of(spec, 7)
    assert [one.point for one in points_of(trials)] == [search(0, []), search(1, [])]
    assert [(trial.number, trial.seed) for trial in trials] == [(0, 0), (0, 1), (1, 0), (1, 1)]


@pytest.mark.usefixtures("ray_cluster")
def test_optuna_finds_trade_offs_of_two_figures(tmp_path: Path) -> None:
    spec = config(search="optuna", also={"speed": "max"}, trials=8)
    trials = sweep(spec, training(), tmp_path, length=LENGTH)
    chosen = front(trials, spec)
    figures = [(one.figure("loss"), one.figure("speed")) for one in chosen]
    assert len(figures) >= 2
    ordered = sorted(figures)  # type: ignore[type-var]
    assert ordered == sorted(figures, key=lambda pair: pair[1])  # type: ignore[arg-type, return-value]


@pytest.mark.usefixtures("ray_cluster")
def test_a_failed_trial_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    spec = config(trials=4)
    trials = sweep(spec, broken, tmp_path, length=LENGTH)
    failed = [trial for trial in trials if trial.status == "failed"]
    assert [trial.number for trial in failed] == [
        trial.number for trial in trials if trial.point["act"] != "gelu"
    ]
    assert 0 < len(failed) < 4
    assert failed[0].result["error"].startswith("ValueError: gelu only, not ")
    assert "in broken" in failed[0].result["traceback"]
    assert failed[0].tokens == 1, "what it reported before is kept"


@pytest.mark.usefixtures("ray_cluster")
def test_a_sweep_of_failures_alone_is_an_error(tmp_path: Path) -> None:
    only = {**SPACE, "act": DimensionConfig(choice=("relu", "silu"))}
    with pytest.raises(TrainingError, match=r"all 2 trials failed; .*gelu only"):
        sweep(config(space=only, trials=2), broken, tmp_path, length=LENGTH)


@pytest.mark.usefixtures("ray_cluster")
def test_a_budget_of_tokens_ends_everything(tmp_path: Path) -> None:
    spec = config(trials=20, tokens=4 * LENGTH)
    trials = sweep(spec, training(), tmp_path, length=LENGTH)
    used = sum(spent(trial.log) for trial in trials)
    assert 4 * LENGTH <= used <= 4 * LENGTH + 2, "two under way may report once more"
    assert all(trial.result for trial in trials)
    again = sweep(spec, training(), tmp_path, length=LENGTH)
    assert len(again) == len(trials), "nothing is left of the budget"


@pytest.mark.usefixtures("ray_cluster")
def test_pbt_does_better_than_any_value_that_stays(tmp_path: Path) -> None:
    population = PopulationConfig(every=8)
    spec = config(space=PBT_SPACE, scheduler="pbt", trials=6, population=population)
    trials = sweep(spec, annealed, tmp_path, length=PBT_LENGTH)
    found = best(trials, spec)
    assert found is not None and found.figure("loss") is not None
    assert found.figure("loss") < best_without_change()  # type: ignore[operator]
    copies = [event for trial in trials for event in trial.begins if event["copied"]]
    assert copies
    low, high = PBT_SPACE["lr"].loguniform
    assert all(low <= event["point"]["lr"] <= high for event in copies)


@pytest.mark.usefixtures("ray_cluster")
def test_more_trials_are_added_to_those_that_are_known(tmp_path: Path) -> None:
    sweep(config(trials=2), training(), tmp_path, length=LENGTH)
    before = {trial.name: times(trial.folder) for trial in read_trials(tmp_path)}
    trials = sweep(config(trials=4), training(), tmp_path, length=LENGTH)
    assert len(trials) == 4
    assert all(times(tmp_path / "trials" / name) == known for name, known in before.items())


def test_a_finished_sweep_needs_no_cluster(tmp_path: Path) -> None:
    from tests.tune.folders import wrote_sweep

    wrote_sweep(tmp_path, SPACE, 4)
    trials = sweep(config(trials=4), training(), tmp_path, length=LENGTH)
    assert len(trials) == 4 and not (tmp_path / ".ray-tune").exists()


def test_seeds_that_a_fall_left_out_are_run(tmp_path: Path) -> None:
    from tests.tune.folders import wrote

    spec = config(trials=1, seeds=3)
    point = draw(SPACE, 0, 0)
    wrote(tmp_path, 0, point, [1.0])
    feed = Feed(spec, search_of(spec, 0), tmp_path, Budget(None, None, []), lambda trial: None)
    assert feed.remaining == 2
    asked = [feed.suggest(str(number)) for number in range(3)]
    assert [one["point"] for one in asked[:2]] == [point, point] and asked[2] == "FINISHED"
    assert [trial.seed for trial in read_trials(tmp_path)] == [0, 1, 2]


def test_as_many_trials_at_once_as_the_cluster_has_room_for() -> None:
    cluster = {"CPU": 8.0, "GPU": 2.0}
    assert concurrency(config(concurrent="auto"), Needs(), cluster) == 8
    assert concurrency(config(concurrent="auto"), Needs(gpus=0.25), cluster) == 8
    assert concurrency(config(concurrent="auto"), Needs(gpus=0.5), cluster) == 4
    workers = Needs(cpus=0, workers=2, worker_cpus=2, worker_gpus=1)
    assert concurrency(config(concurrent="auto"), workers, cluster) == 1
    assert concurrency(config(concurrent="auto"), Needs(cpus=16), cluster) == 1
    assert concurrency(config(concurrent=3), Needs(), cluster) == 3


def test_a_population_takes_turns() -> None:
    for at_once in range(1, 100):
        share = turn_of(at_once)
        assert at_once * share <= 1 < (at_once + 1) * share


def test_trials_share_a_gpu_by_fractions_as_many_as_fit(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ON_GPUS, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, cwd=ROOT, env=environment, timeout=120)
    assert [trial.status for trial in read_trials(tmp_path)] == ["done"] * 4
    seen = [json.loads(file.read_text()) for file in tmp_path.glob("saw-*")]
    assert len(seen) == 4 and {gpus for gpus, _ in seen} == {"0"}
    assert max(together for _, together in seen) == 2, "half a GPU each"


ON_GPUS = """
import json, sys, time
from pathlib import Path
import ray
from tests.tune.test_sweep import config
from tests.tune.toys import LENGTH
from tune.sweep import Needs, sweep

@ray.remote(num_cpus=1, num_gpus=0.5, scheduling_strategy="DEFAULT")
def train(place, name):  # as Ray Train's worker does; waits for another one beside it
    (place / f"began-{name}").touch()
    (place / f"runs-{name}").touch()
    together = 1
    while together < 2 and len(list(place.glob("began-*"))) < 4:
        together = len(list(place.glob("runs-*")))
        time.sleep(0.02)
    gpus = ",".join(map(str, ray.get_gpu_ids()))
    (place / f"saw-{name}").write_text(json.dumps([gpus, together]))
    (place / f"runs-{name}").unlink()

def on_gpu(point, folder, report):
    ray.get(train.remote(folder.parent.parent.parent, folder.parent.name))
    report(LENGTH, {"loss": 1.0})
    return {"loss": 1.0}

if __name__ == "__main__":
    ray.init(address="local", num_cpus=8, num_gpus=1, include_dashboard=False,
             object_store_memory=100 << 20, log_to_driver=False, logging_level="ERROR")
    needs = Needs(cpus=0.01, workers=1, worker_cpus=1, worker_gpus=0.5)
    spec = config(trials=4, concurrent="auto")
    sweep(spec, on_gpu, Path(sys.argv[1]), length=LENGTH, needs=needs)
"""


# -- falls -----------------------------------------------------------------------------------------

SCRIPT = """
import sys
from pathlib import Path
import ray
from tests.tune.test_sweep import config
from tests.tune.toys import LENGTH, training
from tune.sweep import sweep
if __name__ == "__main__":
    ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=100 << 20,
             log_to_driver=False, logging_level="ERROR")
    sweep(config(trials=6), training(seconds=0.1), Path(sys.argv[1]), length=LENGTH, seed=3)
"""


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_killed_driver_loses_no_finished_trial_and_finds_the_same_best(tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    driver = start(killed)
    try:
        wait_for(lambda: sum(bool(trial.result) for trial in read_trials(killed)) >= 2, driver)
    finally:
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    known = {trial.name: times(trial.folder) for trial in read_trials(killed) if trial.result}
    assert 2 <= len(known) < 6
    spec = config(trials=6)
    trials = sweep(spec, training(seconds=0.02), killed, length=LENGTH, seed=3)
    assert all(times(killed / "trials" / name) == before for name, before in known.items())
    undisturbed = sweep(spec, training(), tmp_path / "whole", length=LENGTH, seed=3)
    assert [trial.point for trial in trials] == [trial.point for trial in undisturbed]
    found, expected = best(trials, spec), best(undisturbed, spec)
    assert found is not None and expected is not None
    assert (found.point, found.figure("loss")) == (expected.point, expected.figure("loss"))
    for trial in trials:
        assert [report["tokens"] for report in trial.reports] == list(range(1, LENGTH + 1))


def start(folder: Path) -> subprocess.Popen:
    """The driver of a sweep, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
    environment.pop("RAY_ADDRESS", None)
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder)], cwd=ROOT, env=environment)


def wait_for(condition: object, driver: subprocess.Popen, seconds: float = 240) -> None:
    """Until something is so, as long as the driver lives."""
    until = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert driver.poll() is None, "the driver ended before it was killed"
        assert time.monotonic() < until, "nothing happens"
        time.sleep(0.05)


def times(folder: Path) -> dict[str, int]:
    """When each file of a trial was last written."""
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*")}

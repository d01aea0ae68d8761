"""The work of sweeps and ladders: trials side by side, then what they have found out.

The best trial's model becomes the artifact of its sweep, under hard links that take no room, so
later stages say `from: sweep`. Checkpoints of trials that have ended are removed.
"""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jobs.best import write_best
from jobs.facts import CHECKPOINTS, MANIFEST
from jobs.ladder import Rung, ladder_of, law_of, trainings_of
from jobs.side_by_side import machines_of, side_by_side
from jobs.stages import ScalingStage, SearchStage, SweepStage
from jobs.trial import TrialRun, length_of
from jobs.watch_trials import TrialWatch
from jobs.work import Work
from llm.errors import TrainingError
from tune.actor import Function
from tune.config import SweepConfig
from tune.results import best, write_table
from tune.scaling import scaling_of
from tune.scaling_report import write_scaling_report
from tune.sweep import Needs, sweep
from tune.sweep_report import write_sweep_report
from tune.trials import Trial

Metrics = dict[str, Any]

WAITING_CPUS = 0.01
"""Of a trial's own process; Ray Tune places none that asks for nothing."""

NOT_TAKEN = shutil.ignore_patterns(
    *(MANIFEST, CHECKPOINTS, "tensorboard", "ray", "pulse", "events.jsonl", "report.html"),
    *("error.txt", ".*"),
)
"""Of the best trial's last stage: what is about its making."""


def make_sweep(work: Work) -> Metrics:
    """Trials with values of the space; the best one's model."""
    stage = work.stage.stage
    assert isinstance(stage, SweepStage)
    config = stage.config
    last = work.plan.by_name[stage.of[-1]]
    every = last.stage.validate_every if stage.scheduler == "pbt" else None  # type: ignore[union-attr]
    function = TrialRun(work.plan.spec, work.plan.facts, stage.each, stage.of, every)
    trials = run_trials(work, config, function, length_of(last))
    write_table(trials, work.folder / "trials.parquet")
    title = f"{work.plan.spec.name}: {work.stage.name}"
    work.say(f"with plots: {write_sweep_report(work.folder, config, title)}")
    found = best(trials, config)
    assert found is not None, "a trial that did not fail has reported something"
    trial = found.trials[0]
    taken = take_artifact(trial, stage.of[-1], work.folder)
    files = write_best(work.plan.spec, work.stage.name, stage.of, trial.point, work.folder)
    work.say(f"best values: {files[0]}; as a spec: {files[1]}")
    free_disk(trials)
    known = {
        "trial": trial.name,
        "metric": config.metric,
        "figure": found.figure(config.metric),
        "point": trial.point,
        **taken,
    }
    return {"trials": ends_of(trials), "best": known}


def run_trials(work: Work, config: SweepConfig, function: Function, length: int) -> list[Trial]:
    """All trials of a sweep, those that ran before included."""
    stage = work.stage.stage
    assert isinstance(stage, SearchStage)
    if "RAY_ADDRESS" not in os.environ:
        config = replace(config, concurrent=side_by_side(work.plan, stage))
    with TrialWatch(work.console, config) as watch:
        return sweep(
            config,
            function,
            work.folder,
            length=length,
            seed=work.stage.seed,
            needs=needs_of(work, stage),
            watch=watch,
        )


def needs_of(work: Work, stage: SearchStage) -> Needs:
    """What a trial takes: its process only waits, its workers and their stream do the work."""
    from cluster.session import LIGHT_CPUS

    each = machines_of(work.plan, stage)
    return Needs(
        cpus=WAITING_CPUS,
        workers=each.most_workers,
        worker_cpus=each.cpus_per_worker,
        worker_gpus=each.gpus_per_worker,
        stream_cpus=each.ingest_cpus + LIGHT_CPUS,
    )


def ends_of(trials: Sequence[Trial]) -> dict[str, int]:
    """How many trials ended in which way."""
    ends = [trial.status for trial in trials]
    return {how: ends.count(how) for how in ("done", "stopped", "failed")}


def make_scaling(work: Work) -> Metrics:
    """Trainings of several sizes at equal costs; the law that they follow."""
    stage = work.stage.stage
    assert isinstance(stage, ScalingStage)
    base = work.plan.by_name[stage.of]
    trial = TrialRun(work.plan.spec, work.plan.facts, stage.each, (stage.of,), None)
    vocab = base.vocab_size
    assert vocab is not None
    trials = run_trials(work, ladder_of(stage), Rung(trial, stage.of, vocab), 1)
    write_table(trials, work.folder / "trials.parquet")
    scaling = scaling_of(
        trainings_of(trials), stage.predict, hold_out=stage.hold_out, times=stage.bootstrap
    )
    title = f"{work.plan.spec.name}: {work.stage.name}"
    work.say(f"with plots: {write_scaling_report(work.folder, scaling, title)}")
    free_disk(trials)
    return {"trials": ends_of(trials), "law": law_of(scaling)}


# -- the best trial's artifact ---------------------------------------------------------------------


def artifact_in(trial: Trial, stage: str) -> Path | None:
    """The finished artifact of a stage of a trial; None if it was stopped before."""
    manifests = (trial.folder / trial.begins[-1]["work"] / stage).glob(f"*/{MANIFEST}")
    return next((path.parent for path in manifests), None)


def take_artifact(trial: Trial, stage: str, folder: Path) -> dict[str, Any]:
    """Link the artifact of a trial's last stage into the sweep's folder; what it is."""
    artifact = artifact_in(trial, stage)
    if artifact is None:
        raise TrainingError(
            "the budget was used up before any trial came to its end; raise `hours` or `tokens` of "
            f"the sweep, or try fewer `trials`; what was found is in {folder / 'report.html'}"
        )
    shutil.copytree(artifact, folder, copy_function=link, ignore=NOT_TAKEN, dirs_exist_ok=True)
    manifest = json.loads((artifact / MANIFEST).read_text())
    shape = json.loads((artifact / "model.json").read_text())
    return {**shape, "artifact": str(artifact.relative_to(folder)), "made": manifest["fingerprint"]}


def link(source: str, target: str) -> None:
    """The same file under another name, which takes the place of what is there."""
    temporary = f"{target}.link"
    Path(temporary).unlink(missing_ok=True)
    os.link(source, temporary)
    os.replace(temporary, target)


def free_disk(trials: Sequence[Trial]) -> None:
    """Checkpoints of trials that have ended serve nobody."""
    for trial in trials:
        for kept in (*trial.folder.glob(f"work*/*/*/{CHECKPOINTS}"), *trial.folder.glob("start-*")):
            shutil.rmtree(kept, ignore_errors=True)
        shutil.rmtree(trial.folder / "held", ignore_errors=True)

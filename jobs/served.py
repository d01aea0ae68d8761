"""What `python -m jobs serve` serves: the models of a spec's serve stage, or one folder."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from cluster.config import ClusterConfig
from deploy.config import ServeConfig
from deploy.service import ModelSource
from jobs import auto
from jobs.facts import Artifact, Facts, gather, refresh
from jobs.kinds import MODELS
from jobs.load import load
from jobs.plan import resolve
from jobs.planned import Plan
from jobs.serve_rules import of_serving
from jobs.spec import Spec
from jobs.stages import ServeStage, part
from llm.artifact import read_shape
from llm.errors import ArtifactError, SpecError
from llm.fetch import fetch


@dataclass(frozen=True)
class Start:
    """The command line."""

    target: str
    overrides: tuple[str, ...] = ()
    stage: str | None = None
    port: int | None = None
    no_auth: bool = False


@dataclass(frozen=True)
class Serving:
    """Something to serve."""

    config: ServeConfig
    cluster: ClusterConfig
    newest: Callable[[], list[ModelSource]]
    """The models as they are now: what was finished since takes the place of what is older."""
    feedback: Path | None
    """Where what people say is kept."""
    log: Path
    """Where a line is written for every request, and what went wrong."""
    notes: tuple[str, ...] = ()


def find(start: Start) -> Serving:
    """What the command line means."""
    path = Path(start.target)
    if "://" in start.target or path.is_dir() or not (path.exists() or path.suffix):
        return of_folder(start)
    return of_spec(load(start.target, start.overrides), start)


def of_folder(start: Start) -> Serving:
    """A model's folder, with the defaults of a serve stage."""
    folder = fetch(start.target)
    model, _ = read_shape(folder)
    stage = wished(ServeStage(kind="serve", from_=folder.parent.name or folder.name), start)
    cluster = auto.cluster(ClusterConfig(), os.cpu_count() or 1)
    stage = auto.served(stage, model.context, cluster)
    source = ModelSource(stage.from_, str(folder), int(folder.stat().st_mtime))
    feedback = folder.parent / f"{folder.name}-feedback"
    return Serving(
        config=part(stage, ServeConfig),
        cluster=machines(stage, cluster),
        newest=lambda: [source],
        feedback=kept_in(stage, feedback),
        log=folder.parent / f"{folder.name}-serve.log",
    )


def of_spec(spec: Spec, start: Start) -> Serving:
    """The serve stage of a spec; of a spec without one its last model, with the defaults."""
    name, written = stage_of(spec, start.stage)
    spec = replace(spec, stages={**spec.stages, name: wished(written, start)})
    facts = gather(spec)
    plan = resolve(spec, facts)
    models = {one: found(one, plan, facts) for one in written.models}
    outdated = [one for one in models if not plan.by_name[one].cached]
    stage = plan.by_name[name].stage
    assert isinstance(stage, ServeStage)

    def newest() -> list[ModelSource]:
        later = refresh(facts, spec)
        for one, artifact in models.items():
            models[one] = later_of(artifact, later.artifacts.get(one, ()))
        return [source_of(one, artifact, spec) for one, artifact in models.items()]

    return Serving(
        config=part(stage, ServeConfig),
        cluster=machines(stage, plan.cluster),
        newest=newest,
        feedback=kept_in(stage, spec.feedback),
        log=spec.folder / "serve.log",
        notes=tuple(
            f"{one}: the spec has changed since {models[one].fingerprint} was made; to make it "
            f"anew: {spec.command('run')}"
            for one in outdated
        ),
    )


def stage_of(spec: Spec, wanted: str | None) -> tuple[str, ServeStage]:
    """The serve stage of that name, or the only one."""
    stages = {name: one for name, one in spec.stages.items() if isinstance(one, ServeStage)}
    if wanted is not None and wanted not in stages:
        there = ", ".join(stages) or "none"
        raise SpecError(f"{spec.origin.file}: {wanted!r} is no serve stage; there are: {there}")
    if wanted is None and len(stages) > 1:
        raise SpecError(f"{spec.origin.file}: choose one with --stage: {', '.join(stages)}")
    if stages:
        name = wanted or next(iter(stages))
        return name, stages[name]
    models = [name for name, one in spec.stages.items() if one.kind in MODELS]
    if not models:
        raise SpecError(
            f"{spec.origin.file}: no stage makes a model that could be served; add one of the "
            f"kinds {', '.join(MODELS)}"
        )
    return "serve", ServeStage(kind="serve", from_=models[-1])


def wished(stage: ServeStage, start: Start) -> ServeStage:
    """The stage with what the command line says laid over it."""
    if start.port is not None:
        stage = replace(stage, port=start.port)
    if start.no_auth:
        stage = replace(stage, auth=False, keys=None)
    for keys, message in of_serving(stage):
        raise SpecError(f"serve: {'.'.join(map(str, keys))}: {message}")
    return stage


def found(name: str, plan: Plan, facts: Facts) -> Artifact:
    """The model that the spec means, or the newest one that an earlier version of it made."""
    stage = plan.by_name[name]
    if stage.cached and stage.fingerprint:
        exact = facts.artifact(name, stage.fingerprint)
        assert exact is not None
        return exact
    finished = [one for one in facts.artifacts.get(name, ()) if one.manifest is not None]
    if not finished:
        raise ArtifactError(
            f"{plan.spec.origin.file}: stage '{name}' has no finished model yet; first run\n"
            f"{plan.spec.command('run')}"
        )
    return max(finished, key=finished_at)


def later_of(artifact: Artifact, others: tuple[Artifact, ...]) -> Artifact:
    """The newest of the finished artifacts of a stage, if it is newer than this one."""
    return max((artifact, *(one for one in others if one.manifest)), key=finished_at)


def finished_at(artifact: Artifact) -> float:
    """Seconds since 1970 at which the stage began that made it: the last one that did counts."""
    return float((artifact.manifest or {}).get("at", 0.0))


def source_of(name: str, artifact: Artifact, spec: Spec) -> ModelSource:
    """A stage's artifact as a model of that name."""
    return ModelSource(name, str(artifact.folder), int(finished_at(artifact)), owner=spec.name)


def machines(stage: ServeStage, cluster: ClusterConfig) -> ClusterConfig:
    """Machines with room for as many replicas as there may be."""
    assert isinstance(stage.engine.cpus, int)
    replicas = max(cluster.most_workers, stage.autoscaling.max)
    cpus = max(cluster.cpus_per_worker, stage.engine.cpus)
    return replace(cluster, workers=replicas, cpus_per_worker=cpus)


def kept_in(stage: ServeStage, default: Path) -> Path | None:
    """Where feedback is kept, if it is asked for."""
    if not stage.feedback.enabled:
        return None
    return Path(stage.feedback.folder) if stage.feedback.folder else default

"""The plan: what each stage is with every `auto` replaced, what it costs, and whether it runs.

A pure function of the spec and of facts about the outside (`jobs.facts`), so it can be tested, and
asked again: a stage stays unknown while it waits for another one (a tokenizer of characters has a
vocabulary, and passes over a text have a length, only once the text was read), and `jobs.run`
resolves anew after every stage.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from cluster.config import ClusterConfig
from jobs import auto, rules
from jobs.align_rules import of_context
from jobs.estimate import Estimate, estimate
from jobs.facts import Facts
from jobs.fingerprint import FORMAT, fingerprint
from jobs.graph import expanded, order, tokens_of
from jobs.inputs import bytes_of_sources, bytes_read, known_to
from jobs.reasons import why_again, why_more, why_new
from jobs.saving import Saving, often_enough, saving_of
from jobs.serve_rules import of_memory
from jobs.spec import (
    MODELS,
    TRAININGS,
    AnyStage,
    CorpusStage,
    DpoStage,
    GenerateStage,
    PpoStage,
    PretrainStage,
    RewardStage,
    ScalingStage,
    SearchStage,
    ServeStage,
    SftStage,
    Spec,
    SweepStage,
    TokenizerStage,
    TokensStage,
    as_json,
    references,
    rows_run,
)
from llm.config import ModelConfig
from llm.size import parameters


@dataclass(frozen=True)
class StagePlan:
    """One stage as it will run, or as it was found."""

    name: str
    kind: str
    status: Literal["cached", "not needed", "will run", "on demand"]
    reason: str
    """Why it runs; what was found if it does not."""
    written: AnyStage
    """As the file has it."""
    stage: AnyStage | None
    """Without any auto; None while it waits for what an earlier stage finds out."""
    fingerprint: str | None
    folder: Path | None
    parents: Mapping[str, str]
    """Fingerprints by the key that names the stage."""
    data: Mapping[str, Any]
    """Digests of the text it reads, and how it is read."""
    seed: int
    text_bytes: int = 0
    """Size of the text it reads, as far as it is known."""
    source_bytes: Mapping[str, int] = field(default_factory=dict)
    """The same of each source of a corpus."""
    vocab_size: int | None = None
    """Tokens of the tokenizer, or of the model; None: not known yet."""
    model: ModelConfig | None = None
    """The model that it makes or uses."""
    estimate: Estimate | None = None
    saving: Saving | None = None
    """How often it should save; None if there is nothing to train."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """What it measured, if it is finished."""
    extends: bool = False
    """Whether it was finished, and is now to do more of the same."""

    @property
    def identity(self) -> str:
        """What later stages know it by: a sweep of more trials can have another best one."""
        best = self.metrics.get("best")
        return f"{self.fingerprint}.{best['trial']}" if best else str(self.fingerprint)

    @property
    def cached(self) -> bool:
        """Whether there is nothing to do."""
        return self.status != "will run"

    @property
    def manifest(self) -> dict[str, Any]:
        """What identifies the artifact; `jobs.run` adds the code's version and the metrics."""
        assert self.stage is not None
        return {
            "format": FORMAT,
            "stage": self.name,
            "kind": self.kind,
            "fingerprint": self.fingerprint,
            "spec": as_json(self.stage),
            "parents": dict(self.parents),
            "data": dict(self.data),
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Plan:
    """Every stage in the order in which they run."""

    spec: Spec
    facts: Facts
    cluster: ClusterConfig
    stages: tuple[StagePlan, ...]

    @cached_property
    def by_name(self) -> dict[str, StagePlan]:
        """The stages by their names."""
        return {stage.name: stage for stage in self.stages}

    @property
    def next(self) -> StagePlan | None:
        """The first stage that is not done; None: all are."""
        return next((stage for stage in self.stages if not stage.cached), None)

    @property
    def next_command(self) -> str | None:
        """What to do now: run it, then serve it or let it write; None if it has no model."""
        if self.next is not None:
            return self.spec.command("run")
        if any(stage.kind == "serve" for stage in self.stages):
            return self.spec.command("serve")
        if any(stage.kind in MODELS for stage in self.stages):
            return f"{self.spec.command('generate')} --prompt TEXT"
        return None


def resolve(spec: Spec, facts: Facts) -> Plan:
    """The plan of a spec; SpecError if a resolved value breaks a rule."""
    cluster = auto.cluster(spec.cluster, facts.cores)
    stages = expanded(spec.stages)
    done: dict[str, StagePlan] = {}
    for name in order(spec.stages):
        done[name] = plan_stage(name, stages[name], spec, facts, cluster, done)
    return Plan(spec, facts, cluster, tuple(if_needed(stage, done) for stage in done.values()))


def plan_stage(
    name: str,
    written: AnyStage,
    spec: Spec,
    facts: Facts,
    cluster: ClusterConfig,
    done: Mapping[str, StagePlan],
) -> StagePlan:
    """One stage, after those it needs."""
    builds_on = {key: done[target] for key, target in references(written).items()}
    text_bytes = bytes_read(name, written, builds_on, facts)
    if isinstance(written, ServeStage):
        return served(name, written, spec, cluster, builds_on)
    waiting = waits_for(written, builds_on, done)
    if waiting:
        return unknown(name, written, spec.seed, waiting, text_bytes)
    if isinstance(written, SearchStage):
        return searched(name, written, spec, cluster, builds_on, facts)
    vocab = vocabulary(written, builds_on)
    rows = rows_of(written, spec.seed, facts, done)
    stage = resolved(written, vocab, rows, cluster.most_workers, model_of(written, builds_on))
    model = model_of(stage, builds_on)
    findings = [*rules.of_stage(stage, cluster.most_workers)]
    if isinstance(stage, PpoStage) and model is not None:
        findings += of_context(stage, model)
    broken = [(("stages", name, *keys), text) for keys, text in findings]
    if broken:
        raise spec.origin.error(broken)
    parents = {key: parent.identity for key, parent in builds_on.items()}
    data = known_to(name, stage, spec, facts)
    key = fingerprint(stage, parents, data, spec.seed)
    plan = StagePlan(
        name=name,
        kind=stage.kind,
        status="will run",
        reason="",
        written=written,
        stage=stage,
        fingerprint=key,
        folder=spec.place(name) / key,
        parents=parents,
        data=data,
        seed=spec.seed,
        text_bytes=text_bytes,
        source_bytes=bytes_of_sources(name, facts),
        vocab_size=vocab,
        model=model,
        estimate=estimate(stage, vocab, cluster, facts),
    )
    return with_saving(judged(plan, facts, builds_on), cluster, facts)


def with_saving(plan: StagePlan, cluster: ClusterConfig, facts: Facts) -> StagePlan:
    """The same with what saving costs and how often it pays, if there is something to train."""
    stage, written = plan.stage, plan.written
    if plan.cached or not isinstance(stage, TRAININGS):
        return plan
    assert isinstance(written, TRAININGS) and plan.folder and plan.model and plan.vocab_size
    step = None
    if isinstance(stage, PretrainStage) and plan.estimate:
        step = plan.estimate.seconds / stage.steps
    saving = saving_of(
        stage,
        sum(parameters(plan.model, plan.vocab_size).values()),
        step,
        cluster,
        facts.measure(plan.folder),
        facts.write_speed(plan.folder.parents[2]),  # the storage, of which all is one disk
    )
    if isinstance(stage, PretrainStage):
        stage = often_enough(stage, written, saving)
        saving = replace(saving, every=stage.checkpoint.every)
    return replace(plan, stage=stage, saving=saving)


def served(
    name: str,
    written: ServeStage,
    spec: Spec,
    cluster: ClusterConfig,
    builds_on: Mapping[str, StagePlan],
) -> StagePlan:
    """A serve stage, which is nothing to be made: it is started for as long as it is wanted."""
    models = [one.model for one in builds_on.values() if one.model is not None]
    stage = None
    if models:
        stage = auto.served(written, max(model.context for model in models), cluster)
        broken = of_memory(stage, max(model.context for model in models))
        if findings := [(("stages", name, *keys), text) for keys, text in broken]:
            raise spec.origin.error(findings)
    return StagePlan(
        name=name,
        kind="serve",
        status="on demand",
        reason=f"start it with {spec.command('serve')}",
        written=written,
        stage=stage,
        fingerprint=None,
        folder=None,
        parents={key: str(parent.fingerprint) for key, parent in builds_on.items()},
        data={},
        seed=spec.seed,
    )


def searched(
    name: str,
    written: SearchStage,
    spec: Spec,
    cluster: ClusterConfig,
    builds_on: Mapping[str, StagePlan],
    facts: Facts,
) -> StagePlan:
    """A sweep or a ladder, after the stages that its trials run."""
    stage = auto.searched(written, spec.cluster)
    parents = {key: parent.identity for key, parent in builds_on.items()}
    key = fingerprint(stage, parents, {}, spec.seed)
    plan = StagePlan(
        name=name,
        kind=stage.kind,
        status="will run",
        reason="",
        written=written,
        stage=stage,
        fingerprint=key,
        folder=spec.place(name) / key,
        parents=parents,
        data={},
        seed=spec.seed,
    )
    plan = judged(plan, facts, builds_on)
    best = plan.metrics.get("best")
    if best is not None:
        plan = replace(plan, vocab_size=best["vocab_size"], model=ModelConfig(**best["model"]))
    return plan


def waits_for(
    stage: AnyStage, builds_on: Mapping[str, StagePlan], done: Mapping[str, StagePlan]
) -> StagePlan | None:
    """The earlier stage that must run before this one can be resolved."""
    for parent in builds_on.values():
        if parent.fingerprint is None:
            return parent
        if isinstance(parent.written, SearchStage) and not parent.cached:
            return parent  # which of its trials is the best one
    if isinstance(stage, PretrainStage) and builds_on["tokenizer"].vocab_size is None:
        return builds_on["tokenizer"]
    tokens = counted_in(stage, done)
    return tokens if tokens and not tokens.cached else None


def counted_in(stage: AnyStage, done: Mapping[str, StagePlan]) -> StagePlan | None:
    """The tokens stage that tells how long a training is, if it is told in epochs."""
    if not isinstance(stage, PretrainStage) or stage.epochs is None:
        return None
    return done[str(tokens_of(stage))]


def rows_of(stage: AnyStage, seed: int, facts: Facts, done: Mapping[str, StagePlan]) -> int | None:
    """Sequences of all epochs of a training; None if its length is told otherwise."""
    tokens = counted_in(stage, done)
    if tokens is None or not isinstance(stage, PretrainStage):
        return None
    assert tokens.folder and stage.epochs
    return facts.count_rows(tokens.folder, stage.model.context, seed, stage.epochs)


def unknown(
    name: str, stage: AnyStage, seed: int, waiting: StagePlan, text_bytes: int
) -> StagePlan:
    """A stage of which only the spec is known."""
    return StagePlan(
        name=name,
        kind=stage.kind,
        status="will run",
        reason=f"'{waiting.name}' will run",
        written=stage,
        stage=None,
        fingerprint=None,
        folder=None,
        parents={},
        data={},
        seed=seed,
        text_bytes=text_bytes,
    )


def vocabulary(stage: AnyStage, builds_on: Mapping[str, StagePlan]) -> int | None:
    """Tokens that a stage works with, as far as they are known before it runs."""
    match stage:
        case CorpusStage():
            return None
        case TokenizerStage():
            known = auto.tokenizer(stage)
            pieces = known.file is None and known.model in ("unigram", "bpe")
            return known.vocab_size if pieces else None
        case TokensStage() | PretrainStage():
            return builds_on["tokenizer"].vocab_size
        case _:
            return builds_on["from"].vocab_size


def model_of(stage: AnyStage, builds_on: Mapping[str, StagePlan]) -> ModelConfig | None:
    """The model that a stage makes or uses."""
    if isinstance(stage, PretrainStage):
        return stage.model
    return builds_on["from"].model if "from" in builds_on else None


def resolved(
    stage: AnyStage,
    vocab: int | None,
    rows: int | None,
    workers: int,
    model: ModelConfig | None,
) -> AnyStage:
    """The stage with numbers in place of every auto; `model` is the one it makes or uses."""
    match stage:
        case TokenizerStage():
            return auto.tokenizer(stage)
        case PretrainStage():
            assert vocab is not None
            sized = replace(stage, model=auto.model(stage.model))
            return auto.pretrain(sized, vocab, workers, rows)
        case SftStage() | RewardStage() | DpoStage() | PpoStage():
            assert vocab is not None and model is not None
            return auto.aligned(stage, model, vocab, workers)
        case (
            CorpusStage()
            | TokensStage()
            | GenerateStage()
            | ServeStage()
            | SweepStage()
            | ScalingStage()
        ):
            return stage


def judged(plan: StagePlan, facts: Facts, builds_on: Mapping[str, StagePlan]) -> StagePlan:
    """The stage with its status, and the reason for it."""
    found = facts.artifact(plan.name, str(plan.fingerprint))
    if found is None:
        parents = {key: (parent.name, parent.cached) for key, parent in builds_on.items()}
        earlier = facts.artifacts.get(plan.name, ())
        return replace(plan, reason=why_new(plan.manifest, earlier, parents))
    if found.manifest is None:
        return replace(plan, reason=why_again(found, plan.kind))
    if isinstance(plan.stage, SearchStage) and (more := why_more(found.manifest, plan.manifest)):
        return replace(plan, reason=f"{more}; trials that have ended are kept", extends=True)
    vocab = found.metrics.get("vocab_size", plan.vocab_size)
    made = f"made before, in {found.folder.name}"
    return replace(plan, status="cached", reason=made, vocab_size=vocab, metrics=found.metrics)


def if_needed(stage: StagePlan, plans: Mapping[str, StagePlan]) -> StagePlan:
    """Stages that only others use are not made for those that are finished."""
    if stage.cached:
        return stage
    trials = [one for one in plans.values() if stage.name in rows_run(one.written)]
    if stage.kind == "tokens":
        readers = [one for one in plans.values() if tokens_of(one.written) == stage.name]
        if any(is_run(one, plans) for one in readers):
            return stage
        names = " and ".join(f"'{one.name}'" for one in readers)
        return replace(stage, status="not needed", reason=f"{names} made before")
    if trials and not used_alone(stage, plans):
        names = " and ".join(f"'{one.name}'" for one in trials)
        return replace(stage, status="not needed", reason=f"only trials of {names} run it")
    return stage


def is_run(stage: StagePlan, plans: Mapping[str, StagePlan]) -> bool:
    """Whether a stage is to be run, by itself or in trials."""
    trials = [one for one in plans.values() if stage.name in rows_run(one.written)]
    if any(not one.cached for one in trials):
        return True
    return not stage.cached and (not trials or used_alone(stage, plans))


def used_alone(stage: StagePlan, plans: Mapping[str, StagePlan]) -> bool:
    """Whether a stage other than a sweep, or than one that only trials run, names it."""
    users = [
        one
        for one in plans.values()
        if stage.name in references(one.written).values()
        and not isinstance(one.written, SearchStage)
    ]
    rows = [rows_run(one.written) for one in plans.values() if stage.name in rows_run(one.written)]
    return any(
        not any(user.name in row for row in rows) or used_alone(user, plans) for user in users
    )

"""The plan: what each stage is with every `auto` replaced, what it costs, and whether it runs.

A pure function of the spec and of facts about the outside (`jobs.facts`), so it can be tested, and
asked again: a stage stays unknown while it waits for another one (a tokenizer of characters has a
vocabulary, and passes over a text have a length, only once the text was read), and `jobs.run`
resolves anew after every stage.
"""

from collections.abc import Container, Mapping
from dataclasses import replace

from cluster.config import ClusterConfig
from jobs import auto, rules
from jobs.align_rules import of_context
from jobs.continued_rules import KEPT, of_export
from jobs.estimate import estimate
from jobs.facts import Facts
from jobs.fingerprint import fingerprint
from jobs.graph import expanded, order, tokens_of
from jobs.inputs import bytes_of_sources, bytes_read, known_to
from jobs.kinds import TRAININGS, references
from jobs.needed import if_needed
from jobs.planned import Plan, StagePlan
from jobs.reasons import why_again, why_more, why_new
from jobs.saving import often_enough, saving_of
from jobs.serve_rules import of_memory
from jobs.spec import Spec
from jobs.stages import (
    AnyStage,
    CorpusStage,
    DpoStage,
    EvaluateStage,
    ExportStage,
    GenerateStage,
    ImportStage,
    PpoStage,
    PretrainStage,
    RewardStage,
    ScalingStage,
    SearchStage,
    ServeStage,
    SftStage,
    SweepStage,
    TokenizerStage,
    TokensStage,
)
from jobs.yaml_source import Keys
from llm.config import ModelConfig, model_from_json
from llm.size import parameters


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
    told = with_model(written, builds_on, spec.origin.source.places, ("stages", name))
    rows = rows_of(told, spec.seed, facts, done)
    stage = resolved(told, vocab, rows, cluster.most_workers, model_of(told, builds_on))
    imported = facts.imports.get(name)
    model = imported.model if imported else model_of(stage, builds_on)
    findings = [*rules.of_stage(stage, cluster.most_workers)]
    if isinstance(stage, PpoStage) and model is not None:
        findings += of_context(stage, model)
    if isinstance(stage, ExportStage) and model is not None:
        findings += of_export(stage, model, builds_on["from"].kind == "reward")
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
        plan = replace(plan, vocab_size=best["vocab_size"], model=model_from_json(best["model"]))
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
        if isinstance(parent.written, ImportStage) and not parent.cached:
            return parent  # how many tokens it has
    if isinstance(stage, PretrainStage) and builds_on["tokenizer"].vocab_size is None:
        return builds_on["tokenizer"]
    tokens = counted_in(stage, done)
    return tokens if tokens and not tokens.cached else None


def with_model(
    stage: AnyStage, builds_on: Mapping[str, StagePlan], places: Container[Keys], keys: Keys
) -> AnyStage:
    """A training that goes on with a model: that one, but for what the file says of it."""
    if not isinstance(stage, PretrainStage) or stage.from_ is None:
        return stage
    model = builds_on["from"].model
    assert model is not None, "waits_for has waited for it"
    told = {one: getattr(stage.model, one) for one in KEPT if (*keys, "model", one) in places}
    return replace(stage, model=replace(model, **told))


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
        case CorpusStage() | ImportStage():
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
            | EvaluateStage()
            | ServeStage()
            | ImportStage()
            | ExportStage()
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

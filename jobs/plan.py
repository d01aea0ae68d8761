"""The plan: what each stage is with every `auto` replaced, what it costs, and whether it runs.

A pure function of the spec and of facts about the outside (`jobs.facts`), so it can be tested, and
asked again: a stage stays unknown while it waits for another one (a tokenizer of characters has a
vocabulary only once it has read the text), and `jobs.run` resolves anew after every stage.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, Literal

from cluster.config import ClusterConfig
from jobs import auto, rules
from jobs.facts import Artifact, Facts
from jobs.fingerprint import FORMAT, differences, fingerprint, meaningful, text_of
from jobs.spec import GenerateStage, PretrainStage, Spec, Stage, TokenizerStage, as_json, references
from llm.size import bytes_per_worker, flops_per_token, parameters

ASSUMED_FLOPS_PER_CORE = 40e9
"""Training speed of one CPU core where no earlier run tells (4M parameters, bf16, EPYC: 78e9)."""


@dataclass(frozen=True)
class Estimate:
    """What a training costs."""

    parameters: Mapping[str, int]
    """Exact, by part of the model."""
    bytes_per_worker: Mapping[str, int]
    flops: int
    seconds: float
    speed: str
    """What `seconds` goes by."""


@dataclass(frozen=True)
class StagePlan:
    """One stage as it will run, or as it was found."""

    name: str
    kind: str
    status: Literal["cached", "will run"]
    reason: str
    """Why it runs; what was found if it does not."""
    stage: Stage | None
    """Without any auto; None while it waits for what an earlier stage finds out."""
    fingerprint: str | None
    folder: Path | None
    parents: Mapping[str, str]
    """Fingerprints by the key that names the stage."""
    data: Mapping[str, Any]
    """Digests of the text it reads, and how it is read."""
    seed: int
    vocab_size: int | None = None
    """Tokens of the tokenizer, or of the model; None: not known yet."""
    estimate: Estimate | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """What it measured, if it is finished."""

    @property
    def cached(self) -> bool:
        """Whether there is nothing to do."""
        return self.status == "cached"

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


def order(stages: Mapping[str, Stage]) -> list[str]:
    """Names, each after those it builds on; else as in the file."""
    graph = {name: list(references(stage).values()) for name, stage in stages.items()}
    return list(TopologicalSorter(graph).static_order())


def resolve(spec: Spec, facts: Facts) -> Plan:
    """The plan of a spec; SpecError if a resolved value breaks a rule."""
    cluster = auto.cluster(spec.cluster, facts.cores)
    done: dict[str, StagePlan] = {}
    for name in order(spec.stages):
        done[name] = plan_stage(name, spec, facts, cluster, done)
    return Plan(spec, cluster, tuple(done.values()))


def plan_stage(
    name: str, spec: Spec, facts: Facts, cluster: ClusterConfig, done: Mapping[str, StagePlan]
) -> StagePlan:
    """One stage, after those it builds on."""
    written = spec.stages[name]
    builds_on = {key: done[target] for key, target in references(written).items()}
    waiting = waits_for(written, builds_on)
    if waiting:
        return unknown(name, written, spec.seed, waiting)
    vocab = vocabulary(written, builds_on)
    stage = resolved(written, vocab, cluster.workers)
    broken = [
        (("stages", name, *keys), text) for keys, text in rules.of_stage(stage, cluster.workers)
    ]
    if broken:
        raise spec.origin.error(broken)
    parents = {key: str(parent.fingerprint) for key, parent in builds_on.items()}
    data = text_known_to(stage, spec, facts)
    key = fingerprint(stage, parents, data, spec.seed)
    plan = StagePlan(
        name=name,
        kind=stage.kind,
        status="will run",
        reason="",
        stage=stage,
        fingerprint=key,
        folder=spec.folder / name / key,
        parents=parents,
        data=data,
        seed=spec.seed,
        vocab_size=vocab,
        estimate=estimate(stage, vocab, cluster, facts),
    )
    return judged(plan, facts, builds_on)


def waits_for(stage: Stage, builds_on: Mapping[str, StagePlan]) -> StagePlan | None:
    """The earlier stage that must run before this one can be resolved."""
    for parent in builds_on.values():
        unsized = isinstance(stage, PretrainStage) and parent.vocab_size is None
        if parent.fingerprint is None or unsized:
            return parent
    return None


def unknown(name: str, stage: Stage, seed: int, waiting: StagePlan) -> StagePlan:
    """A stage of which only the spec is known."""
    return StagePlan(
        name=name,
        kind=stage.kind,
        status="will run",
        reason=f"'{waiting.name}' will run",
        stage=None,
        fingerprint=None,
        folder=None,
        parents={},
        data={},
        seed=seed,
    )


def vocabulary(stage: Stage, builds_on: Mapping[str, StagePlan]) -> int | None:
    """Tokens that a stage works with, as far as they are known before it runs."""
    for parent in builds_on.values():
        return parent.vocab_size
    tokenizer = auto.tokenizer(stage) if isinstance(stage, TokenizerStage) else None
    if tokenizer is None or tokenizer.file or tokenizer.model not in ("unigram", "bpe"):
        return None
    return tokenizer.vocab_size


def resolved(stage: Stage, vocab: int | None, workers: int) -> Stage:
    """The stage with numbers in place of every auto."""
    match stage:
        case TokenizerStage():
            return auto.tokenizer(stage)
        case PretrainStage():
            assert vocab is not None
            return auto.pretrain(replace(stage, model=auto.model(stage.model)), vocab, workers)
        case GenerateStage():
            return stage


def text_known_to(stage: Stage, spec: Spec, facts: Facts) -> dict[str, Any]:
    """The part of a stage's identity that comes from files."""
    if isinstance(stage, TokenizerStage) and stage.file is not None:
        return text_of(stage, spec.data, facts.files[stage.file], "")
    held_out = facts.held_out.digest if facts.held_out else ""
    return text_of(stage, spec.data, facts.text.digest, held_out)


def estimate(
    stage: Stage, vocab: int | None, cluster: ClusterConfig, facts: Facts
) -> Estimate | None:
    """The cost of a training, from the model's size and the speed of an earlier one."""
    if not isinstance(stage, PretrainStage):
        return None
    assert vocab is not None
    flops = flops_per_token(stage.model, vocab) * stage.tokens
    cores = min(facts.cores, cluster.workers * cluster.cpus_per_worker)
    speed = facts.flops_per_second or ASSUMED_FLOPS_PER_CORE * cores
    assumed = f"if {cores} {'core does' if cores == 1 else 'cores do'} 40 GFLOP/s each"
    bf16 = stage.precision == "bf16"
    return Estimate(
        parameters=parameters(stage.model, vocab),
        bytes_per_worker=bytes_per_worker(stage.model, vocab, stage.micro_batch, bf16),
        flops=flops,
        seconds=flops / speed,
        speed="as fast as the last run here" if facts.flops_per_second else assumed,
    )


def judged(plan: StagePlan, facts: Facts, builds_on: Mapping[str, StagePlan]) -> StagePlan:
    """The stage with its status, and the reason for it."""
    found = facts.artifact(plan.name, str(plan.fingerprint))
    if found is None:
        return replace(plan, reason=why_new(plan, facts, builds_on))
    if found.manifest is None:
        return replace(plan, reason=why_again(found))
    vocab = found.metrics.get("vocab_size", plan.vocab_size)
    made = f"made before, in {found.folder.name}"
    return replace(plan, status="cached", reason=made, vocab_size=vocab, metrics=found.metrics)


def why_again(found: Artifact) -> str:
    """An unfinished artifact is gone on with."""
    if found.step is None:
        return "it was broken off before its first checkpoint"
    return f"it was broken off; continues after step {found.step}"


def why_new(plan: StagePlan, facts: Facts, builds_on: Mapping[str, StagePlan]) -> str:
    """What differs from the newest artifact of this stage."""
    finished = [one.manifest for one in facts.artifacts.get(plan.name, ()) if one.manifest]
    if not finished:
        return "no artifact yet"
    old, new = finished[0], plan.manifest
    if old.get("kind") != plan.kind:
        return f"it was a {old.get('kind')} stage before"
    changed = list(differences(meaningful(old["spec"]), meaningful(new["spec"])))
    for key, parent in builds_on.items():
        if old["parents"].get(key) != plan.parents[key]:
            changed.append(f"'{parent.name}' {'has changed' if parent.cached else 'will run'}")
    if old["data"] != new["data"]:
        changed += what_text_changed(old["data"], new["data"])
    changed += differences(old["seed"], new["seed"], "seed")
    return "; ".join(changed) or "the program makes it differently now"


def what_text_changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Digests say nothing to people; the way the text is read does."""
    digests = ("digest", "held_out", "file")
    names = {"digest": "the text", "held_out": "the held-out text", "file": "the file"}
    changed = [f"{names[key]} has changed" for key in digests if old.get(key) != new.get(key)]
    read = [{k: v for k, v in one.items() if k not in digests} for one in (old, new)]
    return changed + list(differences(read[0], read[1], "data"))

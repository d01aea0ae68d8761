"""The toy of a spec: the same stages, options and kinds of data, a thousand times smaller.

What decides how a training recovers stays as it is written: strategy, elastic workers, faults,
which checkpoints are kept, the order of the data. Sizes, lengths and the data shrink.
"""

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from typing import Any

import yaml

from jobs.graph import order
from jobs.kinds import TRAININGS, references
from jobs.rehearse_slices import Slices
from jobs.spec import Spec, SpecFile
from jobs.stages import (
    CorpusStage,
    DpoStage,
    ImportStage,
    PpoStage,
    PretrainStage,
    RewardStage,
    SftStage,
    Stage,
    TokenizerStage,
)
from llm.align_config import GuardConfig
from llm.config import DataConfig, LoopConfig, auto

NAME = "rehearsal"
"""Of the run; it is also what the spec's file is called."""

STEPS, SAVE_EVERY = 48, 6
PPO_STEPS, PPO_SAVE_EVERY = 6, 2
"""Of a training, and between its checkpoints; other alignments pass over their rows twice."""

CONTEXT = 64
ANSWER = 8
VOCABULARY = 512
"""And two tokens for every character that occurs."""


def toy(spec: Spec, slices: Slices) -> Spec:
    """The same spec at toy size, on slices of its data; SpecError if it takes a model over."""
    for name, stage in spec.stages.items():
        if isinstance(stage, ImportStage):
            text = (
                "takes a model of others over, which has no toy size; rehearse a spec that trains"
            )
            raise spec.origin.error([(("stages", name), f"{text} a fresh one on the same data")])
    cluster = spec.cluster
    few = (min(2, cluster.least_workers), min(2, cluster.most_workers))
    return replace(
        spec,
        name=NAME,
        cluster=replace(
            cluster,
            workers=few[0] if few[0] == few[1] else few,
            cpus_per_worker=1,
            gpus_per_worker=0,
            ingest_cpus=1,
        ),
        data=spec.data and small_text(spec.data, slices),
        stages={
            name: small(spec.stages[name], slices)
            for name in order(spec.stages)
            if isinstance(spec.stages.get(name), CorpusStage | TokenizerStage | TRAININGS)
        },
    )


def small_text(data: DataConfig, slices: Slices) -> DataConfig:
    """A slice of the text, and of what is held out of it."""
    held_out = data.validation.shards
    shards = slices.text(replace(data, shards=held_out)).shards if held_out else ()
    validation = replace(data.validation, shards=shards, tokens=2048)
    return replace(slices.text(data), validation=validation)


def small(stage: Stage, slices: Slices) -> Stage:
    """A stage at toy size."""
    match stage:
        case CorpusStage():
            sources = {
                name: replace(slices.text(source), id=None, cap=None)
                for name, source in stage.sources.items()
            }
            return replace(stage, sources=sources, decontaminate=None)
        case TokenizerStage(file=None, model="unigram" | "bpe"):
            enough = VOCABULARY + 2 * len(slices.characters)
            largest = 8192 if stage.vocab_size == auto else stage.vocab_size
            return replace(stage, vocab_size=min(largest, enough))
        case PretrainStage():
            return small_pretrain(stage)
        case PpoStage():
            return small_ppo(stage, slices)
        case SftStage() | RewardStage() | DpoStage():
            data: Any = tuple(map(slices.rows, stage.data))
            made = replace(stage, data=data, epochs=2, batch=4, **loop(stage, SAVE_EVERY))
            return made if isinstance(made, RewardStage) else replace(made, prompts=())
        case _:
            return stage


def small_pretrain(stage: PretrainStage) -> PretrainStage:
    """A model of some 100,000 parameters and a minute's training."""
    model = replace(
        stage.model,
        depth=2,
        width=64,
        heads=2,
        kv_heads=2 if stage.model.kv_heads == stage.model.heads else 1,
        hidden=auto,
        context=min(CONTEXT, stage.model.context),
        window=min(CONTEXT - 1, stage.model.window),
    )
    return replace(
        stage,
        model=model,
        steps=STEPS,
        tokens=auto,
        epochs=None,
        cache=stage.caches,
        batch=8,
        short_start=min(stage.short_start, STEPS // 4),
        prompt="",
        **loop(stage, SAVE_EVERY),
    )


def small_ppo(stage: PpoStage, slices: Slices) -> PpoStage:
    """A few steps, whose guards let a toy write what it likes."""
    return replace(
        stage,
        data=tuple(map(slices.rows, stage.data)),
        steps=PPO_STEPS,
        batch=8,
        minibatch=4,
        epochs=min(2, stage.epochs),
        answer_tokens=ANSWER,
        critic_warmup=min(1, stage.critic_warmup),
        guards=GuardConfig(mismatch=1e9, entropy=0, length=0, same=1.0, kl=1e9, preference=1.0),
        prompts=(),
        **loop(stage, PPO_SAVE_EVERY),
    )


def loop(stage: LoopConfig, save_every: int) -> dict[str, Any]:
    """What all trainings have in common: every step is logged, and many are saved."""
    return {
        "micro_batch": 2,
        "validate_every": 2 * save_every,
        "log_every": 1,
        "compile": False,
        "optim": replace(stage.optim, warmup=auto),
        "checkpoint": replace(stage.checkpoint, every=save_every, mirror=None),
    }


def written(spec: Spec, stage: str = "") -> str:
    """The spec as a file has it; with a stage just that one and those it builds on."""
    names = builds_on(stage, spec) if stage else spec.stages
    part = replace(spec, stages={name: spec.stages[name] for name in names})
    values = {one.name: plain(getattr(part, one.name)) for one in fields(SpecFile)}
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def builds_on(stage: str, spec: Spec) -> list[str]:
    """A stage and all it builds on, itself last."""
    earlier = references(spec.stages[stage]).values()
    names = [name for one in earlier for name in builds_on(one, spec)]
    return list(dict.fromkeys([*names, stage]))


def plain(value: Any) -> Any:
    """A value of a spec as YAML has it; what is a record's default is left out."""
    if is_dataclass(value):
        kept = (one for one in fields(value) if getattr(value, one.name) != default_of(one))
        return {one.name.removesuffix("_"): plain(getattr(value, one.name)) for one in kept}
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def default_of(one: Field[Any]) -> Any:
    """What a field is if nothing is said; MISSING if it has to be said."""
    return one.default if one.default_factory is MISSING else one.default_factory()

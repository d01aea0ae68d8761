"""What must hold of models that are no decoders, and of the stages that build on them."""

from collections.abc import Iterator, Mapping

from jobs.kinds import references
from jobs.model_rules import named
from jobs.stages import (
    EvaluateStage,
    ExampleStage,
    ExportStage,
    GenerateStage,
    PretrainStage,
    ScalingStage,
    ServeStage,
    Stage,
    SweepStage,
    TokenizerStage,
)
from jobs.yaml_source import Keys
from llm.config import OBJECTIVES, ModelConfig, auto, objective_of

Findings = Iterator[tuple[Keys, str]]

GAP = "[MASK]"
"""As in llm/complete.py, which loads torch."""

LEAST_CONTEXT = 8
"""Tokens, of which spans leave some and take some."""


def of_family(stage: PretrainStage) -> Findings:
    """A family has its objectives, and fields that mean nothing to it are not set."""
    model = stage.model
    allowed = OBJECTIVES[model.family]
    if stage.objective not in (auto, *allowed):
        message = f"{stage.objective} is not allowed; {named(model)} learns {' or '.join(allowed)}"
        yield ("objective",), message
        return
    yield from of_code(stage)
    yield from of_window(model)
    if model.family == "encoder_decoder":
        if model.attend == "document":
            yield (
                ("model", "attend"),
                "document is not allowed; an encoder_decoder reads whole rows",
            )
        if model.context < LEAST_CONTEXT:
            message = f"{model.context} is not allowed; must be at least {LEAST_CONTEXT}"
            yield ("model", "context"), message
    if stage.short_start and objective_of(stage.objective, model) != "next_token":
        message = f"{stage.short_start} is not allowed; only next_token cuts its rows shorter"
        yield ("short_start",), message


def of_code(stage: PretrainStage) -> Findings:
    """A code is what an autoencoder has, and nobody else."""
    model = stage.model
    if model.code and model.family != "encoder_decoder":
        yield ("model", "code"), f"{model.code} has no effect on {named(model)}; leave it out"
    elif model.code and stage.objective == "spans":
        message = (
            f"{model.code} is too narrow for spans; leave it out, or say objective: autoencode"
        )
        yield ("model", "code"), message
    elif stage.objective == "autoencode" and not model.code:
        yield ("model", "code"), "missing: numbers of the code that words are given back from"


def of_window(model: ModelConfig) -> Findings:
    """A feed-forward network sees as many tokens as it has weights for."""
    if model.family != "window":
        return
    if not model.window:
        yield ("model", "window"), "missing: the tokens that a model of family window sees"
    elif model.window > model.context:
        message = f"{model.window} is not allowed; must be at most the context of {model.context}"
        yield ("model", "window"), message


def of_families(stages: Mapping[str, Stage]) -> Findings:
    """Who builds on whom: only decoders learn to talk, are served and are scaled by our rules."""
    for name, stage in stages.items():
        if isinstance(stage, PretrainStage):
            yield from of_words(name, stage, stages)
            if stage.prompt:
                yield from of_prompt(("stages", name, "prompt"), stage.prompt, stage)
        for key, target in references(stage).items():
            made = pretrained(target, stages)
            keys: Keys = ("stages", name, *key.split("."))
            if made is None:
                continue
            if isinstance(stage, GenerateStage):
                for number, prompt in enumerate(stage.prompts):
                    yield from of_prompt(("stages", name, "prompts", number), prompt, made)
            elif (
                isinstance(stage, ExampleStage | EvaluateStage | ServeStage | ExportStage)
                and made.model.family != "decoder"
            ):
                message = (
                    f"{target!r} is of family {made.model.family}, which can be trained, measured "
                    f"and asked to generate; {stage.kind} needs a model of family decoder"
                )
                yield keys, message
            elif isinstance(stage, ScalingStage) and made.model.family != "decoder":
                message = (
                    f"{target!r} is of family {made.model.family}; a scaling stage knows the costs "
                    "of decoders alone: name one of family decoder"
                )
                yield keys, message


def pretrained(name: str, stages: Mapping[str, Stage]) -> PretrainStage | None:
    """The pretraining that a stage's model comes from, as far as the file tells."""
    for _ in stages:
        stage = stages.get(name)
        if isinstance(stage, PretrainStage) and stage.from_:
            name = stage.from_
            continue
        if isinstance(stage, PretrainStage) or stage is None:
            return stage
        if isinstance(stage, SweepStage):
            name = stage.of[-1]
        elif isinstance(stage, ExampleStage):
            name = stage.from_
        else:
            return None
    return None


def of_words(name: str, stage: PretrainStage, stages: Mapping[str, Stage]) -> Findings:
    """Words are given back letter by letter."""
    tokenizer = stages.get(stage.tokenizer)
    if objective_of(stage.objective, stage.model) != "autoencode":
        return
    if isinstance(tokenizer, TokenizerStage) and not tokenizer.file and tokenizer.model != "char":
        message = (
            f"{stage.tokenizer!r} is a tokenizer of {tokenizer.model}; autoencode gives words back "
            "letter by letter: name one with model: char"
        )
        yield ("stages", name, "tokenizer"), message


def of_prompt(keys: Keys, prompt: str, made: PretrainStage) -> Findings:
    """What fills in is shown where."""
    if objective_of(made.objective, made.model) in ("masked", "spans") and GAP not in prompt:
        message = f"{prompt!r} has no gap; {named(made.model)} fills in {GAP}: write it there"
        yield keys, message

"""What must hold of trainings that go on with a model, and of exports; findings (path, message)."""

from collections.abc import Iterator, Mapping
from dataclasses import fields

from jobs.stages import ExportStage, PretrainStage, Stage
from jobs.yaml_source import Keys
from llm.config import ModelConfig
from llm.errors import ArtifactError
from llm.hf_shape import fitting_family, require_known

Findings = Iterator[tuple[Keys, str]]

KEPT = ("context", "dropout", "attend", "balance")
"""Of a model that is trained on, what may be changed."""


def of_continued(stages: Mapping[str, Stage]) -> Findings:
    """A training builds on a tokenizer, or on a model, which says what it is."""
    for name, stage in stages.items():
        if not isinstance(stage, PretrainStage):
            continue
        keys: Keys = ("stages", name)
        if stage.from_ is None:
            if not stage.tokenizer:
                message = "missing: name a tokenizer stage, or with `from` a model to train on"
                yield (*keys, "tokenizer"), message
            continue
        if stage.tokenizer:
            message = f"{stage.tokenizer!r} has no place beside from, whose model has a tokenizer"
            yield (*keys, "tokenizer"), f"{message}; leave it out"
        for one in fields(ModelConfig):
            fresh = getattr(ModelConfig(), one.name)
            if one.name not in KEPT and (value := getattr(stage.model, one.name)) != fresh:
                message = f"{value!r} has no place beside from: that model decides it; leave it out"
                yield (*keys, "model", one.name), message


def of_export(stage: ExportStage, model: ModelConfig, judges: bool) -> Findings:
    """There is something outside that computes the same; said before the model is trained."""
    where = f"{stage.from_!r}"
    try:
        family = fitting_family(model, where)
        if stage.format == "gguf":
            require_known(model, family, where)
    except ArtifactError as error:
        yield ("from",), str(error)
    if stage.format == "gguf" and judges:
        yield ("format",), "gguf is not allowed: a reward model writes nothing; leave it out"

"""What must hold of a training that goes on with a model; findings are (path, message)."""

from collections.abc import Iterator, Mapping
from dataclasses import fields

from jobs.spec import PretrainStage, Stage
from jobs.yaml_source import Keys
from llm.config import ModelConfig

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

"""Which stages a plan has, and which comes after which.

A training with `cache: true` reads its tokens from a stage that no file writes. It is named after
its text and its tokenizer, so trainings on the same text share it; the dot in its name keeps it
apart from all names in a file. Nothing is built on it in the sense of `references`: the training's
result, and so its fingerprint, is the same without it. It only has to come first.
"""

from collections.abc import Mapping
from graphlib import TopologicalSorter

from jobs.kinds import references
from jobs.stages import (
    AnyStage,
    PretrainStage,
    Stage,
    TokensStage,
)

DATA = "data"
"""What the text of a file's `data` is called in the names of tokens stages."""


def tokens_of(stage: AnyStage) -> str | None:
    """Name of the tokens stage that a training reads: `corpus.tokenizer`; None if it has none."""
    if not isinstance(stage, PretrainStage) or not stage.caches:
        return None
    return f"{stage.corpus or DATA}.{stage.tokenizer}"


def expanded(stages: Mapping[str, Stage]) -> dict[str, AnyStage]:
    """The stages of a file, with tokens stages before the trainings that read them."""
    made: dict[str, AnyStage] = {}
    for name, stage in stages.items():
        tokens = tokens_of(stage)
        if tokens is not None and isinstance(stage, PretrainStage):
            made[tokens] = TokensStage(tokenizer=stage.tokenizer, corpus=stage.corpus)
        made[name] = stage
    return made


def order(stages: Mapping[str, Stage]) -> list[str]:
    """Names, each after those it needs; else as in the file."""
    graph = {name: needed(stage) for name, stage in expanded(stages).items()}
    return list(TopologicalSorter(graph).static_order())


def needed(stage: AnyStage) -> list[str]:
    """The stages that must be done before this one."""
    tokens = tokens_of(stage)
    return [*references(stage).values(), *([tokens] if tokens else [])]

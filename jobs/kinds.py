"""How kinds of stages stand to each other: who may name, run and read what."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from jobs.stages import (
    AnyStage,
    EvaluateStage,
    ExampleStage,
    PretrainStage,
    ScalingStage,
    Stage,
    SweepStage,
    TokenizerStage,
    TokensStage,
)
from llm.align_config import RowsConfig
from llm.config import (
    TextConfig,
)

TRAININGS = PretrainStage | ExampleStage
"""Stages that train a model, with checkpoints."""

MODELS = ("pretrain", "sft", "dpo", "ppo", "import")
"""Kinds whose artifact is a model that writes."""

NOT_WRITTEN = {"tokens": "write `cache: true` in the pretrain stage that reads them"}
"""Kinds that no file holds, and what to do in their place."""

REFERENCES: dict[str, dict[str, tuple[str, ...]]] = {
    "corpus": {},
    "tokenizer": {"corpus": ("corpus",)},
    "tokens": {"tokenizer": ("tokenizer",), "corpus": ("corpus",)},
    "pretrain": {"tokenizer": ("tokenizer",), "from": MODELS, "corpus": ("corpus",)},
    "sft": {"from": MODELS},
    "reward": {"from": ("sft", "dpo", "ppo", "import")},
    "dpo": {"from": ("sft", "dpo", "ppo", "import")},
    "ppo": {"from": ("sft", "dpo", "import"), "reward": ("reward",)},
    "import": {},
    "export": {"from": (*MODELS, "reward")},
    "generate": {"from": MODELS},
    "evaluate": {"from": MODELS, "also": MODELS, "corpus": ("corpus",), "reward": ("reward",)},
    "serve": {"from": MODELS, "also": MODELS},
    "sweep": {"of": ("corpus", "tokenizer", "pretrain", "sft", "reward", "dpo", "ppo")},
    "scaling": {"of": ("pretrain",)},
}
"""Per kind of stage: the keys that name other stages, and the kinds that those may have. A sweep
counts as what its last stage is."""


def references(stage: AnyStage) -> dict[str, str]:
    """The names of the stages that a stage builds on, by the key that names them: `also.0`."""
    values = as_json(stage)
    named: dict[str, str] = {}
    for key in REFERENCES[stage.kind]:
        value = values[key]
        if isinstance(value, list | tuple):
            named |= {f"{key}.{number}": name for number, name in enumerate(value)}
        elif value:
            named[key] = value
    return named


def kind_made(name: str, stages: Mapping[str, Stage]) -> str:
    """What a stage's artifact is: that of a sweep is its best trial's."""
    stage = stages[name]
    if isinstance(stage, SweepStage) and stage.of[-1] in stages:
        return stages[stage.of[-1]].kind
    return stage.kind


def rows_run(stage: AnyStage) -> tuple[str, ...]:
    """The stages that a trial of a sweep or a ladder runs; none for other stages."""
    if isinstance(stage, SweepStage):
        return stage.of
    return (stage.of,) if isinstance(stage, ScalingStage) else ()


def reads_data(stage: AnyStage) -> bool:
    """Whether a stage reads the text of `data`."""
    if not isinstance(stage, TokenizerStage | PretrainStage | TokensStage):
        return False
    if stage.corpus is not None:
        return False
    return not isinstance(stage, TokenizerStage) or stage.file is None


def data_sets(stage: AnyStage) -> tuple[RowsConfig, ...]:
    """The data sets that a stage brings along."""
    return tuple(stage.data) if isinstance(stage, ExampleStage) else ()


def measured_on(stage: AnyStage) -> dict[tuple[str, ...], TextConfig | RowsConfig]:
    """The texts, tasks and prompts of an evaluation, by their place in the stage."""
    if not isinstance(stage, EvaluateStage):
        return {}
    found: dict[tuple[str, ...], TextConfig | RowsConfig] = {
        **{("text", name): text for name, text in stage.text.items()},
        **{("tasks", name): task for name, task in stage.tasks.items()},
    }
    for group, prompts in (("wins", stage.wins), ("toxicity", stage.toxicity)):
        if prompts is not None:
            found[group,] = prompts
    return found


def as_json(stage: AnyStage) -> dict[str, Any]:
    """A stage as it would stand in a spec; `from_` is `from` there, a word that Python keeps."""
    return {key.removesuffix("_"): value for key, value in asdict(stage).items()}

"""What must hold inside an alignment; findings are (path, message), paths start at the stage."""

from collections.abc import Iterator

from jobs.kinds import data_sets
from jobs.shape import did_you_mean, nearest
from jobs.stages import (
    FEEDBACK,
    PYDOC,
    ExampleStage,
    PpoStage,
)
from jobs.yaml_source import Keys
from llm.align_config import FIELDS, ChatDataConfig, PreferenceDataConfig
from llm.config import ModelConfig, auto

Findings = Iterator[tuple[Keys, str]]

FEEDBACK_FOLDERS = {"messages": "chats", "ranking": "rankings", "ratings": "ratings"}
"""Where the feedback store keeps rows of which schema."""

PYDOC_SCHEMAS = {"question_answer", "pairs"}
"""What there is of Python's documentation."""


def of_examples(stage: ExampleStage) -> Findings:
    """Data sets, and for PPO who judges."""
    for number, data in enumerate(data_sets(stage)):
        schema = data.schema  # type: ignore[attr-defined]
        if PYDOC in data.shards and (len(data.shards) > 1 or schema not in PYDOC_SCHEMAS):
            wanted = "question_answer" if isinstance(data, ChatDataConfig) else "pairs"
            message = f"{PYDOC} stands alone, with `schema: {wanted}`"
            yield ("data", number, "shards"), message
        if FEEDBACK in data.shards and (len(data.shards) > 1 or schema not in FEEDBACK_FOLDERS):
            wanted = "messages" if isinstance(data, ChatDataConfig) else "ranking or ratings"
            yield ("data", number, "shards"), f"{FEEDBACK} stands alone, with `schema: {wanted}`"
        for keys, message in of_columns(data):  # type: ignore[arg-type]
            yield ("data", number, *keys), message
    if isinstance(stage, PpoStage):
        yield from of_ppo(stage)


def of_columns(data: ChatDataConfig | PreferenceDataConfig) -> Findings:
    """`columns` and `roles` speak of what there is."""
    fields = FIELDS[data.schema]
    for name in data.columns:
        if name not in fields:
            meant = did_you_mean(nearest(name, fields))
            message = f"is no field of schema {data.schema};{meant} it has {', '.join(fields)}"
            yield ("columns", name), message
    for name, role in data.roles.items():
        if role not in ("system", "user", "assistant"):
            message = f"{role!r} is not allowed; must be one of system, user, assistant"
            yield ("roles", name), message


def of_ppo(stage: PpoStage) -> Findings:
    """Somebody judges; batches come apart evenly."""
    if stage.reward is None and stage.rule is None:
        yield ("reward",), "missing: name a reward stage, or give a rule: FILE.py:NAME"
    if stage.reward is not None and stage.rule is not None:
        yield ("rule",), "has no place beside reward; leave one of them out"
    if stage.rule is not None and ":" not in stage.rule:
        yield ("rule",), f"{stage.rule!r} is not allowed; write FILE.py:NAME or MODULE:NAME"
    if stage.minibatch != auto and stage.batch != auto and stage.batch % stage.minibatch:
        message = f"{stage.minibatch} is not allowed; must divide the batch of {stage.batch}"
        yield ("minibatch",), message
    if stage.critic_warmup >= stage.steps:
        message = f"{stage.critic_warmup} is not allowed; must be less than steps {stage.steps}"
        yield ("critic_warmup",), message


def of_context(stage: PpoStage, model: ModelConfig) -> Findings:
    """An answer leaves room for its question."""
    if stage.answer_tokens > model.context // 2:
        message = (
            f"{stage.answer_tokens} is not allowed; must be at most {model.context // 2}, half of "
            f"the model's context of {model.context}"
        )
        yield ("answer_tokens",), message

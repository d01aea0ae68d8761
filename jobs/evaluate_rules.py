"""What must hold inside an evaluation; findings are (path, message), paths start at the stage."""

import re
from collections.abc import Iterator, Mapping

from jobs.align_rules import of_columns
from jobs.corpus_rules import of_text
from jobs.kinds import measured_on
from jobs.stages import (
    FEEDBACK,
    PYDOC,
    EvaluateStage,
    ExampleStage,
    PretrainStage,
    Stage,
    SweepStage,
)
from jobs.yaml_source import Keys
from llm.align_config import RowsConfig
from llm.evaluate_config import JudgeConfig, TaskConfig

Findings = Iterator[tuple[Keys, str]]

NAME = re.compile(r"[A-Za-z0-9_-]+")

PYDOC_SCHEMAS = {"pairs", "question_answer", "prompts"}
"""What rows there are of Python's documentation."""

CLOZES = {"cloze", "lambada", "question_answer", "triviaqa", "gsm8k"}
"""Schemas whose rows have no wrong answers."""

SENTENCES = {"winogrande", "blimp", "lambada", "cloze"}
"""Schemas that go on with a text, which nobody asks in a conversation."""

OWN = ("memorisation", "toxicity")
"""What figures are called that no name in the file stands for."""


def of_evaluation(stage: EvaluateStage) -> Findings:
    """There is something to measure, and somebody who can."""
    groups = (stage.wins, stage.memorisation, stage.toxicity, stage.associations)
    if not (stage.text or stage.tasks or stage.corpus or any(one is not None for one in groups)):
        message = (
            "missing: something to measure: text, tasks, corpus, wins, memorisation, toxicity or "
            "associations"
        )
        yield ("tasks",), message
    yield from of_names(stage)
    for name, text in stage.text.items():
        for keys, message in of_text(text):
            yield ("text", name, *keys), message
    for name, task in stage.tasks.items():
        for keys, message in of_task(task):
            yield ("tasks", name, *keys), message
    for place, config in measured_on(stage).items():
        for keys, message in of_source(config):
            yield (*place, *keys), message
    yield from of_wins(stage)
    if stage.associations is not None:
        for name, probe in stage.associations.own.items():
            for number, template in enumerate(probe.templates):
                if "{}" not in template:
                    keys = ("associations", "own", name, "templates", number)
                    yield keys, f"{template!r} has no {{}}; write it where the word stands"


def of_names(stage: EvaluateStage) -> Findings:
    """Names become files, and tell figures apart."""
    named = [("text", name) for name in stage.text] + [("tasks", name) for name in stage.tasks]
    if stage.associations is not None:
        named += [("associations", name) for name in stage.associations.lists]
        named += [("associations", name) for name in stage.associations.own]
    taken: dict[str, str] = dict.fromkeys(OWN, "something else that is measured")
    for group, name in named:
        keys: Keys = (group, "own", name) if group == "associations" else (group, name)
        if not NAME.fullmatch(name):
            yield keys, f"{name!r} is not allowed; use letters, digits, _ and -"
        reserved = name.startswith("wins-over-") or (
            stage.corpus is not None and name.startswith(f"{stage.corpus}-")
        )
        if name in taken or reserved:
            what = taken.get(name, "something else that is measured")
            yield keys, f"{name!r} is the name of {what} already; choose another"
        taken[name] = group


def of_task(task: TaskConfig) -> Findings:
    """The schema has what the task asks for."""
    if task.schema == "template":
        if not task.prompt:
            yield ("prompt",), "missing: what is read before the answer, such as '{question}'"
        if not task.answer:
            yield ("answer",), "missing: with choices the path of the right one, else a template"
    else:
        for key in ("prompt", "choices", "answer"):
            if getattr(task, key):
                message = f"has no effect with schema {task.schema}; set schema: template"
                yield (key,), message
    if task.measure == "choice" and (
        task.schema in CLOZES or (task.schema == "template" and not task.choices)
    ):
        yield ("measure",), f"choice is not allowed: rows of schema {task.schema} have no choices"
    if task.measure in ("cloze", "write") and task.schema in ("winogrande", "blimp"):
        message = f"{task.measure} is not allowed: schema {task.schema} compares sentences"
        yield ("measure",), f"{message}; leave it out"
    if task.chat and task.schema in SENTENCES:
        message = f"true is not allowed: schema {task.schema} goes on with a text; leave it out"
        yield ("chat",), message
    if task.shots_from and not task.shots:
        yield ("shots_from",), "has no effect without shots; say how many"
    yield from of_extract(task.extract)


def of_extract(pattern: str) -> Findings:
    """A pattern has a group."""
    try:
        if pattern and not re.compile(pattern).groups:
            yield ("extract",), f"{pattern!r} has no group; put what is wanted in brackets"
    except re.error as error:
        yield ("extract",), f"{pattern!r} is no regular expression: {error}"


def of_source(config: object) -> Findings:
    """Where rows come from, and what their fields are called."""
    if not isinstance(config, RowsConfig):
        return
    schema = config.schema  # type: ignore[attr-defined]
    if PYDOC in config.shards and (len(config.shards) > 1 or schema not in PYDOC_SCHEMAS):
        yield ("shards",), f"{PYDOC} stands alone, with `schema: pairs` or `question_answer`"
    if FEEDBACK in config.shards:
        message = f"{FEEDBACK} is not allowed: it goes on changing; copy it and name the copy"
        yield ("shards",), message
    if schema == "template":
        if config.columns:
            yield ("columns",), "has no effect with schema template, which names paths itself"
    else:
        yield from of_columns(config)  # type: ignore[arg-type]


def of_wins(stage: EvaluateStage) -> Findings:
    """There are two models, and one judge."""
    judge = stage.wins.judge if stage.wins else None
    if stage.wins is None:
        if stage.reward is not None:
            yield ("reward",), "has no effect without wins, which it judges; leave it out"
        return
    if len(stage.models) < 2:
        yield ("also",), "missing: for wins, a model whose answers the others are compared with"
    if judge is None and stage.reward is None:
        yield ("reward",), "missing: for wins, name a reward stage, or give wins.judge"
    if judge is not None and stage.reward is not None:
        yield ("reward",), "has no place beside wins.judge; leave one of them out"
    if judge is not None:
        for keys, message in of_judge(judge):
            yield ("wins", "judge", *keys), message


def of_judge(judge: JudgeConfig) -> Findings:
    """It can be asked."""
    if not judge.url.startswith(("http://", "https://")):
        yield ("url",), f"{judge.url!r} is not allowed; must begin with http:// or https://"
    lacking = [one for one in ("{question}", "{first}", "{second}") if one not in judge.prompt]
    if judge.prompt and lacking:
        yield ("prompt",), f"lacks {', '.join(lacking)}; write where they stand"


def of_lineage(stages: Mapping[str, Stage]) -> Findings:
    """What a model knows by heart is looked for in the text that it was pretrained on."""
    for name, stage in stages.items():
        if not isinstance(stage, EvaluateStage) or stage.memorisation is None:
            continue
        if stage.from_ in stages and not was_pretrained(stage.from_, stages):
            message = (
                f"is not allowed: {stage.from_!r} comes from no pretrain stage of this file, whose "
                "text could be looked at; leave it out"
            )
            yield ("stages", name, "memorisation"), message


def was_pretrained(name: str, stages: Mapping[str, Stage]) -> bool:
    """Whether a model comes from a pretrain stage of the file."""
    for _ in stages:
        stage = stages.get(name)
        if isinstance(stage, SweepStage):
            name = stage.of[-1]
        elif isinstance(stage, ExampleStage):
            name = stage.from_
        else:
            return isinstance(stage, PretrainStage)
    return False

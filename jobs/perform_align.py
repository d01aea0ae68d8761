"""The work of alignments: instruction tuning, reward model, DPO and PPO."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from jobs.feedback import NOTHING, nothing_said, taken
from jobs.kinds import data_sets
from jobs.progress import telling
from jobs.stages import (
    FEEDBACK,
    ExampleStage,
    PpoStage,
    part,
)
from jobs.watching import watching
from jobs.work import Work, with_pydoc_written
from llm.align_config import (
    ChatDataConfig,
    DpoConfig,
    PpoConfig,
    RewardConfig,
    RowsConfig,
    SftConfig,
)
from llm.errors import DataError
from llm.files import write_json

Metrics = dict[str, Any]

CONFIGS: dict[str, type] = {
    "sft": SftConfig,
    "reward": RewardConfig,
    "dpo": DpoConfig,
    "ppo": PpoConfig,
}

EXAMPLES = "examples"
"""Folder of a stage's tokenised data in its artifact."""

KINDS: dict[str, Any] = {
    "sft": "chat",
    "reward": "comparison",
    "dpo": "comparison",
    "ppo": "prompt",
}
"""What the data of a kind of stage is made into."""


def align(work: Work) -> Metrics:
    """Instruction tuning, a reward model, or DPO."""
    from cluster.align import align as align_on_cluster
    from llm.align import new_task

    stage = work.stage.stage
    assert isinstance(stage, ExampleStage)
    config: Any = part(stage, CONFIGS[stage.kind])
    examples = make_examples(work, stage)
    kind: Any = stage.kind
    task = new_task(kind, work.folder, work.parent("from"), examples, config, work.stage.seed)
    write_json(work.folder / "task.json", task.to_json())
    with watching(work) as watch:
        metrics = align_on_cluster(task, work.plan.cluster, watch, work.fence)
    report(work)
    return {**metrics, "steps": task.train.steps}


def ppo(work: Work) -> Metrics:
    """Train a chat model by the rewards of its own answers."""
    from cluster.ppo import ppo as ppo_on_cluster
    from llm.ppo_task import PpoTask

    stage = work.stage.stage
    assert isinstance(stage, PpoStage)
    config = part(stage, PpoConfig)
    reward = work.parent("reward") if stage.reward else None
    task = PpoTask(
        folder=str(work.folder),
        policy=str(work.parent("from")),
        reward=str(reward or ""),
        prompts=str(make_examples(work, stage)),
        config=config,
        seed=work.stage.seed,
        comparisons=str(reward / EXAMPLES) if reward else "",
        pretrain=pretraining_of(work) if config.pretrain_weight else "",
    )
    write_json(work.folder / "task.json", task.to_json())
    with watching(work) as watch:
        metrics = ppo_on_cluster(task, work.plan.cluster, watch, work.fence)
    report(work)
    return metrics


def pretraining_of(work: Work) -> str:
    """task.json of the pretraining that the model began with."""
    trained = [one.folder for one in work.models if one.kind == "pretrain" and one.folder]
    if not trained:
        raise DataError(
            f"stages.{work.stage.name}.pretrain_weight: the model comes from no pretrain stage "
            "whose text could be mixed in; leave it out"
        )
    return str(trained[-1] / "task.json")


def make_examples(work: Work, stage: ExampleStage) -> Path:
    """The folder of the stage's data as tokens."""
    from cluster.examples import ExampleSource
    from cluster.examples import make_examples as make
    from llm.tokenizer_file import tokenizer_in

    model = work.stage.model
    assert model is not None
    room = model.context - (stage.answer_tokens if isinstance(stage, PpoStage) else 0)
    folder = work.folder / EXAMPLES
    data: Any = tuple(
        replace(one, shards=shards)
        for number, one in enumerate(data_sets(stage))
        if (shards := shards_of(one, number, work))
    )
    if not data:
        raise nothing_said(work.plan.spec, work.stage.name)
    source = ExampleSource(
        kind=KINDS[stage.kind],
        data=data,
        tokenizer=str(tokenizer_in(work.parent("from"))),
        room=room,
        validation=stage.validation,
        drop=getattr(stage, "too_long", "cut") == "drop",
    )
    with telling(work.console, "reading the data") as say:
        index = make(source, folder, say)
    work.say(counts(index))
    return folder


def shards_of(data: RowsConfig, number: int, work: Work) -> tuple[str, ...]:
    """Where the rows of a stage's data set lie; nowhere if nobody has said anything yet."""
    if data.shards == (FEEDBACK,):
        digest = work.stage.data["examples"][number]
        return () if digest == NOTHING else (str(taken(work.plan.spec, digest)),)
    kind = "chats" if isinstance(data, ChatDataConfig) else "pairs"
    return with_pydoc_written(data.shards, work, kind)


def counts(index: dict[str, Any]) -> str:
    """`950 examples and 50 held out; 3 cut to the context; left out: 2 tie`"""
    text = f"{index['train']:,} examples and {index['validation']:,} held out"
    if index["cut"]:
        text += f"; {index['cut']:,} cut to the context"
    left_out = ", ".join(f"{count:,} {why}" for why, count in index["skipped"].items())
    return f"{text}; left out: {left_out}" if left_out else text


def report(work: Work) -> None:
    """Plots of a training, and what each model on the way to it answers."""
    from llm.answers import NAME as ANSWERS
    from llm.answers import answer_all
    from llm.training_report import write_report

    stage = work.stage.stage
    prompts = getattr(stage, "prompts", ())
    answers = []
    if prompts:
        folders = {one.name: one.folder for one in work.models if one.folder}
        folders[work.stage.name] = work.folder
        answers = answer_all(folders, prompts, getattr(stage, "answer_tokens", 64))
        write_json(work.folder / ANSWERS, answers)
    title = f"{work.plan.spec.name}: {work.stage.name}"
    work.say(f"with plots: {write_report(work.folder, title, answers)}")

"""The work of an evaluation: one measurement after the other, each kept as it ends."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from jobs.perform_align import pretraining_of
from jobs.progress import telling
from jobs.show_evaluate import table_of
from jobs.stages import EvaluateStage
from jobs.work import Work, with_pydoc_written
from llm.align_config import RowsConfig
from llm.evaluate_config import PromptsConfig, WinsConfig

Metrics = dict[str, Any]

PYDOC_KINDS = {"pairs": "pairs", "question_answer": "chats", "prompts": "chats"}
"""What of Python's documentation the rows of a schema are."""


@dataclass(frozen=True)
class Measurement:
    """One thing that is measured of one model."""

    task: str
    model: str
    find: Callable[[Any], Any]
    """Given who asks models (`llm.examinee.Ask`), a `llm.found.Found`."""


def evaluate(work: Work) -> Metrics:
    """Measure models side by side."""
    from cluster.evaluate import desks
    from llm.evaluation import part_path, read_parts, write_evaluation, write_part
    from llm.evaluation_report import write_report

    stage = work.stage.stage
    assert isinstance(stage, EvaluateStage)
    every = list(measurements(work, stage))
    missing = [one for one in every if not part_path(work.folder, one.task, one.model).exists()]
    with telling(work.console, "starting to measure") as say:
        told = Told(say)
        with desks(work.plan.cluster, stage.precision, told.progress, work.fence) as crew:
            for number, one in enumerate(missing, start=1):
                told.what = f"{number}/{len(missing)}: {one.task} of {one.model}"
                found = one.find(crew.ask)
                write_part(part_path(work.folder, one.task, one.model), one.task, one.model, found)
    parts = read_parts(work.folder, [(one.task, one.model) for one in every])
    evaluation = write_evaluation(work.folder, parts, stage.from_)
    work.console.print(table_of(evaluation, stage.models))
    title = f"{work.plan.spec.name}: {work.stage.name}"
    work.say(f"with intervals drawn: {write_report(work.folder, title, evaluation, parts)}")
    return figures(evaluation, stage.from_)


class Told:
    """Says how far the measurement is that goes on."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say, self.what = say, ""

    def progress(self, how_far: str) -> None:
        """A part of it is done."""
        self.say(f"{self.what}, {how_far}")


def figures(evaluation: dict[str, Any], model: str) -> Metrics:
    """What the manifest tells of the model that `from` names."""
    rows = evaluation["rows"]
    own = {f"{one['task']}.{one['metric']}": one["value"] for one in rows if one["model"] == model}
    return {"figures": len(rows), "evaluated": own}


def folder_of(work: Work, name: str) -> Path:
    """The artifact of a model."""
    stage = work.stage.stage
    assert isinstance(stage, EvaluateStage)
    named = {stage.from_: "from"} | {
        other: f"also.{number}"
        for number, other in reversed(list(enumerate(stage.also)))
        if other != stage.from_
    }
    return work.parent(named[name])


def measurements(work: Work, stage: EvaluateStage) -> Iterator[Measurement]:
    """All that there is to do; data are read when the first model is asked."""
    for group in (of_texts, of_tasks, of_memorisation, of_written, of_associations):
        for task, find in group(work, stage):
            for model in stage.models:
                yield Measurement(task, model, partial(find, folder_of(work, model)))
    yield from of_wins(work, stage)


Finds = Iterator[tuple[str, Callable[[Path, Any], Any]]]


def of_texts(work: Work, stage: EvaluateStage) -> Finds:
    """Bits per byte of each text, and of what each source of a corpus holds out."""
    from llm.measured_text import measured_documents, of_corpus
    from llm.measuring import text

    texts = {
        name: replace(one, shards=with_pydoc_written(one.shards, work))
        for name, one in stage.text.items()
    }
    if stage.corpus is not None:
        from jobs.perform import read_corpus

        folder = work.parent("corpus")
        for source, made in read_corpus(folder)["sources"].items():
            if made["validation"]["documents"]:
                texts[f"{stage.corpus}-{source}"] = of_corpus(str(folder), source)
    for name, config in texts.items():
        documents = cache(partial(measured_documents, config))

        def find(folder: Path, ask: Any, documents: Any = documents) -> Any:
            return text(ask, folder, documents())

        yield name, find


def of_tasks(work: Work, stage: EvaluateStage) -> Finds:
    """Questions with known answers."""
    from llm.questions import questions_in
    from llm.tasks import task

    for name, written in stage.tasks.items():
        config = with_rows(written, work)
        read = cache(partial(read_questions, questions_in, config, f"stages.{work.stage.name}"))

        def find(folder: Path, ask: Any, config: Any = config, read: Any = read) -> Any:
            return task(ask, folder, config, *read())

        yield name, find


def read_questions(read: Any, config: Any, where: str) -> Any:
    """Solved examples and questions; DataError if no question is left."""
    from llm.errors import DataError

    shots, questions = read(config)
    if len(shots) < config.shots or not questions:
        raise DataError(
            f"{where}: {', '.join(config.shards)}: {len(shots)} solved examples and "
            f"{len(questions)} questions; {config.shots} and one at least are needed"
        )
    return shots, questions


def with_rows(config: Any, work: Work) -> Any:
    """The same with files in place of pydoc://."""
    assert isinstance(config, RowsConfig)
    kind = PYDOC_KINDS.get(config.schema, "text")  # type: ignore[attr-defined]
    return replace(config, shards=with_pydoc_written(config.shards, work, kind))


def of_memorisation(work: Work, stage: EvaluateStage) -> Finds:
    """What models know by heart of the text that the first of them was pretrained on."""
    if stage.memorisation is None:
        return
    from llm.measured_text import training_documents
    from llm.measuring import memorisation
    from llm.task import read_task

    config = stage.memorisation
    data = read_task(Path(pretraining_of(work))).data

    @cache
    def documents() -> Any:
        return [list(training_documents(data, part, config.documents)) for part in (False, True)]

    yield "memorisation", lambda folder, ask: memorisation(ask, folder, config, *documents())


def of_written(work: Work, stage: EvaluateStage) -> Finds:
    """Listed words in what models write."""
    if stage.toxicity is None:
        return
    from llm.measuring import toxicity
    from llm.word_list import read_word_list

    config = stage.toxicity
    words = read_word_list(config.words, f"stages.{work.stage.name}.toxicity.words")

    def find(folder: Path, ask: Any) -> Any:
        prompts = prompts_of(config, work)
        return toxicity(prompts, answers_of(folder, ask, config, prompts), words)

    yield "toxicity", find


def of_associations(work: Work, stage: EvaluateStage) -> Finds:
    """Probes of prejudice."""
    if stage.associations is None:
        return
    from llm.associations import lists_of
    from llm.measuring import associations

    for name, probe in lists_of(stage.associations).items():

        def find(folder: Path, ask: Any, probe: Any = probe) -> Any:
            return associations(ask, folder, probe)

        yield name, find


def prompts_of(config: PromptsConfig, work: Work) -> Any:
    """The prompts of a group."""
    from llm.questions import prompts_in

    return prompts_in(with_rows(config, work))


def answers_of(folder: Path, ask: Any, config: PromptsConfig, prompts: Any) -> list[str]:
    """What a model writes to prompts."""
    from llm.continuations import Manner
    from llm.measuring import openings

    return ask("write", folder, openings(prompts), Manner(config.answer_tokens))


def of_wins(work: Work, stage: EvaluateStage) -> Iterator[Measurement]:
    """The first model's answers against those of each other one."""
    if stage.wins is None:
        return
    config = stage.wins
    answers: dict[Path, list[str]] = {}

    def find(other: str, ask: Any) -> Any:
        from llm.measuring import wins

        prompts = prompts_of(config, work)
        own, others = folder_of(work, stage.from_), folder_of(work, other)
        for folder in (own, others):
            if folder not in answers:
                answers[folder] = answers_of(folder, ask, config, prompts)
        return wins(prompts, answers[own], answers[others], judge_of(work, config, ask))

    for other in stage.models[1:]:
        yield Measurement(f"wins-over-{other}", stage.from_, partial(find, other))


def judge_of(work: Work, config: WinsConfig, ask: Any) -> Any:
    """Who says which answer is better."""
    if config.judge is None:
        from llm.measuring import by_rewards

        return by_rewards(ask, work.parent("reward"))
    from cluster.judge import Endpoint

    return Endpoint(config.judge, f"stages.{work.stage.name}.wins.judge").judge

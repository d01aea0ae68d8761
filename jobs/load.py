"""From a YAML file and overrides to a spec that holds together, or all that is wrong with it.

file -> values with lines -> overrides -> shape (diagnose) -> rules between fields -> paths
"""

import os
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any, TypeVar

from jobs import rules
from jobs.diagnose import diagnose
from jobs.inside import outputs_from
from jobs.kinds import data_sets, references
from jobs.overrides import override
from jobs.spec import Origin, Spec, SpecFile
from jobs.stages import (
    CorpusStage,
    DpoStage,
    EvaluateStage,
    ExampleStage,
    ImportStage,
    PpoStage,
    PretrainStage,
    RewardStage,
    ServeStage,
    SftStage,
    Stage,
    TokenizerStage,
)
from jobs.sweep_rules import of_searches
from jobs.versions import outdated, require_known
from jobs.yaml_source import Keys, Problem, Source, read, report, with_problems
from llm.config import DataConfig, LoopConfig

R = TypeVar("R")


def load(file: str, overrides: Iterable[str] = ()) -> Spec:
    """The spec of a file with `a.b=c` laid over it; SpecError lists every problem."""
    return with_paths(as_written(file, overrides))


def as_written(file: str, overrides: Iterable[str] = ()) -> Spec:
    """The same with relative paths where they were written so."""
    overrides = tuple(overrides)
    source = read(file)
    for number, written in enumerate(overrides, start=1):
        source = override(source, written, number)
    return built(source, file, overrides)


def built(source: Source, file: str, overrides: tuple[str, ...]) -> Spec:
    """The spec that values make."""
    require_known(source)
    spec, source = diagnose(with_problems(source, outdated(source, file)), SpecFile)
    if spec is not None:
        spec = with_own_held_out_text(spec, source)
        source = replace(source, problems=(*source.problems, *broken_rules(spec, source)))
    if spec is None or source.problems:
        raise report(source.problems)
    spec = with_tokenizers(spec)
    values: dict[str, Any] = {one.name: getattr(spec, one.name) for one in fields(SpecFile)}
    return Spec(**values, origin=Origin(file, overrides, source))


def with_own_held_out_text(spec: SpecFile, source: Source) -> SpecFile:
    """Validation shards take the place of the default share of the training text."""
    data = spec.data
    if data is None or not data.validation.shards:
        return spec
    if ("data", "validation", "fraction") in source.places:
        return spec
    return replace(spec, data=replace(data, validation=replace(data.validation, fraction=0.0)))


def with_tokenizers(spec: SpecFile) -> SpecFile:
    """A model that is trained on keeps its tokenizer."""
    stages = {
        name: replace(stage, tokenizer=stage.from_)
        if isinstance(stage, PretrainStage) and stage.from_ and not stage.tokenizer
        else stage
        for name, stage in spec.stages.items()
    }
    return replace(spec, stages=stages)


def broken_rules(spec: SpecFile, source: Source) -> list[Problem]:
    """What does not hold between fields, except where it may be owed to what was left out."""
    unclear = {section(problem.keys) for problem in source.problems}
    found = [Problem(source.place(keys), keys, text) for keys, text in rules.of_spec(spec)]
    found += of_searches(spec, source)
    return [one for one in found if depends_on(one.keys, spec) not in unclear]


def depends_on(keys: Keys, spec: SpecFile) -> Keys:
    """The section that decides a finding: for a name of a stage that stage, else its own."""
    if keys[0] == "stages" and len(keys) > 2:
        key = ".".join(map(str, keys[2:]))
        target = references(spec.stages[str(keys[1])]).get(key)
        if target is not None:
            return ("stages", target)
        if key == "corpus":  # is missing, if the text of the file is
            return ("data",)
    return section(keys)


def section(keys: Keys) -> Keys:
    """A stage, or a key of the top level."""
    return keys[:2] if keys[:1] == ("stages",) else keys[:1]


def with_paths(spec: Spec) -> Spec:
    """The same with absolute paths; a relative one starts from where it was written."""
    return replace(
        spec,
        storage=output(spec.storage),
        data=spec.data and data_with_paths(spec.data, spec),
        stages={
            name: mirrored(stage_with_paths(stage, ("stages", name), spec))
            for name, stage in spec.stages.items()
        },
    )


def output(path: str) -> str:
    """Where something is written: an absolute path, a relative one starting from here; or a URI."""
    if "://" in path:
        return path
    return os.path.abspath(os.path.join(outputs_from(), os.path.expanduser(path)))


def mirrored(stage: Stage) -> Stage:
    """A stage with the absolute path of its mirror, if it has one."""
    if isinstance(stage, LoopConfig) and stage.checkpoint.mirror:
        kept = replace(stage.checkpoint, mirror=output(stage.checkpoint.mirror))
        return replace(stage, checkpoint=kept)
    return stage


def data_with_paths(data: DataConfig, spec: Spec) -> DataConfig:
    """The text with absolute paths."""
    validation = data.validation
    held_out = absolute_all(validation.shards, ("data", "validation", "shards"), spec)
    shards = absolute_all(data.shards, ("data", "shards"), spec)
    return replace(data, shards=shards, validation=replace(validation, shards=held_out))


def stage_with_paths(stage: Stage, keys: Keys, spec: Spec) -> Stage:
    """A stage with absolute paths; `keys` lead to it."""
    match stage:
        case CorpusStage():
            return corpus_with_paths(stage, keys, spec)
        case TokenizerStage(file=str() as file):
            return replace(stage, file=absolute(file, (*keys, "file"), spec))
        case ImportStage():
            return replace(stage, folder=absolute(stage.folder, (*keys, "folder"), spec))
        case SftStage() | RewardStage() | DpoStage() | PpoStage():
            return examples_with_paths(stage, keys, spec)
        case ServeStage():
            return serving_with_paths(stage, keys, spec)
        case EvaluateStage():
            return evaluation_with_paths(stage, keys, spec)
        case _:
            return stage


def examples_with_paths(stage: ExampleStage, keys: Keys, spec: Spec) -> ExampleStage:
    """An alignment with the absolute paths of its data sets and its rule."""
    data = [
        replace(one, shards=absolute_all(one.shards, (*keys, "data", number, "shards"), spec))
        for number, one in enumerate(data_sets(stage))
    ]
    stage = replace(stage, data=tuple(data))  # type: ignore[arg-type]
    if isinstance(stage, PpoStage) and stage.rule and ".py:" in stage.rule:
        file, _, name = stage.rule.rpartition(":")
        return replace(stage, rule=f"{absolute(file, (*keys, 'rule'), spec)}:{name}")
    return stage


def serving_with_paths(stage: ServeStage, keys: Keys, spec: Spec) -> ServeStage:
    """A serve stage with the absolute paths of its keys, its filters and its store."""
    filters, feedback = stage.filters, stage.feedback
    if stage.keys is not None:
        stage = replace(stage, keys=absolute(stage.keys, (*keys, "keys"), spec))
    if filters.words is not None:
        words = absolute(filters.words, (*keys, "filters", "words"), spec)
        filters = replace(filters, words=words)
    if filters.hook is not None:
        file, _, name = filters.hook.rpartition(":")
        file = absolute(file, (*keys, "filters", "hook"), spec)
        filters = replace(filters, hook=f"{file}:{name}")
    if feedback.folder is not None:
        folder = absolute(feedback.folder, (*keys, "feedback", "folder"), spec)
        feedback = replace(feedback, folder=folder)
    return replace(stage, filters=filters, feedback=feedback)


def corpus_with_paths(stage: CorpusStage, keys: Keys, spec: Spec) -> CorpusStage:
    """A corpus with the absolute paths of its sources, its word list and its evaluation sets."""
    words, evaluation = stage.filter.words, stage.decontaminate
    sources = {
        name: replace(
            source, shards=absolute_all(source.shards, (*keys, "sources", name, "shards"), spec)
        )
        for name, source in stage.sources.items()
    }
    if words is not None:
        file = absolute(words.file, (*keys, "filter", "words", "file"), spec)
        stage = replace(stage, filter=replace(stage.filter, words=replace(words, file=file)))
    if evaluation is not None:
        shards = absolute_all(evaluation.shards, (*keys, "decontaminate", "shards"), spec)
        stage = replace(stage, decontaminate=replace(evaluation, shards=shards))
    return replace(stage, sources=sources)


def evaluation_with_paths(stage: EvaluateStage, keys: Keys, spec: Spec) -> EvaluateStage:
    """An evaluation with the absolute paths of its texts, tasks, prompts and words."""

    def found(one: R, *place: str) -> R:
        """The same with absolute paths; `place` leads to it."""
        names = [name for name in ("shards", "shots_from") if getattr(one, name, ())]
        paths = {
            name: absolute_all(getattr(one, name), (*keys, *place, name), spec) for name in names
        }
        return replace(one, **paths)  # type: ignore[type-var]

    toxicity = stage.toxicity
    if toxicity is not None:
        words = absolute(toxicity.words, (*keys, "toxicity", "words"), spec)
        toxicity = replace(found(toxicity, "toxicity"), words=words)
    return replace(
        stage,
        text={name: found(one, "text", name) for name, one in stage.text.items()},
        tasks={name: found(one, "tasks", name) for name, one in stage.tasks.items()},
        wins=None if stage.wins is None else found(stage.wins, "wins"),
        toxicity=toxicity,
    )


def absolute_all(paths: tuple[str, ...], keys: Keys, spec: Spec) -> tuple[str, ...]:
    """All paths of a list."""
    return tuple(absolute(path, (*keys, number), spec) for number, path in enumerate(paths))


def absolute(path: str, keys: Keys, spec: Spec) -> str:
    """One path; URIs stay as they are."""
    if "://" in path:
        return path
    folder = spec.origin.source.place(keys).folder
    return os.path.abspath(folder / os.path.expanduser(path))

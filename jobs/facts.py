"""What the plan has to know of the world: the text, the machine, and what is already made.

An artifact is a folder `<storage>/<name>/<stage>/<fingerprint>/`; it is finished once it holds
manifest.json, which is written last.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from jobs.feedback import measure as measure_feedback
from jobs.graph import expanded
from jobs.kinds import data_sets, measured_on, reads_data
from jobs.measured import Measured, measure, write_speed
from jobs.spec import Spec
from jobs.stages import (
    FEEDBACK,
    PYDOC,
    CorpusStage,
    EvaluateStage,
    ImportStage,
    PpoStage,
    TokenizerStage,
)
from jobs.yaml_source import Keys, dotted
from llm.align_config import RowsConfig
from llm.config import ModelConfig, TextConfig
from llm.errors import ArtifactError, DataError
from llm.evaluate_config import TaskConfig
from llm.files import sha256
from llm.processor import instructions

MANIFEST = "manifest.json"
CHECKPOINTS = "checkpoints"
IDENTITY = {"kind", "fingerprint", "spec", "parents", "data", "seed"}
PYDOC_BYTES = 2_000_000


class File(NamedTuple):
    """A file that is read: where it was, and what stands for its content."""

    path: str
    bytes: int
    digest: str


@dataclass(frozen=True)
class Text:
    """A set of shards: how much, and a digest of the content that no path changes."""

    bytes: int
    digest: str
    files: tuple[File, ...] = ()
    """None of what Python brings along, and of what people said."""


@dataclass(frozen=True)
class Artifact:
    """A finished stage, or one that was broken off: then without manifest, at a checkpoint."""

    folder: Path
    manifest: dict[str, Any] | None
    step: int | None = None
    """Newest checkpoint of an unfinished one."""

    @property
    def fingerprint(self) -> str:
        """What the folder is called."""
        return self.folder.name

    @property
    def metrics(self) -> dict[str, Any]:
        """What the stage measured."""
        return (self.manifest or {}).get("metrics", {})


@dataclass(frozen=True)
class SourceFacts:
    """What a corpus stage is made of."""

    sources: Mapping[str, Text]
    evaluation: Text | None = None
    """Files that it must not contain parts of."""


@dataclass(frozen=True)
class ImportFacts:
    """A model of others: a digest of its folder, and what it is."""

    digest: str
    model: ModelConfig


@cache
def count_rows(tokens: Path, context: int, seed: int, epochs: int) -> int:
    """Sequences of so many passes over a finished tokens stage."""
    from llm.tokens import count_rows as count

    return count(tokens, context, seed, epochs)


@dataclass(frozen=True)
class Facts:
    """All that `resolve` takes from the outside; the plan is a pure function of spec and facts."""

    cores: int
    instructions: frozenset[str] = frozenset()
    """Of the processor."""
    text: Text | None = None
    """That of `data`, if a stage reads it."""
    held_out: Text | None = None
    corpora: Mapping[str, SourceFacts] = field(default_factory=dict)
    """By stage."""
    examples: Mapping[str, tuple[Text, ...]] = field(default_factory=dict)
    """The data sets of alignments, by stage."""
    evaluations: Mapping[str, Mapping[str, Text]] = field(default_factory=dict)
    """What evaluations measure by, by stage and place in it: `tasks.arc`."""
    imports: Mapping[str, ImportFacts] = field(default_factory=dict)
    """Models of others, by stage."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Digests of foreign tokenizers, word lists and rules, by path."""
    artifacts: Mapping[str, tuple[Artifact, ...]] = field(default_factory=dict)
    """By stage, the newest first."""
    flops_per_second: float | None = None
    """What a training in this storage reached most recently."""
    count_rows: Callable[[Path, int, int, int], int] = count_rows
    measure: Callable[[Path], Measured] = measure
    write_speed: Callable[[Path], float | None] = write_speed

    def artifact(self, stage: str, fingerprint: str) -> Artifact | None:
        """The artifact of this name, finished or not."""
        of_stage = self.artifacts.get(stage, ())
        return next((one for one in of_stage if one.fingerprint == fingerprint), None)


def gather(spec: Spec) -> Facts:
    """The facts of a spec on this machine; reads the text once to digest it."""
    facts = Facts(
        cores=os.cpu_count() or 1,
        instructions=instructions(),
        corpora={
            name: sources_of(stage, spec, ("stages", name))
            for name, stage in spec.stages.items()
            if isinstance(stage, CorpusStage)
        },
        examples={
            name: tuple(
                look_at_examples(spec, one, ("stages", name, "data", number, "shards"))
                for number, one in enumerate(data_sets(stage))
            )
            for name, stage in spec.stages.items()
            if data_sets(stage)
        },
        evaluations={
            name: looked_at
            for name, stage in spec.stages.items()
            if (looked_at := dict(look_at_evaluation(spec, name)))
        },
        imports={
            name: look_at_model(spec, stage, ("stages", name, "folder"))
            for name, stage in spec.stages.items()
            if isinstance(stage, ImportStage)
        },
        files={file: digest_of_file(file, spec, keys) for file, keys in files_in(spec)},
    )
    if spec.data is not None and any(map(reads_data, spec.stages.values())):
        held_out = spec.data.validation.shards
        look = partial(look_at, spec, spec.data)
        facts = replace(
            facts,
            text=look(spec.data.shards, ("data", "shards")),
            held_out=look(held_out, ("data", "validation", "shards")) if held_out else None,
        )
    return refresh(facts, spec)


def refresh(facts: Facts, spec: Spec) -> Facts:
    """The same with the artifacts as they are now."""
    return replace(
        facts,
        artifacts={name: artifacts_in(spec.place(name)) for name in expanded(spec.stages)},
        flops_per_second=speed_in(Path(spec.storage)),
    )


def sources_of(stage: CorpusStage, spec: Spec, keys: Keys) -> SourceFacts:
    """What a corpus stage is made of; `keys` lead to the stage."""
    skip = stage.bad_files == "skip"
    sources = {
        name: look_at(spec, source, source.shards, (*keys, "sources", name, "shards"), skip)
        for name, source in stage.sources.items()
    }
    if stage.decontaminate is None:
        return SourceFacts(sources)
    shards = stage.decontaminate.shards
    return SourceFacts(sources, look_at(spec, None, shards, (*keys, "decontaminate", "shards")))


def look_at_examples(spec: Spec, data: RowsConfig, keys: Keys) -> Text:
    """Size and digest of a data set of an alignment; of what people said also if it is nothing."""
    if data.shards == (FEEDBACK,):
        return Text(*measure_feedback(data, spec))
    return look_at(spec, None, data.shards, keys)


def look_at_evaluation(spec: Spec, name: str) -> Iterator[tuple[str, Text]]:
    """Size and digest of everything that a stage measures by."""
    for place, config in measured_on(spec.stages[name]).items():
        keys = ("stages", name, *place)
        text = config if isinstance(config, TextConfig) else None
        yield ".".join(place), look_at(spec, text, config.shards, (*keys, "shards"))
        if isinstance(config, TaskConfig) and config.shots_from:
            shots = look_at(spec, None, config.shots_from, (*keys, "shots_from"))
            yield ".".join((*place, "shots_from")), shots


def look_at_model(spec: Spec, stage: ImportStage, keys: Keys) -> ImportFacts:
    """What a model of others is; what cannot be taken over is said with its line in the spec."""
    from llm.hf_folder import digest, read_config

    folder = Path(stage.folder)
    try:
        _, model, _ = read_config(folder, stage.context)
        return ImportFacts(digest(folder), model)
    except ArtifactError as error:
        place = f"{spec.origin.source.place(keys)}: {dotted(keys)}"
        raise ArtifactError(f"{place}: {error}") from error


def look_at(
    spec: Spec,
    config: TextConfig | None,
    shards: tuple[str, ...],
    keys: Keys,
    skip: bool = False,
) -> Text:
    """Size and digest of shards, of any files without a config.

    What cannot be found is said with its line in the spec; what can be found but not read is no
    error if it is to be skipped.
    """
    try:
        return text_of(shards, config, skip)
    except DataError as error:
        place, path = spec.origin.source.place(keys), dotted(keys)
        fact = str(error).removeprefix("shards: ")
        raise DataError(f"{place}: {path}: {fact}; or run with {path}=PATH") from error


def text_of(shards: tuple[str, ...], config: TextConfig | None, skip: bool) -> Text:
    """Size and digest of shards."""
    if shards == (PYDOC,):
        from llm.pydoc_source import pydoc_digest

        return Text(PYDOC_BYTES, pydoc_digest())
    from llm.damage import fail
    from llm.shards import contents, digest_of, list_shards

    bad = (lambda _: None) if skip else fail
    found = list_shards(shards, config.format, bad) if config else any_files(shards)
    digests = contents(found, bad)
    files = [File(one.path, one.bytes, it) for one, it in zip(found, digests, strict=True)]
    return Text(sum(shard.bytes for shard in found), digest_of(found, digests), tuple(files))


def any_files(patterns: tuple[str, ...]) -> list[Any]:
    """Files of evaluation sets, whatever their names end in; only their content matters here."""
    from llm.filesystem import find
    from llm.shards import Shard

    found = {file.path: file for pattern in patterns for file in find(pattern).files}
    if not any(file.bytes for file in found.values()):
        raise DataError(f"{', '.join(patterns)}: no file with text in it; check the path")
    return [Shard(path, "txt", file.bytes, file.version) for path, file in sorted(found.items())]


def files_in(spec: Spec) -> Iterator[tuple[str, Keys]]:
    """Files that are taken over as they are, and where the spec names them."""
    for name, stage in spec.stages.items():
        if isinstance(stage, TokenizerStage) and stage.file is not None:
            yield stage.file, ("stages", name, "file")
        if isinstance(stage, CorpusStage) and stage.filter.words is not None:
            yield stage.filter.words.file, ("stages", name, "filter", "words", "file")
        if isinstance(stage, EvaluateStage) and stage.toxicity is not None:
            yield stage.toxicity.words, ("stages", name, "toxicity", "words")
        if isinstance(stage, PpoStage) and (rule := rule_file(stage)) is not None:
            yield rule, ("stages", name, "rule")


def rule_file(stage: PpoStage) -> str | None:
    """The file that holds the rule of a PPO; None if a module or a reward model judges."""
    path = (stage.rule or "").rpartition(":")[0]
    return path if path.endswith(".py") else None


def digest_of_file(file: str, spec: Spec, keys: Keys) -> str:
    """Digest of a foreign tokenizer or a word list."""
    try:
        return sha256(Path(file))
    except OSError as error:
        place = f"{spec.origin.source.place(keys)}: {dotted(keys)}"
        reason = error.strerror or error
        wanted = WANTED.get(str(keys[-1]), "a .model file")
        wanted = "a file with a word a line" if "words" in keys else wanted
        raise DataError(f"{place}: {file} cannot be read: {reason}; give {wanted}") from error


WANTED = {"rule": "a Python file, as FILE.py:NAME"}
"""What a key that names a file asks for."""


def artifacts_in(folder: Path) -> tuple[Artifact, ...]:
    """The artifacts of a stage, the newest first."""
    if not folder.is_dir():
        return ()
    folders = [one for one in folder.iterdir() if one.is_dir() and not one.name.startswith(".")]
    folders.sort(key=lambda one: (one.stat().st_mtime, one.name), reverse=True)
    return tuple(artifact_at(one) for one in folders)


def artifact_at(folder: Path) -> Artifact:
    """One artifact."""
    manifest = folder / MANIFEST
    if manifest.exists():
        return Artifact(folder, read_manifest(manifest))
    steps = [int(one.name[5:]) for one in (folder / CHECKPOINTS).glob("step-*[0-9]")]
    return Artifact(folder, None, max(steps, default=None))


def read_manifest(path: Path) -> dict[str, Any]:
    """A manifest; ArtifactError if it is damaged."""
    try:
        manifest = json.loads(path.read_text())
        if not manifest.keys() >= IDENTITY:
            raise ValueError("it lacks keys")
    except (OSError, ValueError, AttributeError) as error:
        remedy = "remove its folder to run the stage again"
        raise ArtifactError(f"{path}: is not a readable manifest ({error}); {remedy}") from error
    return manifest


def speed_in(storage: Path) -> float | None:
    """FLOPs per second of the training that finished last, of any run in the storage."""
    manifests = sorted(storage.glob(f"*/*/*/{MANIFEST}"), key=lambda path: -path.stat().st_mtime)
    speeds = (read_manifest(path).get("metrics", {}).get("flops_per_second") for path in manifests)
    return next((speed for speed in speeds if speed), None)

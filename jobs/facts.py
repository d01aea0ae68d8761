"""What the plan has to know of the world: the text, the machine, and what is already made.

An artifact is a folder `<storage>/<name>/<stage>/<fingerprint>/`; it is finished once it holds
manifest.json, which is written last.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jobs.spec import PYDOC, Spec, TokenizerStage
from jobs.yaml_source import Keys, dotted
from llm.config import DataConfig
from llm.errors import ArtifactError, DataError
from llm.files import sha256

MANIFEST = "manifest.json"
CHECKPOINTS = "checkpoints"
IDENTITY = {"kind", "fingerprint", "spec", "parents", "data", "seed"}
PYDOC_BYTES = 2_000_000


@dataclass(frozen=True)
class Text:
    """A set of shards: how much, and a digest of the content that no path changes."""

    bytes: int
    digest: str


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
class Facts:
    """All that `resolve` takes from the outside; the plan is a pure function of spec and facts."""

    cores: int
    text: Text
    held_out: Text | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    """Digests of foreign tokenizers, by path."""
    artifacts: Mapping[str, tuple[Artifact, ...]] = field(default_factory=dict)
    """By stage, the newest first."""
    flops_per_second: float | None = None
    """What a training in this storage reached most recently."""

    def artifact(self, stage: str, fingerprint: str) -> Artifact | None:
        """The artifact of this name, finished or not."""
        of_stage = self.artifacts.get(stage, ())
        return next((one for one in of_stage if one.fingerprint == fingerprint), None)


def gather(spec: Spec) -> Facts:
    """The facts of a spec on this machine; reads the text once to digest it."""
    held_out = spec.data.validation.shards
    facts = Facts(
        cores=os.cpu_count() or 1,
        text=look_at(spec, spec.data.shards, ("data", "shards")),
        held_out=look_at(spec, held_out, ("data", "validation", "shards")) if held_out else None,
        files={
            stage.file: digest_of_file(stage.file, spec, ("stages", name, "file"))
            for name, stage in spec.stages.items()
            if isinstance(stage, TokenizerStage) and stage.file is not None
        },
    )
    return refresh(facts, spec)


def refresh(facts: Facts, spec: Spec) -> Facts:
    """The same with the artifacts as they are now."""
    return replace(
        facts,
        artifacts={name: artifacts_in(spec.folder / name) for name in spec.stages},
        flops_per_second=speed_in(Path(spec.storage)),
    )


def look_at(spec: Spec, shards: tuple[str, ...], keys: Keys) -> Text:
    """Size and digest of shards; what cannot be found is said with its line in the spec."""
    try:
        return text_of(shards, spec.data)
    except DataError as error:
        place, path = spec.origin.source.place(keys), dotted(keys)
        fact = str(error).removeprefix("shards: ")
        raise DataError(f"{place}: {path}: {fact}; or run with {path}=PATH") from error


def text_of(shards: tuple[str, ...], data: DataConfig) -> Text:
    """Size and digest of shards."""
    if shards == (PYDOC,):
        from llm.pydoc_source import pydoc_digest

        return Text(PYDOC_BYTES, pydoc_digest())
    from llm.shards import digest, list_shards

    found = list_shards(shards, data.format)
    return Text(sum(shard.bytes for shard in found), digest(found))


def digest_of_file(file: str, spec: Spec, keys: Keys) -> str:
    """Digest of a foreign tokenizer."""
    try:
        return sha256(Path(file))
    except OSError as error:
        place = spec.origin.source.place(keys)
        reason = error.strerror or error
        raise DataError(f"{place}: {file} cannot be read: {reason}; give a .model file") from error


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

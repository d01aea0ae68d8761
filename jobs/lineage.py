"""Where an artifact comes from: its manifest, those of its parents, back to the data.

A manifest names its parents by fingerprint alone, so that a run may be moved; they are looked for
beside the artifact, and for one of a trial in the folders above. What does not fit is no error but
a part of the answer: a parent that is gone, a manifest that was changed by hand.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.facts import MANIFEST, gather, read_manifest
from jobs.fingerprint import fingerprint_of
from jobs.load import load
from jobs.plan import resolve
from llm.errors import ArtifactError, SpecError

LEAST_ID = 4
"""Digits of a fingerprint that tell it from others, most likely."""

DEEPEST = 8
"""Folders above an artifact in which its parents may lie: trial, work, stage, sweep, run, ..."""


SEARCHES = ("sweep", "scaling")
"""Kinds whose stages run in trials, and by themselves only where others name them."""


@dataclass(frozen=True)
class Link:
    """An artifact, or what is known of one that is not there."""

    fingerprint: str
    folder: Path | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)
    parents: Mapping[str, "Link"] = field(default_factory=dict)
    """By the key that names the stage."""
    broken: tuple[str, ...] = ()
    """What does not fit."""

    @property
    def name(self) -> str:
        """The stage's name; of one that is gone its fingerprint."""
        return str(self.manifest.get("stage", self.fingerprint))

    @property
    def kind(self) -> str:
        """What the stage does; empty if nobody knows any more."""
        return str(self.manifest.get("kind", ""))


def lineage(target: str, overrides: list[str], storage: str = "runs") -> Link:
    """The artifact that is meant, with all that it was made of."""
    return trace(find_artifact(target, overrides, storage))


# -- from one artifact to its parents --------------------------------------------------------------


def trace(folder: Path, known: dict[str, Link] | None = None) -> Link:
    """An artifact's parents, each followed once, however many stages build on it."""
    known = {} if known is None else known
    try:
        manifest = read_manifest(folder / MANIFEST)
    except ArtifactError as error:
        return Link(folder.name, folder, broken=(str(error),))
    parents = {
        key: parent_of(folder, identity, known)
        for key, identity in manifest["parents"].items()
        if manifest["kind"] not in SEARCHES or folder_of(folder, identity)
    }
    if best := manifest.get("metrics", {}).get("best"):
        parents["best"] = trace(folder / best["artifact"], known)
    return Link(manifest["fingerprint"], folder, manifest, parents, tuple(faults(manifest)))


def faults(manifest: Mapping[str, Any]) -> Iterator[str]:
    """What in a manifest cannot be true."""
    made, stated = fingerprint_of(manifest), manifest["fingerprint"]
    if made != stated:
        yield f"its manifest was changed: what stands in it makes {made}, it says {stated}"


def parent_of(folder: Path, identity: str, known: dict[str, Link]) -> Link:
    """What an artifact was built on; `identity` is a fingerprint, of a sweep with its trial."""
    if identity not in known:
        known[identity] = looked_up(folder, identity, known)
    return known[identity]


def looked_up(folder: Path, identity: str, known: dict[str, Link]) -> Link:
    """The parent, or what became of it."""
    fingerprint, _, trial = identity.partition(".")
    found = folder_of(folder, fingerprint)
    if found is None:
        run = folder.parents[1]
        return Link(fingerprint, broken=(f"its folder is gone: {run}/*/{fingerprint}",))
    if not (found / MANIFEST).exists():
        return Link(fingerprint, found, broken=("it has no manifest: it is being made again",))
    link = trace(found, known)
    best = link.manifest.get("metrics", {}).get("best", {}).get("trial", "")
    if trial and best != trial:
        fault = f"its best trial is {best} now; this was built on that of {trial}"
        return Link(link.fingerprint, found, link.manifest, link.parents, (*link.broken, fault))
    return link


def folder_of(beside: Path, fingerprint: str) -> Path | None:
    """Where an artifact of a run lies, sought from another one of it."""
    for above in list(beside.absolute().parents)[1:DEEPEST]:
        if found := next(above.glob(f"*/{fingerprint}"), None):
            return found
    return None


def in_order(link: Link) -> list[Link]:
    """All artifacts of a lineage, parents first, each once."""
    found: dict[str, Link] = {}
    for parent in link.parents.values():
        found |= {one.fingerprint: one for one in in_order(parent)}
    return [*found.values(), link]


# -- from what a user names to an artifact ---------------------------------------------------------


def find_artifact(target: str, overrides: list[str], storage: str) -> Path:
    """The folder of a finished artifact: given itself, by its id, or by spec[:stage]."""
    path = Path(target)
    if path.is_dir():
        return of_folder(path)
    file, _, stage = target.rpartition(":")
    if path.is_file():
        return of_spec(target, None, overrides)
    if Path(file).is_file():
        return of_spec(file, stage, overrides)
    if is_id(target):
        return of_id(target, Path(storage))
    raise SpecError(
        f"{target}: is no folder of an artifact, no id of {LEAST_ID} to 12 hex digits such as an "
        "answer carries as system_fingerprint, and no spec; a stage of a spec is FILE:STAGE"
    )


def is_id(text: str) -> bool:
    """Whether a text can be a fingerprint, or the beginning of one."""
    return LEAST_ID <= len(text) <= 12 and set(text) <= set("0123456789abcdef")


def of_folder(folder: Path) -> Path:
    """An artifact's own folder."""
    if (folder / MANIFEST).exists():
        return folder
    stages = sorted({one.parent.parent.name for one in folder.glob(f"*/*/{MANIFEST}")})
    there = f"; it is a run with artifacts of {', '.join(stages)}" if stages else ""
    raise ArtifactError(
        f"{folder}: has no {MANIFEST}, so it is no finished artifact{there}; give "
        "runs/NAME/STAGE/FINGERPRINT"
    )


def of_id(prefix: str, storage: Path) -> Path:
    """The artifact of a storage whose fingerprint begins so; that of a trial if no other does."""
    for depth in ("*/*", "*/*/*/trials/*/*/*"):
        found = sorted(one.parent for one in storage.glob(f"{depth}/{prefix}*/{MANIFEST}"))
        if len({one.name for one in found}) > 1:
            shown = ", ".join(str(one) for one in found[:5])
            raise ArtifactError(f"{prefix}: several ids begin so: {shown}; give more of it")
        if found:
            return found[0]
    raise ArtifactError(
        f"{prefix}: {storage}/*/* has no artifact of that id; if it lies elsewhere, give "
        "--storage FOLDER"
    )


def of_spec(file: str, stage: str | None, overrides: list[str]) -> Path:
    """The finished artifact of a stage of a spec; without one the last that is finished."""
    spec = load(file, overrides)
    plan = resolve(spec, gather(spec))
    stages = [one for one in plan.stages if one.folder and (one.folder / MANIFEST).exists()]
    if stage is not None and stage not in plan.by_name:
        raise SpecError(f"{file}: has no stage '{stage}'; stages: {', '.join(plan.by_name)}")
    wanted = [one for one in stages if stage in (None, one.name)]
    if not wanted:
        raise ArtifactError(
            f"{file}: {f'stage {stage!r} is not' if stage else 'no stage is'} finished as the spec "
            f"has it now; first run\n{spec.command('run')}"
        )
    folder = wanted[-1].folder
    assert folder is not None
    return folder

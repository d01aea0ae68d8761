"""feedback:// as data: what people said on the chat page, as it was when a run began.

The store goes on changing while the run trains on it. So a run takes a copy of what it will read
first, under the digest that is part of its stages' names, and the stages read that copy.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from jobs.align_rules import FEEDBACK_FOLDERS
from jobs.kinds import data_sets
from jobs.spec import Spec
from jobs.stages import FEEDBACK
from llm.align_config import RowsConfig
from llm.errors import DataError
from llm.files import sync_folder

NOTHING = hashlib.sha256().hexdigest()
"""Digest of a store that holds nothing yet."""

TRIES = 10
"""Copies that may differ from what was measured just before, somebody having said something."""


def lines_of(data: RowsConfig, spec: Spec) -> Iterator[bytes]:
    """The lines of the store that a data set reads."""
    folder = spec.feedback / FEEDBACK_FOLDERS[data.schema]  # type: ignore[attr-defined]
    for path in sorted(folder.glob("*.jsonl")):
        with path.open("rb") as file:
            yield from file


def measure(data: RowsConfig, spec: Spec) -> tuple[int, str]:
    """Bytes and digest of what the store holds now."""
    size, digest = 0, hashlib.sha256()
    for line in lines_of(data, spec):
        size += len(line)
        digest.update(line)
    return size, digest.hexdigest()


def take(spec: Spec, digests: dict[str, list[str]]) -> bool:
    """Copy what all stages read, by stage the `digests` of their data sets; no if one changed."""
    wanted = {
        digests[name][number]: data
        for name, stage in spec.stages.items()
        for number, data in enumerate(data_sets(stage))
        if data.shards == (FEEDBACK,)
    }
    return all(copied(data, digest, spec) for digest, data in wanted.items())


def copied(data: RowsConfig, wanted: str, spec: Spec) -> bool:
    """Whether there is a copy with that digest, perhaps a new one."""
    path = taken(spec, wanted)
    if wanted == NOTHING or path.exists():
        return True
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    digest = hashlib.sha256()
    with temporary.open("wb") as file:
        for line in lines_of(data, spec):
            digest.update(line)
            file.write(line)
        file.flush()
        os.fsync(file.fileno())
    if digest.hexdigest() != wanted:
        temporary.unlink()
        return False
    temporary.replace(path)
    sync_folder(path.parent)
    return True


def taken(spec: Spec, digest: str) -> Path:
    """Where the copy with that digest is."""
    return spec.folder / "feedback-taken" / f"{digest[:16]}.jsonl"


def nothing_said(spec: Spec, stage: str) -> DataError:
    """A stage has no data but what nobody has said."""
    return DataError(
        f"{spec.feedback}: nobody has said anything about an answer yet, and stage '{stage}' has "
        f"no other data; serve a model and rate its answers: {spec.command('serve')}"
    )

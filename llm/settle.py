"""From which checkpoint a run goes on: settled once, so that all its processes agree.

The newest whole one. Damaged ones are set aside under a hidden name, so that whoever looks after
this finds the same; the two newest of those stay, for who wants to know what happened. If none is
whole nothing is touched: a run must not silently begin again where weeks of work may be saved.
"""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from llm import checkpoint, events
from llm.errors import ArtifactError
from llm.metrics import Emit
from llm.mirror import Mirror
from llm.outside import always, silent

KEPT_DAMAGED = 2


def fits(_: Path) -> str | None:
    """Takes every whole checkpoint."""
    return None


def settle(
    folder: Path,
    mirror: str | None = None,
    *,
    may_write: Callable[[], bool] = always,
    misfit: Callable[[Path], str | None] = fits,
    say: Emit = silent,
) -> Path | None:
    """The checkpoint below `folder` to go on from; None if there is none yet.

    A newer one on the mirror is fetched first. `misfit` says what speaks against a checkpoint whose
    files are whole, `say` gets an event for each one passed over. ArtifactError if there are some
    but none is whole.
    """
    if not may_write():
        return checkpoint.newest(folder)
    checkpoint.sweep(folder)
    passed: dict[Path, str] = {}
    found = None
    for path in reversed(checkpoint.steps(folder)):
        wrong = checkpoint.damage(path) or misfit(path)
        if wrong is None:
            found = path
            break
        passed[path] = wrong
    fetched = fetch(folder, mirror, found) if mirror else None
    if passed and not (found or fetched):
        raise none_whole(folder, passed)
    for path, wrong in passed.items():
        step = checkpoint.step_of(path)
        set_aside(path)
        events.note(folder.parent, "damaged", step=step, path=str(path), why=wrong)
        say({"event": "damaged", "step": step, "path": str(path), "why": wrong})
    if not fetched:
        return found
    position = checkpoint.read_position(fetched)
    path = checkpoint.give_name(fetched, position.step)
    events.note(folder.parent, "fetched", step=position.step, mirror=mirror)
    return path


def none_whole(folder: Path, passed: dict[Path, str]) -> ArtifactError:
    """What to say of checkpoints that are all damaged."""
    each = "; ".join(f"{path.name}: {wrong}" for path, wrong in passed.items())
    return ArtifactError(
        f"{folder}: no checkpoint is whole ({each}); put a good copy in place, or remove the "
        "folder to begin again from step 0"
    )


def fetch(folder: Path, mirror: str, found: Path | None) -> Path | None:
    """A checkpoint newer than `found` from the mirror, whole but without its final name yet.

    A mirror that does not answer is an error only if there is nothing else: whoever begins at step
    0 must know that no checkpoint is there.
    """
    there, newer = Mirror(mirror, folder.parent), checkpoint.step_of(found) + 1 if found else 0
    try:
        for step in there.steps():
            if step < newer:
                return None
            copy = checkpoint.unfinished(folder, step, os.getpid())
            there.fetch(step, copy)
            if checkpoint.damage(copy) is None:
                there.fetch_ledger()
                return copy
            shutil.rmtree(copy)
    except ArtifactError as error:
        if not found:
            raise
        events.note(folder.parent, "mirror_failed", why=str(error))
    return None


def set_aside(path: Path) -> None:
    """Hide a damaged checkpoint, and remove the oldest hidden ones."""
    os.replace(path, path.with_name(f".damaged-{path.name}.{time.time_ns()}"))
    hidden = sorted(path.parent.glob(".damaged-*"), key=lambda one: int(one.suffix[1:]))
    for old in hidden[:-KEPT_DAMAGED]:
        shutil.rmtree(old, ignore_errors=True)

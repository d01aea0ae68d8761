"""Saving while a training goes on: what is to be kept, when, and who writes it.

`save` copies the state, which is all that the training waits for, and a thread does the rest:
write, hash, force to disk, commit, remove what need not be kept, bring it to the mirror. The copy
costs as much host memory as weights and moments take. A save waits for the one before.

What goes wrong in a thread is raised at the next save or at `close`, in all processes alike; the
thread asks for that save to be now. Of a model that is shared out each process writes its rows; the
first commits when all have written, of which their threads tell each other over a group of their
own. Whoever dies in the middle leaves a folder without its final name, which the next start sweeps.
"""

import errno
import os
import shutil
import time
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from llm import checkpoint, events
from llm.agree import raise_together
from llm.checkpoint import Position
from llm.config import CheckpointConfig
from llm.errors import ArtifactError
from llm.metrics import RunLog, size_of
from llm.mirror import Mirror
from llm.outside import Outside, Wish
from llm.parallel import copy_size, shared_out
from llm.pieces import Buffers, Pieces, size
from llm.settle import settle
from llm.world import World

Parts = dict[str, Pieces]


class Saver:
    """Commits a training's checkpoints to a folder; made, used and closed by all processes."""

    def __init__(
        self, folder: Path, config: CheckpointConfig, world: World, outside: Outside, log: RunLog
    ) -> None:
        self.folder, self.config, self.world = folder, config, world
        self.outside, self.log = outside, log
        self.mirror = Mirror(config.mirror, folder.parent) if config.mirror else None
        self.mirrored = True
        self.buffers = Buffers()
        self.thread = ThreadPoolExecutor(1, "save")
        self.writing: Future[None] | None = None
        self.group: dist.ProcessGroup | None = None
        """Over which the threads of a model that is shared out talk."""
        self.writers = 1
        """Processes that each write a part."""
        now = time.time_ns() // 1000  # exact as a double
        self.writer = int(world.max(float(now if world.rank == 0 else 0))[0])
        """What the unfinished folders of this saver are called, the same in all processes."""

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Position | None:
        """Load the newest whole checkpoint; None if there is none."""
        self._finish_writing()
        found, failed = None, None
        if self.world.rank == 0:
            try:
                found = self._settle(model)
            except Exception as error:
                failed = error
        raise_together(self.world, failed)
        step = int(self.world.max(float(checkpoint.step_of(found) if found else -1))[0])
        if step < 0:
            return None
        return checkpoint.load(self.folder / checkpoint.name_of(step), model, optimizer)

    def _settle(self, model: nn.Module) -> Path | None:
        return settle(
            self.folder,
            self.config.mirror,
            may_write=self.outside.may_write,
            misfit=lambda path: checkpoint.misfit(path, model),
            say=self.outside.emit,
        )

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, position: Position) -> None:
        """Commit weights, optimizer and position together, as they are now."""
        start = time.perf_counter()
        self.outside.beat("save", position.step)
        self._finish_writing()
        shared = shared_out(model)
        if shared and self.group is None:
            self.group = dist.new_group(backend="gloo")
        if self.world.rank > 0 and not shared:
            return
        self.writers = copy_size(model)
        parts = checkpoint.parts_of(model, optimizer, self.world.rank)
        copies = self.buffers.copied(parts)
        stall = time.perf_counter() - start
        self.writing = self.thread.submit(self._write, copies, deepcopy(position), stall)

    def close(self) -> None:
        """Wait until everything is committed; raises what went wrong."""
        self._finish_writing()

    def _finish_writing(self) -> None:
        writing, self.writing = self.writing, None
        raise_together(self.world, writing.exception() if writing else None)

    # -- in the thread -----------------------------------------------------------------------------

    def _write(self, parts: Parts, position: Position, stall: float) -> None:
        """Write one process's part; the first commits the whole and brings it to the mirror."""
        start, step = time.perf_counter(), position.step
        try:
            path = self._commit(parts, position)
            if path:
                seconds = time.perf_counter() - start
                self.log("checkpoint", step, path=str(path), seconds=seconds, stall=stall)
                self._mirror(path, step)
        except OSError as error:
            self.outside.wishes.ask(Wish.SAVE)  # which raises this in all processes
            raise unwritten(self.folder, step, size(parts), error) from error
        except BaseException:
            self.outside.wishes.ask(Wish.SAVE)
            raise

    def _commit(self, parts: Parts, position: Position) -> Path | None:
        """The checkpoint's path in the first process, None in the others."""
        temporary = checkpoint.unfinished(self.folder, position.step, self.writer)
        try:
            digests = self._write_parts(temporary, parts)
            if self.world.rank > 0:
                return None
            path = checkpoint.commit(temporary, position, digests, self.outside.may_write)
            if self.outside.may_write():
                checkpoint.prune(self.folder, self.config.keep, position.best_step)
            return path
        finally:
            if self.world.rank == 0:
                shutil.rmtree(temporary, ignore_errors=True)

    def _write_parts(self, temporary: Path, parts: Parts) -> dict[str, str]:
        """Write what this process holds; the sha256 of the files of all processes."""
        if not self.group:
            require_disk(self.folder, size(parts))
            return checkpoint.write_parts(temporary, parts)
        own: dict[str, str] | OSError
        rank, count = self.world.rank, self.world.size
        try:
            require_disk(self.folder, size(parts) * self.writers)
            own = checkpoint.write_parts(temporary, parts, checkpoint.suffix(rank, count))
        except OSError as error:
            own = error
        outcomes: list[Any] = [None] * count
        dist.all_gather_object(outcomes, own, group=self.group)
        for outcome in outcomes:
            if isinstance(outcome, OSError):
                raise outcome
        return {name: digest for outcome in outcomes for name, digest in outcome.items()}

    def _mirror(self, path: Path, step: int) -> None:
        """Bring a checkpoint to the mirror; training goes on without, and the next save retries."""
        if not self.mirror:
            return
        try:
            self.mirror.update(path)
            self.mirrored = True
        except ArtifactError as error:
            if self.mirrored:  # once, until it works again
                events.note(self.folder.parent, "mirror_failed", step=step, why=str(error))
                self.log("mirror_failed", step, why=str(error))
            self.mirrored = False


def require_disk(folder: Path, wanted: int) -> None:
    """Refuse to begin what would fill the disk up."""
    folder.mkdir(parents=True, exist_ok=True)
    if free(folder) < wanted:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def free(folder: Path) -> int:
    """Bytes that may still be written to its disk."""
    there = os.statvfs(folder)
    return there.f_bavail * there.f_frsize


REMEDIES = {
    errno.ENOSPC: "free space, or keep fewer checkpoints (checkpoint.keep)",
    errno.EDQUOT: "raise the quota, or keep fewer checkpoints (checkpoint.keep)",
    errno.EROFS: "mount it writable",
    errno.EACCES: "grant the right to write there",
    errno.EPERM: "grant the right to write there",
}


def unwritten(folder: Path, step: int, wanted: int, error: OSError) -> ArtifactError:
    """What to say of a checkpoint that storage did not take."""
    there = checkpoint.steps(folder)
    try:
        room = size_of(free(folder))
    except OSError:
        room = "nobody knows how many"
    last = f"step {checkpoint.step_of(there[-1])}" if there else "the beginning"
    remedy = REMEDIES.get(error.errno or 0, "check the storage")
    return ArtifactError(
        f"{folder}: step {step} could not be saved: {error.strerror or error}: it takes "
        f"{size_of(wanted)}, and {room} are free. The checkpoints before it are "
        f"whole: {remedy}, then the same command goes on from {last}"
    )

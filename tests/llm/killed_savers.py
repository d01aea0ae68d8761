"""Savers that are killed, by the n-th call that changes the disk or at a random moment.

    python -m tests.llm.killed_savers calls|moments ARTIFACT

Prints how often a saver was killed. After each fall a new one must find a whole checkpoint that is
not older than the last that was committed. They are forks of one process that has loaded torch.
"""

import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from llm import files, pieces
from tests.saved import State, loaded, position, saver

WIDTH = 20_000
"""2.6 MB with the moments: some milliseconds of writing."""


def save_for_ever(artifact: Path, first: int) -> None:
    """Save step after step, each noted when it is committed."""
    to, state = saver(artifact, keep={"last": 1, "every": 7}), State(WIDTH)
    for step in range(first, first + 10_000):
        to.save(state.at(step).model, state.optimizer, position(step))
        to.close()
        note(artifact, step)


def note(artifact: Path, step: int) -> None:
    """Write the step whole or not at all: a saver is killed in here too."""
    half = artifact / "committed.half"
    half.write_text(str(step))
    os.replace(half, artifact / "committed")


def save_once(artifact: Path) -> None:
    """Set a damaged checkpoint aside, save twice, and remove an old one."""
    state = State()
    assert loaded(artifact, state) == 2
    to = saver(artifact, keep={"last": 1})
    for step in (3, 4):
        to.save(state.at(step).model, state.optimizer, position(step))
        to.close()


def dying(call: Any, left: list[int]) -> Any:
    """The call, before which the process is killed if none is left."""

    def called(*arguments: Any, **settings: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **settings)

    return called


def die_in(left: list[int]) -> None:
    """Count every call by which a save changes the disk."""
    for name in ("fsync", "replace", "rename", "mkdir", "unlink", "rmdir"):
        setattr(os, name, dying(getattr(os, name), left))
    for module in (pieces, files, Path):
        module.open = dying(getattr(module, "open", open), left)  # type: ignore[union-attr]


def at_every_call(artifact: Path) -> int:
    """Kill one saver after the other, each one call later, until one is done first."""
    before, kills = artifact.with_suffix(".before"), 0
    prepare(before)
    while True:
        shutil.rmtree(artifact, ignore_errors=True)
        shutil.copytree(before, artifact)
        if (child := os.fork()) == 0:
            die_in([kills])
            save_once(artifact)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        found = loaded(artifact, State())
        assert found in (2, 3, 4), (kills, found)
        if code == 0:
            assert found == 4
            return kills
        assert code == -signal.SIGKILL, code
        kills += 1


def prepare(artifact: Path) -> None:
    """Two checkpoints, a damaged third one, and half of a fourth."""
    to, state = saver(artifact, keep={"last": 3}), State()
    for step in (1, 2, 3):
        to.save(state.at(step).model, state.optimizer, position(step))
    to.close()
    (artifact / "checkpoints" / "step-000003" / "model.safetensors").unlink()
    (artifact / "checkpoints" / ".step-000004.1.tmp").mkdir()


def at_random_moments(artifact: Path, count: int = 20) -> int:
    """Kill savers that do nothing but save."""
    draw, step = random.Random(6), 0
    for kills in range(count):
        if (child := os.fork()) == 0:
            signal.alarm(600)  # it does not outlive a test that was broken off
            save_for_ever(artifact, step + 1)
        noted = artifact / "committed"
        before = noted.read_text() if kills else ""
        while not noted.exists() or noted.read_text() == before:  # it is saving
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.1))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        committed = int(noted.read_text())
        found = loaded(artifact, State(WIDTH))
        assert found is not None and committed <= found <= committed + 1, (committed, found)
        step = found
    return count


if __name__ == "__main__":
    torch.set_num_threads(1)
    every = {"calls": at_every_call, "moments": at_random_moments}[sys.argv[1]]
    print(every(Path(sys.argv[2])))

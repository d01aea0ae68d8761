"""The falls that a rehearsal knows. Each takes a started trial and brings it to its end.

A fall may kill only what belongs to the rehearsal: processes of its cluster, its own drivers.
"""

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from jobs.rehearse_cluster import Playground, kill
from jobs.rehearse_trial import Broken, Skipped, Trial

DISK_BYTES = 64 << 20
"""Of the disk that runs full."""

SLOW_S = 0.5
"""Seconds that a slow disk takes to confirm what it was given."""


@dataclass(frozen=True)
class Stage:
    """Where a fall takes place."""

    cluster: Playground
    slow: Path
    """The disk is slow as long as this file exists."""


def worker(trial: Trial, stage: Stage, step: int) -> None:
    """One process that trains is killed."""
    trial.until_step(step)
    learners = stage.cluster.learners()
    if not learners:
        raise Skipped("it was over before a worker could be killed")
    kill(learners[-1])
    trial.ends_well()


def node(trial: Trial, stage: Stage, step: int) -> None:
    """The node that trains is gone, and another one comes."""
    trial.until_step(step)
    stage.cluster.kill_node()
    trial.ends_well()


def data(trial: Trial, stage: Stage, step: int) -> None:
    """A process that reads and tokenises is killed, as soon as there is one."""
    found: list[int] = []

    def feeding() -> bool:
        found[:] = stage.cluster.feeders()
        return bool(found)

    trial.until(feeding, "a process that reads data was seen", every=0.05)
    kill(found[0])
    trial.ends_well()


def driver(trial: Trial, stage: Stage, step: int) -> None:
    """`python -m jobs run` is killed, and started again."""
    trial.until_step(step)
    trial.kill()
    trial.start()
    trial.ends_well()


def damage(trial: Trial, stage: Stage, step: int) -> None:
    """The driver is killed, and one bit of the newest checkpoint is not what was written."""
    trial.until_step(step)
    trial.kill()
    stage.cluster.wait_for_no_learners()
    flip_a_bit(newest_checkpoint(trial))
    trial.start()
    trial.ends_well()
    if not any(event["event"] == "damaged" for event in trial.events):
        raise Broken("the damage was not noticed")


def disk(trial: Trial, stage: Stage, step: int) -> None:
    """The disk runs full: one clear error. With room again the same command goes on."""
    trial.until_step(step)
    filler = trial.storage / "filler"
    fill(filler)
    code = trial.ends()
    if code != 1 or "Traceback" in trial.log.read_text(errors="replace"):
        raise Broken(f"a full disk is no clear error (exit code {code}): {trial.last_words}")
    require_whole(trial)
    filler.unlink()
    trial.start()
    trial.ends_well()


def slow(trial: Trial, stage: Stage, step: int) -> None:
    """Whatever is forced to disk takes half a second more."""
    trial.until_step(step)
    stage.slow.touch()
    try:
        trial.ends_well()
    finally:
        stage.slow.unlink()
    saves = [event["seconds"] for event in trial.logged if event["event"] == "checkpoint"]
    if max(saves, default=0.0) < SLOW_S:
        raise Skipped("no save met the slow disk")


FALLS: Mapping[str, Callable[[Trial, Stage, int], None]] = {
    "worker": worker,
    "node": node,
    "data": data,
    "driver": driver,
    "disk": disk,
    "damage": damage,
    "slow": slow,
}

NAMES = {"data": "data worker", "disk": "disk full", "damage": "checkpoint", "slow": "slow disk"}
"""What the table calls those whose own name says too little."""


@contextmanager
def disk_for(fall: str, storage: Path) -> Iterator[None]:
    """A small disk of its own for the storage of the fall that fills it."""
    storage.mkdir(parents=True)
    if fall != "disk":
        yield
        return
    if os.geteuid() != 0:
        raise Skipped("only root can mount a small disk to be filled")
    size = f"size={DISK_BYTES}"
    command = ["mount", "-t", "tmpfs", "-o", size, "rehearsal", str(storage)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        raise Skipped(f"no small disk can be mounted here ({mounted.stderr.strip()})")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(storage)], check=True)


def fill(path: Path) -> None:
    """Leave nothing of a disk."""
    with open(path, "wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass


def newest_checkpoint(trial: Trial) -> Path:
    """The last one that was committed."""
    from llm.checkpoint import steps

    found = steps(trial.made / "checkpoints")
    if not found:
        raise Skipped("there was no checkpoint yet")
    return found[-1]


def require_whole(trial: Trial) -> None:
    """No checkpoint may have suffered."""
    from llm.checkpoint import damage, steps

    for path in steps(trial.made / "checkpoints"):
        if wrong := damage(path):
            raise Broken(f"{path.name} is damaged: {wrong}")


def flip_a_bit(checkpoint: Path) -> None:
    """In the middle of its largest file."""
    path = max(checkpoint.iterdir(), key=lambda one: one.stat().st_size)
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def slow_disk(folder: Path, flag: Path) -> None:
    """Python started with `folder` on its path waits at every fsync as long as `flag` exists."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(f"""\
import os, time

real = os.fsync

def fsync(handle):
    if os.path.exists({str(flag)!r}):
        time.sleep({SLOW_S})
    real(handle)

os.fsync = fsync
""")

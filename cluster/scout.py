"""A node's own look at itself: what an actor of `cluster.survey` does there.

It imports neither torch nor Ray's libraries unless it is asked for GPUs, so that it is up in a
second or two.
"""

import glob
import hashlib
import importlib.metadata
import platform
import time
from dataclasses import dataclass
from pathlib import Path

from cluster.looks import Look
from cluster.network import Door, knock

ROOT = Path(__file__).resolve().parent.parent

SEEN_S = 5.0
"""Seconds that a file may take to be seen by another node; NFS keeps lists for a few."""

CODE = ("llm", "cluster")
"""Our packages whose files run on nodes."""


@dataclass(frozen=True)
class Errand:
    """What a node is to look at."""

    meeting: Path
    """A folder in the storage with a file by the driver in it."""
    texts: tuple[str, ...]
    gpus: bool


class Scout:
    """The actor on a node."""

    def __init__(self, node: str, address: str) -> None:
        self.node, self.address = node, address

    def look(self, errand: Errand) -> Look:
        """What there is."""
        return Look(
            versions(),
            self._storage(errand.meeting),
            tuple(pattern for pattern in errand.texts if not is_there(pattern)),
            gpu_bytes() if errand.gpus else None,
        )

    def _storage(self, folder: Path) -> str:
        """Read the driver's word and repeat it."""
        word = read_soon(folder / "driver")
        if word is None:
            return "what the driver has written is not there"
        try:
            (folder / self.node).write_text(word)
        except OSError as error:
            return f"nothing can be written ({error.strerror})"
        return ""

    def open(self) -> int:
        """Let the others in; the port."""
        self.door = Door(self.address)
        return self.door.port

    def knock(self, doors: dict[str, tuple[str, int]]) -> dict[str, str]:
        """Try the others' doors."""
        return knock(doors)


def read_soon(path: Path) -> str | None:
    """A file that another node has just written; None if it does not appear."""
    end = time.monotonic() + SEEN_S
    while True:
        try:
            return path.read_text()
        except OSError:
            if time.monotonic() > end:
                return None
        time.sleep(0.2)


def versions() -> dict[str, str]:
    """Of what must be the same everywhere."""
    packages = {name: importlib.metadata.version(name) for name in ("ray", "torch")}
    return {"python": platform.python_version(), **packages, "code": code_digest()}


def code_digest() -> str:
    """Of our files."""
    digest = hashlib.sha256()
    for path in sorted(file for package in CODE for file in (ROOT / package).glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def is_there(pattern: str) -> bool:
    """Whether a pattern stands for anything here."""
    return any(True for _ in glob.iglob(pattern, recursive=True))


def gpu_bytes() -> int:
    """Memory of the smallest GPU; 0 if torch finds none."""
    import torch

    if not torch.cuda.is_available():
        return 0
    count = torch.cuda.device_count()
    return min(torch.cuda.get_device_properties(one).total_memory for one in range(count))

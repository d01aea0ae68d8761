"""A second home for checkpoints: a folder or bucket from which a run goes on whose own is lost.

    MIRROR/NAME/STAGE/FINGERPRINT/  order.tsv  metrics.jsonl  checkpoints/step-000120/ ...

Files of a checkpoint come first and its manifest last, on removal the manifest goes first: what has
a manifest is whole, as far as its sha256 say so too. The records of the run come before all, so
that they cover every step of every checkpoint. Storage of objects knows no rename.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from llm.checkpoint import COMMITTED, MANIFEST, name_of, step_of, steps
from llm.errors import ArtifactError
from llm.files import write_atomic
from llm.filesystem import connect, is_uri

LEDGER = ("order.tsv", "metrics.jsonl", "skips.json")
"""What checkpoints alone do not tell: the data used, the figures logged, the updates left out."""


class Mirror:
    """The copy of an artifact's checkpoints at `place`; whatever fails is an ArtifactError."""

    def __init__(self, place: str, artifact: Path) -> None:
        self.place, self.artifact = place, artifact.absolute()

    @cached_property
    def client(self) -> Any:
        """fsspec's client of the place."""
        if is_uri(self.place):
            return connect(self.place).client
        from fsspec.implementations.local import LocalFileSystem

        return LocalFileSystem()

    @cached_property
    def root(self) -> str:
        """The artifact's copy, as the client calls it."""
        if is_uri(self.place):
            base = connect(self.place).path(self.place)
        else:
            base = str(Path(self.place).absolute())
        return "/".join((base.rstrip("/"), *self.artifact.parts[-3:]))

    @property
    def checkpoints(self) -> str:
        """Where they are."""
        return f"{self.root}/checkpoints"

    # -- to the mirror -----------------------------------------------------------------------------

    def update(self, newest: Path) -> None:
        """Bring over what was logged, `newest` and what is missing; remove what is gone here."""
        with self._reaching("written"):
            here = {path.name: path for path in steps(newest.parent)}
            for name in LEDGER:
                if (self.artifact / name).exists():
                    self._put(self.artifact / name, f"{self.root}/{name}")
            there = self._steps() - {newest.name}
            for name in sorted(here.keys() - there, reverse=True):
                self._push(here[name])
            for name in there - here.keys():
                self._remove(name)

    def _push(self, path: Path) -> None:
        target = f"{self.checkpoints}/{path.name}"
        if MANIFEST in self._files(target):
            self.client.rm_file(f"{target}/{MANIFEST}")
        files = sorted(path.iterdir(), key=lambda file: file.name == MANIFEST)
        for file in files:
            self._put(file, f"{target}/{file.name}")

    def _put(self, file: Path, target: str) -> None:
        self.client.makedirs(target.rpartition("/")[0], exist_ok=True)
        self.client.put_file(str(file), target)

    def _remove(self, name: str) -> None:
        target = f"{self.checkpoints}/{name}"
        self.client.rm_file(f"{target}/{MANIFEST}")
        self.client.rm(target, recursive=True)

    # -- from the mirror ---------------------------------------------------------------------------

    def steps(self) -> list[int]:
        """The steps of its checkpoints, the newest first."""
        with self._reaching("read"):
            return sorted((step_of(Path(name)) for name in self._steps()), reverse=True)

    def fetch(self, step: int, folder: Path) -> None:
        """Copy a checkpoint to a new folder; it may be damaged."""
        name = name_of(step)
        with self._reaching("read"):
            folder.mkdir(parents=True)
            for file in self._files(f"{self.checkpoints}/{name}"):
                self.client.get_file(f"{self.checkpoints}/{name}/{file}", str(folder / file))

    def fetch_ledger(self) -> None:
        """Copy the records of the run, where they tell more than those that are here."""
        with self._reaching("read"):
            for name in self._files(self.root).intersection(LEDGER):
                there, here = self.client.cat_file(f"{self.root}/{name}"), self.artifact / name
                if not here.exists() or here.stat().st_size < len(there):
                    write_atomic(here, there)

    # -- both --------------------------------------------------------------------------------------

    def _steps(self) -> set[str]:
        """Its checkpoints that have a manifest."""
        names = filter(COMMITTED.fullmatch, self._files(self.checkpoints))
        return {name for name in names if MANIFEST in self._files(f"{self.checkpoints}/{name}")}

    def _files(self, folder: str) -> set[str]:
        """What a folder holds; nothing if there is none. `find` and `exists` would hide errors."""
        self.client.invalidate_cache()
        try:
            found = self.client.ls(folder, detail=False)
        except FileNotFoundError:
            return set()
        return {path.rstrip("/").rpartition("/")[2] for path in found}

    @contextmanager
    def _reaching(self, what: str) -> Iterator[None]:
        """Every client has exceptions of its own."""
        try:
            yield
        except Exception as error:
            raise ArtifactError(
                f"checkpoint.mirror: {self.place}: cannot be {what}: "
                f"{str(error) or type(error).__name__}; check the path and the access rights, or "
                "train without a mirror"
            ) from error

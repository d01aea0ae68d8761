"""What travels with a job: the packages, the spec, and the files that it names in the project.

A relative path belongs to the project: the file goes along, and lies in the job where it lies here.
An absolute path or a URI is a place that the cluster's nodes reach by themselves. What a run writes
(storage, mirrors) never lies in the job: relative places of that kind are meant as seen from here,
and are told to the job as absolute ones.
"""

import glob
import hashlib
import os
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from importlib.metadata import requires
from pathlib import Path
from typing import Any

from jobs.load import as_written, with_paths
from jobs.spec import Spec
from jobs.stages import ServeStage
from jobs.yaml_source import Keys, dotted
from llm.errors import DataError
from llm.filesystem import find
from llm.metrics import size_of

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("llm", "cluster", "tune", "deploy", "jobs")
CODE = (".py", ".c", ".h")

MOST_BYTES = 100 << 20
"""The head keeps it in memory, and every node gets a copy."""

SHOWN = 8
"""Files that are listed by name."""


@dataclass(frozen=True)
class Moved:
    """A relative path of a spec, and the absolute one that it stands for here."""

    keys: Keys
    written: str
    path: str

    @property
    def is_output(self) -> bool:
        """Whether the run writes there."""
        return self.keys == ("storage",) or self.keys[-1] == "mirror"

    @property
    def file(self) -> str:
        """The path without the name behind it: FILE.py:NAME."""
        return self.path.rpartition(":")[0] if ".py:" in self.path else self.path


@dataclass(frozen=True)
class Parcel:
    """What a job is sent."""

    files: Mapping[str, Path]
    """By the path in the job's folder, where each is here."""
    named: tuple[str, ...]
    """Those that the spec names, and itself."""
    arguments: tuple[str, ...]
    """The spec and the overrides, as they are right inside the job."""

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(path.stat().st_size for path in self.files.values())

    @property
    def digest(self) -> str:
        """Of names and contents."""
        known = hashlib.sha256()
        for name, path in sorted(self.files.items()):
            known.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
        return known.hexdigest()

    def copy_to(self, folder: Path) -> None:
        """Lay the files out as they will lie in the job."""
        for name, path in self.files.items():
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)

    def __str__(self) -> str:
        code = len(self.files) - len(self.named)
        packages = [f"humpty's code ({code} files)"] if code else []
        return (
            f"{size_of(self.bytes)}: {', '.join([*self.named[:8], *more(self.named), *packages])}"
        )


def more(names: tuple[str, ...]) -> list[str]:
    """How many are not shown."""
    return [f"{len(names) - SHOWN} files more"] if len(names) > SHOWN else []


def pack(file: str, overrides: tuple[str, ...], installed: bool = False) -> tuple[Spec, Parcel]:
    """A spec, and what goes to the cluster with it; SpecError lists what cannot.

    installed: whether the cluster has our packages itself.
    """
    written = as_written(file, overrides)
    spec = with_paths(written)
    moved = list(moves(written, spec))
    project = project_of(file)
    problems: list[tuple[Keys, str]] = []
    named: dict[str, Path] = {inside(project, os.path.abspath(file)) or "": Path(file)}
    outputs = []
    for one in moved:
        if one.is_output:
            outputs.append(f"{dotted(one.keys)}={one.path}")
        elif problem := take(one, spec, project, named):
            problems.append((one.keys, problem))
    problems += too_much(named, moved)
    code = {} if installed else packages()
    problems += [
        ((), f"{name}: humpty has a file of this name itself; call yours otherwise")
        for name, path in named.items()
        if name in code and not code[name].samefile(path)
    ]
    if problems:
        raise spec.origin.error(problems)
    arguments = (next(iter(named)), *overrides, *outputs)
    return spec, Parcel({**code, **named}, tuple(named), arguments)


def project_of(file: str) -> str:
    """The folder that a job's folder is a part of: this one, if the spec lies in it."""
    here = os.getcwd()
    return here if inside(here, os.path.abspath(file)) else os.path.dirname(os.path.abspath(file))


def inside(project: str, path: str) -> str | None:
    """A path relative to the project; None if it lies elsewhere."""
    name = os.path.relpath(path, project)
    return None if name.startswith("..") else name


def strings(node: Any, keys: Keys = ()) -> Iterator[tuple[Keys, str]]:
    """All texts of a spec, without serve stages, which are no part of a run (and name keys)."""
    if isinstance(node, str):
        yield keys, node
    elif is_dataclass(node) and not isinstance(node, ServeStage):
        for name in (one.name for one in fields(node) if one.name != "origin"):
            yield from strings(getattr(node, name), (*keys, name))
    elif isinstance(node, Mapping):
        for name, one in node.items():
            yield from strings(one, (*keys, name))
    elif isinstance(node, tuple):
        for number, one in enumerate(node):
            yield from strings(one, (*keys, number))


def moves(written: Spec, spec: Spec) -> Iterator[Moved]:
    """The relative paths: where the two differ. What starts at home (~) is another place there."""
    absolute = dict(strings(spec))
    for keys, text in strings(written):
        if text != absolute[keys] and not text.startswith("~"):
            yield Moved(keys, text, absolute[keys])


def not_here(spec: Spec) -> list[str]:
    """Text and files that the spec names and this machine lacks: places on the cluster."""
    named = (text for keys, text in strings(spec) if {"shards", "file"} & set(keys))
    places = (path for path in named if os.path.isabs(path) and not glob.has_magic(path))
    return [path for path in places if not os.path.exists(path)]


def take(one: Moved, spec: Spec, project: str, named: dict[str, Path]) -> str | None:
    """Add the files that a path stands for; what is wrong if they cannot travel."""
    if spec.origin.source.place(one.keys).override and project != os.getcwd():
        return (
            f"{one.written}: starts from this folder, but the spec lies in {project}; submit there"
        )
    try:
        found = [file.path for file in find(one.file).files]
    except DataError as error:
        return str(error).removeprefix("shards: ")
    for path in found:
        name = inside(project, path)
        if name is None:
            return (
                f"{one.written}: lies outside of the project ({project}), which is what a job is "
                "sent; move it there, or name a place that the cluster's nodes reach, by an "
                "absolute path or a URI"
            )
        named[name] = Path(path)
    return None


def too_much(named: Mapping[str, Path], moved: list[Moved]) -> list[tuple[Keys, str]]:
    """Files that had better be on the cluster's storage."""
    total = sum(path.stat().st_size for path in named.values())
    if total <= MOST_BYTES:
        return []
    largest = max((one for one in moved if not one.is_output), key=weight)
    return [
        (
            largest.keys,
            f"{largest.written}: with it the job would be sent {size_of(total)}, "
            f"{size_of(MOST_BYTES)} at most; put it where the cluster's nodes reach it, and name "
            "that place by an absolute path or a URI",
        )
    ]


def weight(one: Moved) -> int:
    """Bytes of the files that a path stands for."""
    return sum(file.bytes for file in find(one.file).files)


def packages() -> dict[str, Path]:
    """Our own code."""
    return {
        str(path.relative_to(ROOT)): path
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*"))
        if path.suffix in CODE
    }


def requirements(wanted: tuple[str, ...]) -> tuple[str, ...]:
    """What pip shall install; `humpty` stands for all that our packages need besides Ray."""
    found: list[str] = []
    for one in wanted:
        found += needs() if one == "humpty" else [one]
    return tuple(found)


def needs() -> list[str]:
    """The dependencies without Ray, which the cluster has to bring itself."""
    return [one for one in declared() if not one.startswith("ray")]


def declared() -> list[str]:
    """The dependencies in pyproject.toml, or of the package if that is all there is."""
    path = ROOT / "pyproject.toml"
    if path.exists():
        return tomllib.loads(path.read_text())["project"]["dependencies"]
    return [one for one in requires("humpty") or () if "extra ==" not in one]

"""Checkpoints: everything a run needs to go on, committed in one rename.

    checkpoints/step-000120/  model.safetensors  optimizer.safetensors  state.json  manifest.json

Weights, optimizer and data position are written under a temporary name, forced to disk, listed
with their sha256 in manifest.json, and only then given their final name: a folder called
step-NNNNNN is whole, or was damaged later, which `damage` notices. It goes as it came: one rename
takes its name away, then its files are removed. There is no random generator to save: all
randomness is drawn from (seed, step, slot).

Of a model that is shared out every process writes its own rows (`llm.pieces`). A checkpoint of
either kind is loaded by any number of processes, whether they share out the model or not.
"""

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from llm.config import KeepConfig
from llm.data import Cursor
from llm.errors import ArtifactError, TrainingError
from llm.files import sha256, sync_folder, write_json
from llm.outside import always
from llm.pieces import Pieces, Tensors, is_copy, piece_of, write_pieces

MANIFEST = "manifest.json"
STATE = "state.json"
COMMITTED = re.compile(r"step-\d{6,}")


@dataclass
class Position:
    """How far a run has come: the record that is committed with the weights."""

    step: int = 0
    tokens: int = 0
    cursor: Cursor = field(default_factory=Cursor)
    best_step: int | None = None
    best_score: float | None = None
    extra: dict[str, float] = field(default_factory=dict)
    """What else a kind of training has to remember."""

    def to_json(self) -> dict[str, Any]:
        """As it stands in state.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Position":
        """The inverse of `to_json`."""
        return cls(**{**record, "cursor": Cursor(**record["cursor"])})


# -- writing ---------------------------------------------------------------------------------------


def save(
    folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, position: Position
) -> Path:
    """Commit a checkpoint of a model that is not shared out, below `folder`; returns its path."""
    temporary = unfinished(folder, position.step, os.getpid())
    digests = write_parts(temporary, parts_of(model, optimizer))
    return commit(temporary, position, digests)


def parts_of(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, rank: int = 0
) -> dict[str, Pieces]:
    """What process `rank` writes: of rows that several have, only the first writes anything."""
    parts = {"model": model_tensors(model), "optimizer": optimizer_tensors(model, optimizer)}
    return {
        part: {
            name: piece
            for name, tensor in tensors.items()
            if not is_copy(tensor, rank) and ((piece := piece_of(tensor)).whole or len(piece.rows))
        }
        for part, tensors in parts.items()
    }


def model_tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A model's parameters; tied ones once."""
    return dict(model.named_parameters())


def optimizer_tensors(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, torch.Tensor]:
    """The optimizer's state as tensors named `parameter/slot`."""
    return {
        f"{name}/{slot}": value
        for name, parameter in model.named_parameters()
        for slot, value in optimizer.state.get(parameter, {}).items()
    }


def unfinished(folder: Path, step: int, writer: int) -> Path:
    """Where a checkpoint is until it is committed; `writer` keeps those of two runs apart."""
    return folder / f".{name_of(step)}.{writer}.tmp"


def name_of(step: int) -> str:
    """What a checkpoint's folder is called."""
    return f"step-{step:06d}"


def step_of(path: Path) -> int:
    """The inverse of `name_of`."""
    return int(path.name.removeprefix("step-"))


def write_parts(temporary: Path, parts: Mapping[str, Pieces], suffix: str = "") -> dict[str, str]:
    """Write one process's files, of which `suffix` says whose they are; returns their sha256."""
    temporary.mkdir(parents=True, exist_ok=True)
    names = {part: f"{part}{suffix}.safetensors" for part in parts}
    return {name: write_pieces(temporary / name, parts[part]) for part, name in names.items()}


def commit(
    temporary: Path,
    position: Position,
    digests: dict[str, str],
    may_write: Callable[[], bool] = always,
) -> Path:
    """Give what all processes have written its final name; returns it.

    Raises TrainingError if another run has taken over the folder.
    """
    write_json(temporary / STATE, position.to_json())
    digests = {**digests, STATE: sha256(temporary / STATE)}
    write_json(temporary / MANIFEST, {"files": dict(sorted(digests.items()))})
    if not may_write():
        raise TrainingError(
            f"{temporary.parent}: another run has taken over this folder, so step "
            f"{position.step} was not saved and this run ends; the other run goes on undisturbed"
        )
    return give_name(temporary, position.step)


def give_name(temporary: Path, step: int) -> Path:
    """Commit what is written: from here on it is found."""
    target = temporary.with_name(name_of(step))
    if target.exists():  # of a time before a roll back
        remove(target)
    os.replace(temporary, target)
    sync_folder(target.parent)
    sync_folder(target.parent.parent)
    return target


def save_weights(model: torch.nn.Module, path: Path) -> None:
    """A model's parameters as safetensors; tied ones once."""
    write_pieces(path, {name: piece_of(p) for name, p in model_tensors(model).items()})


# -- reading ---------------------------------------------------------------------------------------


def load(path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Position:
    """Put a checkpoint's weights and optimizer state in place; returns its position."""
    load_weights(model, path / "model.safetensors")
    saved = Tensors(path / "optimizer.safetensors")
    slots: dict[str, list[str]] = {}
    for key in saved.shapes:
        name, _, slot = key.rpartition("/")
        slots.setdefault(name, []).append(slot)
    fused = any(group.get("fused") for group in optimizer.param_groups)
    for name, parameter in model.named_parameters():
        state = {
            slot: room_for(saved, f"{name}/{slot}", parameter, fused)
            for slot in slots.get(name, [])
        }
        for slot, tensor in state.items():
            saved.fill(f"{name}/{slot}", piece_of(tensor))
        optimizer.state[parameter] = state
    return read_position(path)


def room_for(saved: Tensors, name: str, parameter: torch.nn.Parameter, fused: bool) -> torch.Tensor:
    """An empty tensor for an optimizer's moment of a parameter, or for its count of steps.

    The count is where AdamW keeps it: beside the parameter if it is fused, else on the CPU.
    Adafactor's moments are of rows and of columns.
    """
    shape = saved.shapes[name]
    if shape == tuple(parameter.shape):
        return torch.empty_like(parameter)
    return torch.empty(shape, device=parameter.device if fused or shape else "cpu")


def load_weights(model: torch.nn.Module, path: Path) -> None:
    """Fill a model's parameters in place, or say which do not fit.

    `path` is that of whole weights; a checkpoint of a shared model has its pieces in their place.
    """
    saved = Tensors(path)
    wrong = unlike(saved, model)
    if wrong:
        raise ArtifactError(f"{path}: {wrong}; load it with the spec it was trained with")
    for name, parameter in model_tensors(model).items():
        saved.fill(name, piece_of(parameter))


def misfit(path: Path, model: torch.nn.Module) -> str | None:
    """What of a checkpoint has no place in a model and its optimizer; None if all fits."""
    try:
        weights = Tensors(path / "model.safetensors")
        moments = Tensors(path / "optimizer.safetensors")
    except ArtifactError as error:
        return str(error)
    for name, shape in moments.shapes.items():
        if not fits(shape, weights.shapes.get(name.rpartition("/")[0])):
            return f"{name} is {shape}, unlike its weights"
    return unlike(weights, model)


def fits(shape: tuple[int, ...], weights: tuple[int, ...] | None) -> bool:
    """Whether an optimizer's tensor is of weights: a count, a moment, or one of rows or columns."""
    if weights is None:
        return False
    sides = zip(shape, weights, strict=False)
    return not shape or (len(shape) == len(weights) and all(a in (1, b) for a, b in sides))


def unlike(saved: Tensors, model: torch.nn.Module) -> str | None:
    """Which saved weights a model has no place for; None if they fit."""
    own = {name: tuple(p.shape) for name, p in model.named_parameters()}
    missing, extra = (
        sorted(own.keys() - saved.shapes.keys()),
        sorted(saved.shapes.keys() - own.keys()),
    )
    if missing or extra:
        return f"does not fit this model: missing {missing[:3]}, unexpected {extra[:3]}"
    for name, shape in own.items():
        if shape != saved.shapes[name]:
            return f"{name} is {saved.shapes[name]}, this model needs {shape}"
    return None


def read_position(path: Path) -> Position:
    """How far a checkpoint's run had come."""
    return Position.from_json(json.loads((path / STATE).read_text()))


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None if it is whole; reads all of it."""
    try:
        listed = json.loads((path / MANIFEST).read_text())["files"]
        if lacking := unlisted(set(listed)):
            return f"its manifest lists no {lacking}"
        with ThreadPoolExecutor(min(len(listed), os.cpu_count() or 1)) as threads:
            digests = threads.map(lambda name: sha256(path / name), listed)
            for name, digest in zip(listed, digests, strict=True):
                if digest != listed[name]:
                    return f"{name} has changed since it was written"
        read_position(path)
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def unlisted(names: set[str]) -> str | None:
    """A file that every checkpoint has and this one has not."""
    if STATE not in names:
        return STATE
    for part in ("model", "optimizer"):
        pieces = [name for name in names if name.startswith(f"{part}-")]
        size = int(pieces[0][-17:-12]) if pieces else 0
        wanted = {f"{part}{suffix(rank, size)}.safetensors" for rank in range(size)}
        if lacking := (wanted or {f"{part}.safetensors"}) - names:
            return min(lacking)
    return None


def suffix(rank: int, size: int) -> str:
    """What tells a process's files from those of the others."""
    return f"-{rank:05d}-of-{size:05d}"


# -- keeping ---------------------------------------------------------------------------------------


def steps(folder: Path) -> list[Path]:
    """The committed checkpoints below `folder`, oldest first."""
    found = (path for path in folder.glob("step-*") if COMMITTED.fullmatch(path.name))
    return sorted(found, key=step_of)


def newest(folder: Path, warn: Callable[[str], None] = print) -> Path | None:
    """The newest undamaged checkpoint, to look at; says which damaged ones it passes over.

    A run that goes on asks `llm.settle`, so that all its processes get the same answer.
    """
    for path in reversed(steps(folder)):
        wrong = damage(path)
        if wrong is None:
            return path
        warn(f"{path} is damaged ({wrong}); using the checkpoint before it")
    return None


def prune(folder: Path, keep: KeepConfig, best_step: int | None) -> None:
    """Remove what need not be kept, and what attempts have left that fell while they saved."""
    sweep(folder)
    for path in steps(folder)[: -keep.last]:
        step = step_of(path)
        best = keep.best and step == best_step
        if not best and not (keep.every and step % keep.every == 0):
            remove(path)


def sweep(folder: Path) -> None:
    """Remove what is neither committed nor being written."""
    for path in folder.glob(".step-*.tmp"):
        shutil.rmtree(path, ignore_errors=True)


def remove(path: Path) -> None:
    """Take a checkpoint's name away, then remove it: nobody ever finds half of it."""
    hidden = path.with_name(f".{path.name}.{time.time_ns()}.tmp")
    os.replace(path, hidden)
    shutil.rmtree(hidden, ignore_errors=True)

"""Checkpoints: everything a run needs to go on, committed in one rename.

    checkpoints/step-000120/  model.safetensors  optimizer.safetensors  state.json  manifest.json

Weights, optimizer and data position are written under a temporary name, forced to disk, listed
with their sha256 in manifest.json, and only then given their final name: a folder called
step-NNNNNN is whole, or was damaged later, which `newest` notices and says. There is no random
generator to save: all randomness is drawn from (seed, step, slot).
"""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from llm.data import Cursor
from llm.errors import ArtifactError
from llm.files import sha256, sync_folder, write_json

MANIFEST = "manifest.json"


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


def save(
    folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, position: Position
) -> Path:
    """Commit a checkpoint below `folder`; returns its path."""
    target = folder / f"step-{position.step:06d}"
    temporary = folder / f".step-{position.step:06d}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_weights(model, temporary / "model.safetensors")
    save_file(optimizer_tensors(model, optimizer), temporary / "optimizer.safetensors")
    write_json(temporary / "state.json", position.to_json())
    seal(temporary)
    shutil.rmtree(target, ignore_errors=True)  # of an attempt that fell after this step
    os.replace(temporary, target)
    sync_folder(folder)
    return target


def save_weights(model: torch.nn.Module, path: Path) -> None:
    """A model's parameters as safetensors; tied ones once."""
    save_file({name: p.detach().contiguous() for name, p in model.named_parameters()}, path)


def load_weights(model: torch.nn.Module, path: Path) -> None:
    """Fill a model's parameters in place, or say which do not fit."""
    copy_tensors(dict(model.named_parameters()), read_tensors(path), path)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(
            f"{path}: cannot be read ({error}); remove its folder and run the same command again"
        ) from error


def optimizer_tensors(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, torch.Tensor]:
    """The optimizer's state as flat tensors named `parameter/slot`."""
    return {
        f"{name}/{slot}": value.contiguous()
        for name, parameter in model.named_parameters()
        for slot, value in optimizer.state[parameter].items()
    }


def load(path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Position:
    """Put a checkpoint's weights and optimizer state in place; returns its position."""
    load_weights(model, path / "model.safetensors")
    saved = read_tensors(path / "optimizer.safetensors")
    for name, parameter in model.named_parameters():
        slots = {key.rpartition("/")[2]: key for key in saved if key.rpartition("/")[0] == name}
        # AdamW keeps `step` on the CPU, the moments where the parameter is.
        optimizer.state[parameter] = {
            slot: saved[key] if slot == "step" else saved[key].to(parameter.device)
            for slot, key in slots.items()
        }
    return read_position(path)


def read_position(path: Path) -> Position:
    """How far a checkpoint's run had come."""
    return Position.from_json(json.loads((path / "state.json").read_text()))


def copy_tensors(own: dict[str, torch.Tensor], saved: dict[str, torch.Tensor], path: Path) -> None:
    """Copy saved tensors into own ones of the same names and shapes."""
    missing, extra = sorted(own.keys() - saved.keys()), sorted(saved.keys() - own.keys())
    if missing or extra:
        raise ArtifactError(
            f"{path}: does not fit this model: missing {missing[:3]}, unexpected {extra[:3]}; "
            "load it with the spec it was trained with"
        )
    for name, tensor in own.items():
        if tensor.shape != saved[name].shape:
            raise ArtifactError(
                f"{path}: {name} is {tuple(saved[name].shape)}, this model needs "
                f"{tuple(tensor.shape)}; load it with the spec it was trained with"
            )
        with torch.no_grad():
            tensor.copy_(saved[name])


def seal(folder: Path) -> None:
    """Force a folder's files to disk and list them with their sha256 in its manifest."""
    files = sorted(path for path in folder.iterdir() if path.name != MANIFEST)
    for path in files:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    write_json(folder / MANIFEST, {"files": {path.name: sha256(path) for path in files}})


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None if it is whole."""
    try:
        listed = json.loads((path / MANIFEST).read_text())["files"]
        for name, digest in listed.items():
            if sha256(path / name) != digest:
                return f"{name} has changed since it was written"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def steps(folder: Path) -> list[Path]:
    """The committed checkpoints below `folder`, oldest first."""
    return sorted(folder.glob("step-*"), key=lambda path: int(path.name.partition("-")[2]))


def newest(folder: Path, warn: Callable[[str], None] = print) -> Path | None:
    """The newest undamaged checkpoint; says which damaged ones it passes over."""
    for path in reversed(steps(folder)):
        wrong = damage(path)
        if wrong is None:
            return path
        warn(f"{path} is damaged ({wrong}); using the checkpoint before it")
    return None


def prune(folder: Path, keep: int, best_step: int | None) -> None:
    """Remove all but the `keep` newest checkpoints and the best; the marker goes first."""
    for path in steps(folder)[:-keep]:
        if best_step is None or path.name != f"step-{best_step:06d}":
            (path / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(".step-*.tmp"):  # of attempts that fell while saving
        shutil.rmtree(path, ignore_errors=True)

"""Tensors in safetensors files: whole ones, or the rows that each of several processes holds.

    model.safetensors                     whole tensors
    model-00001-of-00004.safetensors      one process's rows; its metadata says which of which shape

Whoever reads asks for rows and gets them from the files that have them. So any number of processes
reads what any other number wrote, each only its own part.

The format is written here and not by safetensors' own `save_file`, because then the sha256 comes
with the writing: a checkpoint is not read back from storage to be hashed, and what is hashed is
what memory held. A full disk is an OSError with its number, too.
"""

import hashlib
import json
import math
import os
import struct
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from llm.errors import ArtifactError

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
PORTION = 8 << 20
"""Bytes that are hashed and written at a time."""


class Piece(NamedTuple):
    """The rows of a tensor of `shape` from `first` on; all of them if nothing is shared out."""

    rows: torch.Tensor
    first: int
    shape: tuple[int, ...]

    @property
    def whole(self) -> bool:
        """Whether these are all rows."""
        return tuple(self.rows.shape) == self.shape

    @property
    def stop(self) -> int:
        """The row behind its last."""
        return self.first + len(self.rows)


Pieces = Mapping[str, Piece]


def piece_of(tensor: torch.Tensor) -> Piece:
    """What this process holds of a tensor; a view, so that it can be read and filled."""
    shape = tuple(tensor.shape)
    if type(tensor) in (torch.Tensor, nn.Parameter):
        return Piece(tensor.detach(), 0, shape)
    from torch.distributed.tensor import DTensor, Shard  # half a second that serving need not pay

    assert isinstance(tensor, DTensor) and tensor.placements[-1] == Shard(0), tensor
    mesh, way = tensor.device_mesh, tensor.device_mesh.ndim - 1
    each = math.ceil(shape[0] / mesh.size(way))
    first = min(shape[0], mesh.get_local_rank(way) * each)
    return Piece(tensor.to_local().detach(), first, shape)


def is_copy(tensor: torch.Tensor, rank: int) -> bool:
    """Whether a process of lower rank holds the same rows: all of them, or those of its node."""
    if type(tensor) in (torch.Tensor, nn.Parameter):
        return rank > 0
    mesh = tensor.device_mesh  # type: ignore[attr-defined]
    return mesh.ndim > 1 and mesh.get_local_rank(0) > 0


class Buffers:
    """Host memory that a state is copied to while nothing changes it; used again and again."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], torch.Tensor] = {}

    def copied(self, parts: Mapping[str, Pieces]) -> dict[str, Pieces]:
        """The same, as it is now; valid until the next call."""
        copies: dict[str, Pieces] = {
            part: {
                name: p._replace(rows=self._copy((part, name), p.rows)) for name, p in of.items()
            }
            for part, of in parts.items()
        }
        if torch.cuda.is_available():
            torch.cuda.current_stream().synchronize()
        return copies

    def _copy(self, key: tuple[str, str], tensor: torch.Tensor) -> torch.Tensor:
        kept = self.kept.get(key)
        if kept is None or (kept.shape, kept.dtype) != (tensor.shape, tensor.dtype):
            kept = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
            self.kept[key] = kept
        return kept.copy_(tensor, non_blocking=True)


# -- writing ---------------------------------------------------------------------------------------


def write_pieces(path: Path, pieces: Pieces) -> str:
    """Write a file and force it to disk; returns its sha256."""
    # As in safetensors' own files the widest come first, so that everything is aligned.
    ordered = sorted(pieces.items(), key=lambda one: (-one[1].rows.element_size(), one[0]))
    digest = hashlib.sha256()
    with open(path, "wb") as file, ThreadPoolExecutor(1) as hasher:
        for content in (header(ordered), *(raw(piece.rows) for _, piece in ordered)):
            for start in range(0, len(content), PORTION):
                portion = content[start : start + PORTION]
                hashed = hasher.submit(digest.update, portion)  # both take about a second for 1 GB
                file.write(portion)
                hashed.result()
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def header(ordered: list[tuple[str, Piece]]) -> memoryview:
    """What a safetensors file begins with: a length, then names, types, shapes and places."""
    record: dict[str, Any] = {}
    partial = {name: [p.first, *p.shape] for name, p in ordered if not p.whole}
    if partial:
        record["__metadata__"] = {"rows": json.dumps(partial)}
    end = 0
    for name, piece in ordered:
        start, end = end, end + piece.rows.nbytes
        kind, shape = DTYPES[piece.rows.dtype], list(piece.rows.shape)
        record[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(record).encode()
    text += b" " * (-len(text) % 8)
    return memoryview(struct.pack("<Q", len(text)) + text)


def raw(tensor: torch.Tensor) -> memoryview:
    """A tensor's bytes."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def size(parts: Mapping[str, Pieces]) -> int:
    """Bytes of all their tensors."""
    return sum(piece.rows.nbytes for of in parts.values() for piece in of.values())


# -- reading ---------------------------------------------------------------------------------------


class Place(NamedTuple):
    """Where some rows are."""

    first: int
    stop: int
    file: Any


class Tensors:
    """What a file called `path` holds, or the files `name-RRRRR-of-WWWWW` in its place."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.places: dict[str, list[Place]] = {}
        try:
            for one in files_of(path):
                self._add(safe_open(one, framework="pt"))
        except (OSError, SafetensorError, ValueError) as error:
            raise ArtifactError(
                f"{path}: cannot be read ({error}); remove its folder and run the same command "
                "again"
            ) from error

    def _add(self, file: Any) -> None:
        partial = json.loads((file.metadata() or {}).get("rows", "{}"))
        for name in file.keys():  # noqa: SIM118  # a handle of safetensors is no mapping
            shape = tuple(file.get_slice(name).get_shape())
            first, *whole = partial.get(name, (0, *shape))
            self.shapes[name] = tuple(whole)
            rows = shape[0] if shape else 1
            self.places.setdefault(name, []).append(Place(first, first + rows, file))

    def fill(self, name: str, piece: Piece) -> None:
        """Put the saved values of these rows in place."""
        if not piece.shape:
            piece.rows.copy_(self.places[name][0].file.get_tensor(name))
            return
        done = 0
        for start, stop, saved in self._overlaps(name, piece):
            piece.rows[start:stop].copy_(saved)
            done += stop - start
        if done != len(piece.rows):
            raise ArtifactError(
                f"{self.path}: rows of {name} are missing; remove its folder and run the same "
                "command again"
            )

    def _overlaps(self, name: str, piece: Piece) -> Iterator[tuple[int, int, torch.Tensor]]:
        """Wanted rows that some file has: from where to where in the piece, and their values."""
        for place in self.places[name]:
            first, stop = max(place.first, piece.first), min(place.stop, piece.stop)
            if first < stop:
                rows = place.file.get_slice(name)[first - place.first : stop - place.first]
                yield first - piece.first, stop - piece.first, rows


def files_of(path: Path) -> list[Path]:
    """The files that make up what is called `path`: itself, or its pieces."""
    pieces = sorted(path.parent.glob(f"{path.stem}-*-of-*{path.suffix}"))
    return pieces if pieces and not path.exists() else [path]

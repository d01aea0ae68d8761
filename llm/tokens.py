"""A corpus' tokens, kept: for several epochs, or several trainings on the same text.

    index.safetensors      starts: the first unit of each file; targets, bytes: (units,)
    00000.safetensors ...  ids, ends: (documents,) where each document's ids end,
                           documents: (units,) where each unit's documents end, targets: (units,)

A file holds the units of about 32 MiB of text. It is mapped into memory, so asking for a unit reads
that unit. Whoever trains on it takes the very steps of whoever tokenises on the way.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from llm.data import Text, first_cut
from llm.files import write_atomic
from llm.order import Epochs, units_per_position
from llm.packing import count_rows as rows_of
from llm.ragged import open_tensors
from llm.units import Units

INDEX = "index.safetensors"
GROUP_BYTES = 32 << 20


def group_starts(units: Units) -> list[int]:
    """The first unit of each file."""
    before = np.cumsum(units.bytes) - units.bytes
    group = before // GROUP_BYTES
    return np.flatnonzero(np.diff(group, prepend=-1)).tolist()


def group_path(folder: Path, group: int) -> Path:
    """The file of a group of units."""
    return folder / f"{group:05d}.safetensors"


def write_group(path: Path, text: Text, units: range, vocab_size: int) -> None:
    """Tokenise some units and keep them, in one step."""
    documents = [text.documents(unit) for unit in units]
    flat = [ids for unit in documents for ids in unit]
    lengths = np.fromiter(map(len, flat), np.int64, len(flat))
    kind = np.uint16 if vocab_size <= 1 << 16 else np.int32
    tensors = {
        "ids": np.concatenate([*flat, np.empty(0, np.int32)]).astype(kind),
        "ends": np.cumsum(lengths),
        "documents": np.cumsum([len(unit) for unit in documents], dtype=np.int64),
        "targets": np.array([sum(len(ids) + 1 for ids in unit) for unit in documents], np.int64),
    }
    write_atomic(path, save(tensors))


def write_index(folder: Path, units: Units, starts: list[int]) -> dict[str, int]:
    """Write what marks the cache as whole; returns its figures."""
    groups = [open_tensors(group_path(folder, group)) for group in range(len(starts))]
    targets = np.concatenate([one.get_tensor("targets") for one in groups])
    index = {"starts": np.array(starts, np.int64), "targets": targets, "bytes": units.bytes}
    write_atomic(folder / INDEX, save(index))
    return {
        "tokens": int(targets.sum()),
        "documents": sum(int(one.get_tensor("documents")[-1]) for one in groups),
        "bytes": int(units.bytes.sum()),
        "units": len(units),
    }


@lru_cache(maxsize=4)
def read_index(folder: Path) -> dict[str, np.ndarray]:
    """The index of a cache, read once a process: a terabyte's has four million units."""
    file = open_tensors(folder / INDEX)
    return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@dataclass(frozen=True)
class TokenCache:
    """The training documents of a corpus as `make_tokens` left them in a folder."""

    folder: Path

    def documents(self, unit: int) -> list[np.ndarray]:
        """Tokens of each training document of a unit: int32."""
        starts = read_index(self.folder)["starts"]
        group = int(np.searchsorted(starts, unit, side="right")) - 1
        file = open_tensors(group_path(self.folder, group))
        inside = unit - int(starts[group])
        last = file.get_slice("documents")[max(0, inside - 1) : inside + 1].tolist()
        first, stop = (0 if inside == 0 else last[0]), last[-1]
        if first == stop:
            return []
        ends = file.get_slice("ends")[max(0, first - 1) : stop].tolist()
        begin = 0 if first == 0 else ends.pop(0)
        ids = file.get_slice("ids")[begin : ends[-1]].astype(np.int32)
        return np.split(ids, np.array(ends[:-1], np.int64) - begin)

    def row_counts(self, context: int, seed: int, epochs: int) -> Iterator[int]:
        """Rows of every position of so many epochs."""
        index = read_index(self.folder)
        targets = index["targets"]
        order = Epochs(len(targets), units_per_position(index["bytes"]), seed)
        for position in range(epochs * order.positions):
            total = sum(int(targets[visit.unit]) for visit in order.visits(position))
            yield rows_of(total, context, first_cut(seed, position, context))


def count_rows(folder: Path, context: int, seed: int, epochs: int) -> int:
    """Sequences of so many epochs over the text whose tokens are in `folder`."""
    return sum(TokenCache(folder).row_counts(context, seed, epochs))

"""Rows of arrays of different lengths, in safetensors files that are mapped into memory.

A column is stored as its values, joined, and where each row of them ends. Asking for a row reads
that row, so a data set may be larger than memory, and any row costs the same.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from llm.errors import ArtifactError
from llm.files import write_atomic

Row = Mapping[str, np.ndarray]


def write_rows(path: Path, kinds: Mapping[str, Any], rows: Iterable[Row]) -> None:
    """Write rows in one step; `kinds` has the dtype of each column."""
    columns: dict[str, list[np.ndarray]] = {name: [] for name in kinds}
    for row in rows:
        for name, values in columns.items():
            values.append(row[name])
    tensors: dict[str, np.ndarray] = {}
    for name, values in columns.items():
        tensors[name] = np.concatenate([*values, np.empty(0)]).astype(kinds[name])
        tensors[f"{name}.ends"] = np.cumsum([len(one) for one in values], dtype=np.int64)
    write_atomic(path, save(tensors))


class Ragged:
    """The rows of several files, one after the other."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)

    def __reduce__(self) -> tuple[type["Ragged"], tuple[list[Path]]]:
        return Ragged, (self.paths,)

    @cached_property
    def _files(self) -> list[Any]:
        return [open_tensors(path) for path in self.paths]

    @cached_property
    def _ends(self) -> list[dict[str, np.ndarray]]:
        """Where rows end, of each column of each file."""
        names = [[name for name in file.keys() if name.endswith(".ends")] for file in self._files]  # noqa: SIM118
        return [
            {name.removesuffix(".ends"): file.get_tensor(name) for name in of_file}
            for file, of_file in zip(self._files, names, strict=True)
        ]

    @cached_property
    def _before(self) -> list[int]:
        """Rows before each file, and in all."""
        counts = [len(next(iter(ends.values()))) for ends in self._ends]
        return [0, *accumulate(counts)]

    def __len__(self) -> int:
        return self._before[-1]

    def get(self, name: str, row: int) -> np.ndarray:
        """The values of one row of a column."""
        assert 0 <= row < len(self), f"row {row} of {len(self)}"
        file = bisect_right(self._before, row) - 1
        inside, ends = row - self._before[file], self._ends[file][name]
        start = int(ends[inside - 1]) if inside else 0
        stop = int(ends[inside])
        if not ends[-1]:
            return self._files[file].get_tensor(name)  # of no values, which cannot be sliced
        if start == stop:
            return self._files[file].get_slice(name)[:1][:0]
        return self._files[file].get_slice(name)[start:stop]

    def lengths(self, name: str) -> np.ndarray:
        """How many values each row of a column has: (rows,) int64."""
        parts = [np.diff(ends[name], prepend=0) for ends in self._ends]
        return np.concatenate([*parts, np.empty(0, np.int64)])


@lru_cache(maxsize=64)
def open_tensors(path: Path) -> Any:
    """An open safetensors file; its header is checked, its tensors are read when asked for."""
    try:
        return safe_open(path, "np")
    except (OSError, SafetensorError) as error:
        raise ArtifactError(
            f"{path}: cannot be read ({error}); remove its folder and run the same command again"
        ) from error

"""A corpus' units as columns: a terabyte has four million, which as objects would be a gigabyte.

Columns travel to Ray's workers without being copied; `units[i]` makes the one that is read.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from llm.config import TextConfig
from llm.errors import DataError
from llm.shards import Format, Unit, list_shards, list_units, too_large_to_stream


@dataclass(frozen=True, eq=False)
class Units:
    """Units in the order of their shards. file: index into `paths`; the columns are int64."""

    paths: tuple[str, ...]
    formats: tuple[Format, ...]
    file: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    bytes: np.ndarray

    @classmethod
    def of(cls, units: Iterable[Unit]) -> "Units":
        """The columns of a list of units."""
        files: dict[tuple[str, Format], int] = {}
        rows = [
            (files.setdefault((u.path, u.format), len(files)), u.start, u.stop, u.bytes)
            for u in units
        ]
        columns = np.array(rows, np.int64).reshape(len(rows), 4).T
        paths = tuple(path for path, _ in files)
        return cls(paths, tuple(format for _, format in files), *np.ascontiguousarray(columns))

    def __len__(self) -> int:
        return len(self.file)

    def __getitem__(self, index: int) -> Unit:
        if not 0 <= index < len(self):
            raise IndexError(index)
        file = self.file[index]
        numbers = (int(column[index]) for column in (self.start, self.stop, self.bytes))
        return Unit(self.paths[file], self.formats[file], *numbers)

    def __iter__(self) -> Iterator[Unit]:
        return map(self.__getitem__, range(len(self)))


def units_of(config: TextConfig) -> Units:
    """The units of the shards that a config names, each small enough to be drawn at once."""
    shards = list_shards(config.shards, config.format)
    units = list_units(shards, encoding=config.encoding)
    for unit in units:
        if too_large_to_stream(unit):
            raise DataError(
                f"{unit.path}: holds about {unit.bytes >> 20} MiB of text that can only be read "
                "from its start; put a corpus stage before the training, which cuts it into "
                "shards, or unpack it"
            )
    return Units.of(units)

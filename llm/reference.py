"""What the reference thinks of each answer: worked out once before DPO, kept beside the artifact.

It costs a third of an epoch and never changes, so a run that goes on reads it from its file.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from llm.files import write_atomic
from llm.world import World


class Reference:
    """Log-probabilities (N,) of the answers of comparisons that have so many each."""

    def __init__(self, values: np.ndarray, counts: np.ndarray) -> None:
        self.values = values
        self._starts = np.concatenate([[0], np.cumsum(counts)])

    def __len__(self) -> int:
        return len(self._starts) - 1

    def of(self, numbers: Sequence[int]) -> np.ndarray:
        """Those of all answers of some comparisons, one after the other."""
        starts = self._starts
        parts = [self.values[starts[number] : starts[number + 1]] for number in numbers]
        return np.concatenate([*parts, np.empty(0)])


def kept(path: Path, count: int, work: Callable[[], np.ndarray], world: World) -> np.ndarray:
    """The `count` numbers in a file, or else those that `work` gives in all processes together.

    Only the first process looks at the file: the others may be on machines that lack it.
    """
    if not count:
        return np.zeros(0)
    found = read_values(path, count) if world.rank == 0 else None
    if world.max(found is not None)[0]:
        return np.array(world.sum(*(np.zeros(count) if found is None else found)))
    values = work()
    if world.rank == 0:
        write_atomic(path, save({"logprobs": values}))
    return values


def read_values(path: Path, count: int) -> np.ndarray | None:
    """The numbers of a file, if it is there, whole, and has as many."""
    try:
        values = load_file(path)["logprobs"]
    except (OSError, SafetensorError, KeyError):
        return None
    return values if len(values) == count else None

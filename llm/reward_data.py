"""Comparisons on their way into a model: batches of answers, and which of them were preferred.

Every answer is a row of its own behind its prompt, padded on the right: tokens never see later ones
so nothing needs a mask, and a ranking of k answers costs k rows, not one for each of its pairs.
Training walks through whole epochs (`llm.epochs`); measuring takes comparisons of like length
together, each process its own batches.

N answers of a batch, T tokens of the longest, P pairs.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from llm.config import LoopConfig
from llm.data import Cursor
from llm.epochs import Draw, own_starts
from llm.examples import Comparison, Comparisons
from llm.packing import rounded
from llm.preference_loss import Pairs, strict_pairs
from llm.step_log import BITS, checksum
from llm.world import World

MEASURED = 1024
"""Held-out comparisons that a validation reads at most: an interval of 3% on either side."""


class Answers(NamedTuple):
    """ids: (N, T) int64, 0 behind the end; lengths, prompts: (N,), tokens in all and before the
    answer."""

    ids: Tensor
    lengths: Tensor
    prompts: Tensor


def answers_of(comparisons: Sequence[Comparison], device: torch.device) -> Answers:
    """All answers of some comparisons; of none, one empty row that nothing refers to."""
    sequences = [one for comparison in comparisons for one in comparison.sequences]
    prompts = [c.prompt for c in comparisons for _ in c.sequences]
    lengths = [len(one) for one in sequences]
    width = rounded(max(lengths, default=1))
    ids = np.zeros((max(1, len(sequences)), width), np.int64)
    for row, one in zip(ids, sequences, strict=False):
        row[: len(one)] = one
    numbers = torch.tensor([lengths or [1], prompts or [1]], device=device)
    return Answers(torch.from_numpy(ids).to(device), *numbers)


def pairs_of(scores: Sequence[np.ndarray], margins: Sequence[float], device: torch.device) -> Pairs:
    """The pairs of comparisons whose answers lie one behind the other; their weights sum to 1 each.

    margins: one for each comparison; NaN is none.
    """
    found = [strict_pairs(one) for one in scores]
    starts = np.cumsum([0, *map(len, scores)])
    counts = [len(pairs) for pairs in found]
    places = [pairs + start for pairs, start in zip(found, starts, strict=False)]
    better, worse = torch.from_numpy(np.concatenate([*places, np.empty((0, 2), np.int64)])).T
    weights = np.repeat([1 / max(1, count) for count in counts], counts)
    wanted = np.repeat(np.nan_to_num(np.array(margins, float)), counts)
    numbers = (torch.tensor(values, dtype=torch.float32) for values in (weights, wanted))
    return Pairs(*(values.to(device) for values in (better, worse, *numbers)))


@dataclass(frozen=True, kw_only=True)
class ComparisonPortion:
    """Comparisons of one forward pass (an `llm.train.Portion`); `size` counts padding, too."""

    comparisons: tuple[Comparison, ...]
    size: int
    first: Cursor
    after: Cursor
    margin: bool = False
    """Whether the margins of the data count."""

    def __len__(self) -> int:
        return self.size

    @property
    def tokens(self) -> int:
        """Of all answers, each with its prompt."""
        return sum(len(ids) for one in self.comparisons for ids in one.sequences)

    @property
    def weight(self) -> float:
        """The step's loss is the mean over its comparisons."""
        return len(self.comparisons)

    def checksum(self, place: int) -> int:
        """Of each comparison's tokens and its place in the batch."""
        rows = (np.concatenate(one.sequences)[None] for one in self.comparisons)
        return sum(checksum(row, place + index) for index, row in enumerate(rows)) % (1 << BITS)

    def arguments(self, device: torch.device, step: int) -> dict[str, Any]:
        """Of `Scorer.forward`."""
        ids, lengths, _ = answers_of(self.comparisons, device)
        return {"ids": ids, "lengths": lengths, "pairs": self.pairs(device)}

    def pairs(self, device: torch.device) -> Pairs:
        """Which of the answers were preferred."""
        margins = [one.margin if self.margin else 0.0 for one in self.comparisons]
        return pairs_of([one.scores for one in self.comparisons], margins, device)


class Drawn(NamedTuple):
    """Which comparisons a portion has, and where it stands."""

    numbers: list[int]
    first: Cursor
    after: Cursor


def drawn(
    draw: Draw, sizes: np.ndarray, cursor: Cursor, loop: LoopConfig, world: World
) -> Iterator[Drawn]:
    """This process's portions from a cursor on, endlessly; behind the last epoch they are empty.

    The comparisons of a batch are dealt out in the order of their `sizes` (tokens), so that those
    of a portion are about equally long: a third less padding with batches of 32.
    """
    size, batch = loop.micro_batch, loop.batch
    for start in own_starts(draw.number(cursor), size, batch // size, world):
        first = start // batch * batch  # every step takes a whole batch
        items = [draw.item(number) for number in range(first, first + batch)]
        there = sorted((item for item in items if item is not None), key=lambda item: sizes[item])
        numbers = there[start - first :][:size]
        yield Drawn(numbers, draw.cursor(start), draw.cursor(start + size))


@torch.inference_mode()
def measure(
    comparisons: Comparisons,
    which: Sequence[int],
    of: Callable[[Answers], Tensor],
    world: World,
    batch: int,
) -> np.ndarray:
    """A number for every answer of some comparisons, in their order; the same in all processes.

    `of` gives those of a batch of answers: (N,).
    """
    sizes = comparisons.rows.lengths("ids")[list(which)]
    counts = comparisons.rows.lengths("scores")[list(which)]
    places = np.split(np.arange(counts.sum()), np.cumsum(counts)[:-1])
    order = np.argsort(sizes, kind="stable")
    values = np.zeros(int(counts.sum()))
    for start in range(world.rank * batch, len(order), world.size * batch):
        chosen = order[start : start + batch].tolist()
        answers = answers_of([comparisons[which[i]] for i in chosen], world.device)
        values[np.concatenate([places[i] for i in chosen])] = of(answers).double().cpu().numpy()
    return np.array(world.sum(*values))


def pairs_in(comparisons: Comparisons, which: Sequence[int], margin: bool = False) -> Pairs:
    """The pairs of some comparisons; margins are those of the data, or 0."""
    get = comparisons.rows.get
    margins = [float(get("margin", i)[0]) if margin else 0.0 for i in which]
    return pairs_of([get("scores", i) for i in which], margins, torch.device("cpu"))


def answer_lengths(comparisons: Comparisons, which: Sequence[int]) -> np.ndarray:
    """Tokens of all answers of some comparisons, without their prompts: (N,)."""
    get = comparisons.rows.get
    return np.concatenate([get("lengths", i) - get("prompt", i)[0] for i in which])


def best_of(comparisons: Comparisons, which: Sequence[int], values: np.ndarray) -> np.ndarray:
    """Of values (N,) of all answers, those of the best answer of each comparison."""
    scores = [comparisons.rows.get("scores", i) for i in which]
    starts = np.cumsum([0, *map(len, scores)])[:-1]
    return values[starts + np.array([one.argmax() for one in scores], np.int64)]

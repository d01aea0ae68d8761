"""Comparisons on their way into a model: batches of answers, and which of them were preferred.

Every answer stands behind its prompt, once, so a ranking of k answers costs k of them, not one for
each of its pairs. Several share a row: rows of their own, as long as the longest, would be padding
mostly. Training walks through whole epochs (`llm.epochs`); measuring takes comparisons of like
length together, each process its own batches.

N answers of a batch, R rows of T tokens (as the longest has), P pairs.
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
from llm.packing import packed, rounded
from llm.preference_loss import Pairs, strict_pairs
from llm.step_log import BITS, checksum
from llm.world import World

MEASURED = 1024
"""Held-out comparisons that a validation reads at most: an interval of 3% on either side."""


class Answers(NamedTuple):
    """Answers behind their prompts, several in a row; no token sees another answer's.

    ids, owners: (R, T) int64, tokens and which answer each is of, 0 and -1 behind the last one.
    rows, columns: (N,), where each answer ends. prompts: (N,), tokens before the answer.
    """

    ids: Tensor
    owners: Tensor
    rows: Tensor
    columns: Tensor
    prompts: Tensor


def answers_of(comparisons: Sequence[Comparison], device: torch.device) -> Answers:
    """All answers of some comparisons; of none, one empty row that nothing refers to."""
    sequences = [one for comparison in comparisons for one in comparison.sequences]
    prompts = [c.prompt for c in comparisons for _ in c.sequences]
    lengths = [len(one) for one in sequences]
    longest_first = sorted(range(len(lengths)), key=lambda number: -lengths[number])
    room = max(lengths, default=1)
    members = packed(lengths, longest_first, room)
    ids = np.zeros((max(1, len(members)), rounded(room)), np.int64)
    owners = np.full_like(ids, -1)
    ends = np.zeros((2, max(1, len(sequences))), np.int64)
    for row, numbers in enumerate(members):
        at = 0
        for number in numbers:
            stop = at + lengths[number]
            ids[row, at:stop], owners[row, at:stop] = sequences[number], number
            ends[:, number] = row, stop - 1
            at = stop
    found = (ids, owners, *ends, np.array(prompts or [1]))
    return Answers(*(torch.from_numpy(one).to(device) for one in found))


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
        answers = answers_of(self.comparisons, device)._asdict()
        del answers["prompts"]
        return {**answers, "pairs": self.pairs(device)}

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

    The comparisons of a batch are dealt out by their `sizes` (tokens), the largest first, there and
    back again, so that all portions have about as many tokens and no process waits for another.
    """
    size, batch = loop.micro_batch, loop.batch
    portions = batch // size
    for start in own_starts(draw.number(cursor), size, portions, world):
        first = start // batch * batch  # every step takes a whole batch
        items = [draw.item(number) for number in range(first, first + batch)]
        there = sorted((item for item in items if item is not None), key=lambda item: -sizes[item])
        numbers = dealt(there, portions)[(start - first) // size]
        yield Drawn(numbers, draw.cursor(start), draw.cursor(start + size))


def dealt(items: Sequence[int], portions: int) -> list[list[int]]:
    """Items in turns, there and back again: 0 1 2, then 2 1 0."""
    rounds = [items[start : start + portions] for start in range(0, len(items), portions)]
    hands: list[list[int]] = [[] for _ in range(portions)]
    for number, one in enumerate(rounds):
        for hand, item in zip(hands[::-1] if number % 2 else hands, one, strict=False):
            hand.append(item)
    return hands


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

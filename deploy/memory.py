"""Which texts the lines of the key-value memory hold: those being written, and those remembered.

A line has room for a whole context, so a text that has one can always be finished: nothing is ever
dropped halfway, and nobody waits for somebody who waits. A finished text stays where it is until
its line is wanted, the longest unused one first. A new text takes over the longest beginning that
it has in common with any of them, so neither a system prompt nor what was said before in a chat is
read twice: where it stands if the new text goes on where an idle one ended, else as a copy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

LEAST_PREFIX = 8
"""Tokens; fewer are sooner read than looked after, and all texts begin with the same one."""


@dataclass(eq=False)
class Line:
    """What one line holds, in `tokens[:length]`."""

    tokens: np.ndarray  # (context,) int64
    length: int = 0
    prompt: int = 0
    """Of these, what was given."""
    used: bool = False
    since: int = 0
    """When it was taken or given back, in takings; the smallest is the longest unused."""


class Place(NamedTuple):
    """A line, and what stands in it already once `tokens` were copied from `source`."""

    line: int
    tokens: int
    source: int


class LineTable:
    """Hands out lines. Counts tokens, holds none of the keys and values themselves."""

    def __init__(self, count: int, context: int) -> None:
        assert count > 0, f"{count} lines"
        self.lines = [Line(np.zeros(context, np.int64)) for _ in range(count)]
        self.context = context
        self.takings = 0

    @property
    def free(self) -> int:
        """Lines that can be taken."""
        return sum(not line.used for line in self.lines)

    @property
    def usage(self) -> float:
        """Share of all memory that texts being written fill."""
        held = sum(line.length for line in self.lines if line.used)
        return held / (len(self.lines) * self.context)

    def take(self, prompt: Sequence[int], *, anew: bool = False) -> Place:
        """A line for a text that begins so; at least its last token is left to be read.

        anew: nothing is taken over, all is read.
        """
        assert self.free, "every line is in use"
        ids = np.asarray(prompt)
        shared = [0 if anew else common(line, ids) for line in self.lines]
        source = max(range(len(shared)), key=shared.__getitem__)
        chosen = self._target(source, shared[source])
        tokens = min(shared[source], len(ids) - 1)
        if tokens < LEAST_PREFIX:
            tokens, source = 0, chosen
        line = self.lines[chosen]
        self.takings += 1
        line.used, line.since, line.length, line.prompt = True, self.takings, tokens, len(ids)
        line.tokens[:tokens] = ids[:tokens]
        return Place(chosen, tokens, source)

    def _target(self, source: int, shared: int) -> int:
        """Where to put a text that has so many tokens of `source` in common."""
        line = self.lines[source]
        if not line.used and shared >= max(line.prompt, LEAST_PREFIX):
            return source  # it asks again, or goes on after the answer
        idle = (index for index, line in enumerate(self.lines) if not line.used)
        return min(idle, key=lambda index: (self.lines[index].length > 0, self.lines[index].since))

    def grow(self, index: int, tokens: Sequence[int]) -> None:
        """These tokens were computed next in a line."""
        line = self.lines[index]
        line.tokens[line.length : line.length + len(tokens)] = tokens
        line.length += len(tokens)

    def give_back(self, index: int) -> None:
        """Its text is finished, and remembered for now."""
        line = self.lines[index]
        assert line.used, f"line {index} is not in use"
        self.takings += 1
        line.used, line.since = False, self.takings

    def forget(self) -> None:
        """Nothing that idle lines hold is to be trusted."""
        for line in self.lines:
            if not line.used:
                line.length = 0


def common(line: Line, ids: np.ndarray) -> int:
    """Tokens that a line and a text begin with alike."""
    count = min(line.length, len(ids))
    differ = np.flatnonzero(line.tokens[:count] != ids[:count])
    return int(differ[0]) if len(differ) else count

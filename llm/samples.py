"""A few documents of every kind, to be looked at: cleaned, dropped, kept.

Which ones is decided by a hash of (seed, kind, name, id), of which the smallest stay. So samples of
portions can be put together in any order and are the same however a corpus is cut up and
read. Only excerpts are kept: those of a changed text begin shortly before its first change.
"""

from bisect import insort
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, Literal

Kind = Literal["changed", "dropped", "kept"]

EACH = 3
"""Samples of each kind and name."""

CHARACTERS = 300
"""Length of an excerpt."""

CONTEXT = 60
"""Characters of it that lie before the first change."""


@dataclass(frozen=True, order=True)
class Sample:
    """Excerpts. name: step of cleaning, reason of a drop, source; after: cleaned, or the copy that
    stays, which is called `other`."""

    rank: str
    kind: Kind
    name: str
    id: str
    before: str
    after: str = ""
    other: str = ""


class Samples:
    """The samples with the smallest ranks, by kind and name."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.best: dict[tuple[Kind, str], list[Sample]] = {}

    def offer(
        self,
        kind: Kind,
        name: str,
        id: str,
        make: Callable[[], tuple[str, str]],
        other: str = "",
    ) -> None:
        """Take a document if its rank is small enough; only then are its excerpts made."""
        rank = blake2b(f"{self.seed}\0{kind}\0{name}\0{id}".encode(), digest_size=8).hexdigest()
        best = self.best.setdefault((kind, name), [])
        if len(best) < EACH or rank < best[-1].rank:
            self.add(Sample(rank, kind, name, id, *make(), other))

    def add(self, sample: Sample) -> None:
        """Take a sample if its rank is small enough."""
        best = self.best.setdefault((sample.kind, sample.name), [])
        insort(best, sample)
        del best[EACH:]

    def all(self) -> list[Sample]:
        """What was kept, by kind, name and rank."""
        return [sample for key in sorted(self.best) for sample in self.best[key]]

    def to_json(self) -> list[dict[str, Any]]:
        """As JSON values."""
        return [asdict(sample) for sample in self.all()]


def from_json(rows: Iterable[Mapping[str, Any]]) -> list[Sample]:
    """The samples that `to_json` wrote."""
    return [Sample(**row) for row in rows]


def excerpt(text: str, start: int = 0) -> str:
    """A part of a text; dots stand for what is left out."""
    part = text[start : start + CHARACTERS]
    return ("…" if start else "") + part + ("…" if start + len(part) < len(text) else "")


def difference(before: str, after: str) -> tuple[str, str]:
    """Excerpts of two forms of a text from shortly before where they part."""
    unequal = (i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b)
    parted = 0 if before == after else next(unequal, min(len(before), len(after)))
    start = max(0, parted - CONTEXT)
    return excerpt(before, start), excerpt(after, start)


def shown(text: str) -> tuple[str, str]:
    """The excerpts of a text that nothing else is compared with."""
    return excerpt(text), ""

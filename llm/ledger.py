"""What became of every document and every byte of a corpus, per source.

    documents:  read = train + validation + dropped, by each named reason
    bytes:      read = train + validation + dropped + removed by cleaning

Bytes are UTF-8. A damaged record counts with the size its reader gives; every other document with
the size it had after cleaning, and what cleaning took away from it counts as removed (less than
nothing where a placeholder is longer than what it stands for). `check` asserts both lines.

Ledgers of portions add up to that of a source, those of sources to the corpus'. They travel as
JSON: `to_json` and `from_json` are inverse.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llm.damage import Damage

SHOWN = 100
"""Damages that are listed by file; all are counted."""

DETAIL_CHARACTERS = 400
"""A detail may quote what a hostile file says."""

QUIET = ("empty", "not a page")
"""Reasons that are no news when they concern one record: those are only counted."""


@dataclass
class Amount:
    """Documents and their bytes."""

    documents: int = 0
    bytes: int = 0

    def add(self, bytes: int, documents: int = 1) -> None:
        """Count some more."""
        self.documents += documents
        self.bytes += bytes


@dataclass
class Change:
    """What a step of cleaning did: documents it changed, and how often it did so in them."""

    documents: int = 0
    changes: int = 0


@dataclass
class BadFile:
    """Damages of one kind in one file, and where and what the first of them was."""

    file: str
    reason: str
    count: int
    place: str
    detail: str


@dataclass
class Ledger:
    """The books of a portion, a source or a corpus."""

    read: Amount = field(default_factory=Amount)
    train: Amount = field(default_factory=Amount)
    validation: Amount = field(default_factory=Amount)
    dropped: dict[str, Amount] = field(default_factory=dict)
    removed: int = 0
    changes: dict[str, Change] = field(default_factory=dict)
    bad: dict[tuple[str, str], BadFile] = field(default_factory=dict)

    @property
    def kept(self) -> Amount:
        """What is in the shards."""
        train, validation = self.train, self.validation
        return Amount(train.documents + validation.documents, train.bytes + validation.bytes)

    @property
    def lost(self) -> Amount:
        """What is not, for whatever reason."""
        amounts = self.dropped.values()
        return Amount(sum(a.documents for a in amounts), sum(a.bytes for a in amounts))

    def check(self) -> None:
        """Assert that the books balance."""
        kept, lost = self.kept, self.lost
        assert self.read.documents == kept.documents + lost.documents, self
        assert self.read.bytes == kept.bytes + lost.bytes + self.removed, self

    def drop(self, reason: str, bytes: int, documents: int = 1) -> None:
        """Count documents that are left out."""
        if documents:
            self.dropped.setdefault(reason, Amount()).add(bytes, documents)

    def clean(self, changes: Mapping[str, int]) -> None:
        """Count what cleaning did to a document."""
        for name, count in changes.items():
            if count:
                change = self.changes.setdefault(name, Change())
                change.documents += 1
                change.changes += count

    def damage(self, damage: Damage, file: str) -> None:
        """Count a record that could not be read; `file` is how the file is called in the books."""
        self.read.add(damage.bytes)
        self.drop(damage.reason, damage.bytes)
        if not (damage.reason in QUIET and damage.place):
            detail = damage.detail[:DETAIL_CHARACTERS].encode(errors="backslashreplace").decode()
            self.list_bad(BadFile(file, damage.reason, 1, damage.place, detail))

    def list_bad(self, bad: BadFile) -> None:
        """List damages; if there are some of this kind already, only their number grows."""
        known = self.bad.setdefault((bad.file, bad.reason), replace(bad, count=0))
        known.count += bad.count

    def add(self, other: "Ledger") -> None:
        """Take over what another one has counted."""
        for name in ("read", "train", "validation"):
            amount = getattr(other, name)
            getattr(self, name).add(amount.bytes, amount.documents)
        for reason, amount in other.dropped.items():
            self.drop(reason, amount.bytes, amount.documents)
        self.removed += other.removed
        for name, change in other.changes.items():
            mine = self.changes.setdefault(name, Change())
            mine.documents += change.documents
            mine.changes += change.changes
        for bad in other.bad.values():
            self.list_bad(bad)

    def reasons(self) -> list[tuple[str, Amount]]:
        """Why documents were dropped, the most frequent reason first."""
        return sorted(self.dropped.items(), key=lambda item: (-item[1].documents, item[0]))

    def to_json(self, shown: int | None = None) -> dict[str, Any]:
        """As JSON values; lists at most `shown` damages."""
        return {
            "read": vars(self.read),
            "train": vars(self.train),
            "validation": vars(self.validation),
            "dropped": {reason: vars(amount) for reason, amount in self.reasons()},
            "removed_by_cleaning": self.removed,
            "changes": {name: vars(self.changes[name]) for name in sorted(self.changes)},
            "bad_files": len({bad.file for bad in self.bad.values()}),
            "bad": [vars(bad) for bad in list(self.bad.values())[:shown]],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Ledger":
        """The ledger that `to_json` wrote."""
        bad = [BadFile(**one) for one in value["bad"]]
        return cls(
            read=Amount(**value["read"]),
            train=Amount(**value["train"]),
            validation=Amount(**value["validation"]),
            dropped={reason: Amount(**one) for reason, one in value["dropped"].items()},
            removed=value["removed_by_cleaning"],
            changes={name: Change(**one) for name, one in value["changes"].items()},
            bad={(one.file, one.reason): one for one in bad},
        )


def total(ledgers: Iterable[Ledger]) -> Ledger:
    """The books of several sources as one."""
    whole = Ledger()
    for ledger in ledgers:
        whole.add(ledger)
    return whole

"""The store of what people say about answers: one journal, and from it the files that train.

    journal.jsonl          every judgement as it came, the truth; one writer (deploy/journal.py)
    rankings/00.jsonl ...  schema ranking:  reward, dpo
    ratings/00.jsonl ...   schema ratings:  reward, dpo; thumbs of one prompt together
    chats/00.jsonl ...     schema messages: sft

All that is said of one prompt is in one of 256 buckets. A bucket's three files are a function of
its judgements: written anew after each, and at opening whichever are not what the journal says. So
a crash between the journal and its files mends itself, readers see a file before or after a
judgement, and ratings that came months apart lie together. With 50,000 judgements of 2 kB one more
costs 40 ms, and opening 6 to 13 s (a busy core, 2026).

A withdrawal takes the texts out of the journal as well, not only out of what trains.
"""

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from deploy.journal import Journal, Span
from deploy.judgements import (
    JUDGEMENT,
    KINDS,
    SCHEMAS,
    Opinion,
    Withdrawal,
    bucket_of,
    rows,
)
from llm.errors import DataError
from llm.files import write_atomic

BUCKETS = 256

MOST_BYTES = 4 << 30
"""Of the journal; then somebody should look at it."""


class Place(NamedTuple):
    """Where a judgement is kept."""

    kind: str
    bucket: int
    span: Span
    replaces: str | None


class FeedbackFull(Exception):
    """There is no room for more."""


class FeedbackConflict(Exception):
    """Something else was said under the same id."""


class FeedbackStore:
    """Opened by one process at a time; any of its threads may use it."""

    def __init__(self, folder: Path | str, most_bytes: int = MOST_BYTES) -> None:
        self.folder = Path(folder)
        if "://" in str(folder):
            raise DataError(
                f"feedback.folder: {folder} is no folder of this machine; feedback is written "
                "where a file can be locked and forced to disk: name a local or mounted folder"
            )
        self.most_bytes = most_bytes
        self._mutex = threading.Lock()
        self._journal = Journal(self.folder / "journal.jsonl")
        for folder_name in SCHEMAS:
            for left in (self.folder / folder_name).glob(".*.tmp"):
                left.unlink()
        try:
            self._index()
            self._refresh()
        except BaseException:
            self._journal.close()
            raise

    def put(self, said: Opinion | Withdrawal) -> bool:
        """Keep a judgement, on disk when this returns; False if it was there already.

        The same id with another content is FeedbackConflict; OSError of the disk goes on to the
        caller, after which the judgement is not kept, or is there when it is sent again.
        """
        with self._mutex:
            new = said.id not in self._known
            if new:
                self._add(replace(said, time=round(time.time(), 3)))
            elif said.id in self._places and not self._same(said):
                raise FeedbackConflict(said.id)
            self._refresh()
            return new

    def summary(self) -> dict[str, int]:
        """How many judgements of each kind there are; those that were taken back do not count."""
        with self._mutex:
            return {kind: self._counts[kind] for kind in KINDS}

    def close(self) -> None:
        """Let another process open it."""
        with self._mutex:
            self._journal.close()

    # -- journal -----------------------------------------------------------------------------------

    def _add(self, said: Opinion | Withdrawal) -> None:
        if isinstance(said, Withdrawal):
            said = replace(said, forget=tuple(self._with_replaced(said.forget)))
        line = JUDGEMENT.dump_json(said)
        if self._journal.bytes + len(line) > self.most_bytes:
            raise FeedbackFull(f"{self.folder} holds {self._journal.bytes} bytes")
        if isinstance(said, Withdrawal):
            self._journal.replace([*self._lines_without(set(said.forget)), line + b"\n"])
            self._index()
        else:
            self._enter(said, self._journal.append(line))

    def _with_replaced(self, ids: Iterable[str]) -> Iterator[str]:
        """Judgements and all that they had replaced, which else would hold again."""
        for id in dict.fromkeys(ids):
            older: str | None = id
            while older:
                yield older
                place = self._places.get(older)
                older = place.replaces if place else None

    def _lines_without(self, forgotten: set[str]) -> Iterator[bytes]:
        spans = {self._places[id].span for id in forgotten & self._places.keys()}
        return (line for span, line in self._journal.lines() if span not in spans)

    def _index(self) -> None:
        """Find out where everything lies."""
        self._places: dict[str, Place] = {}
        self._replaced: set[str] = set()
        self._buckets: list[list[Span]] = [[] for _ in range(BUCKETS)]
        self._known: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._stale = set(range(BUCKETS))
        for number, (span, line) in enumerate(self._journal.lines(), start=1):
            try:
                self._enter(JUDGEMENT.validate_json(line), span)
            except ValidationError as error:
                raise DataError(
                    f"{self._journal.path}, line {number}: is no judgement "
                    f"({error.errors()[0]['msg']}); repair the line or take it out"
                ) from None

    def _enter(self, said: Opinion | Withdrawal, span: Span) -> None:
        self._known.add(said.id)
        self._counts[said.kind] += 1
        if isinstance(said, Withdrawal):
            self._known.update(said.forget)  # one that comes later still is forgotten
            return
        bucket = bucket_of(said, BUCKETS)
        old = self._places.get(said.replaces or "")
        earlier = said.replaces if old and old.bucket == bucket else None
        if old and earlier and earlier not in self._replaced:
            self._replaced.add(earlier)
            self._counts[old.kind] -= 1
        self._places[said.id] = Place(said.kind, bucket, span, earlier)
        self._buckets[bucket].append(span)
        self._stale.add(bucket)

    def _same(self, said: Opinion | Withdrawal) -> bool:
        kept = JUDGEMENT.validate_json(self._journal.read(self._places[said.id].span))
        return replace(said, time=kept.time) == kept

    # -- what training reads -----------------------------------------------------------------------

    def _refresh(self) -> None:
        """Write the files of all buckets in which something changed."""
        for bucket in sorted(self._stale):
            self._write(bucket)
            self._stale.discard(bucket)

    def _write(self, bucket: int) -> None:
        read = (JUDGEMENT.validate_json(self._journal.read(span)) for span in self._buckets[bucket])
        made = rows(one for one in read if not isinstance(one, Withdrawal))
        for name, found in made.items():
            lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in found)
            update(self.folder / name / f"{bucket:02x}.jsonl", "".join(lines).encode())


def update(path: Path, content: bytes) -> None:
    """A file with that content, or none if it is empty; untouched where it is so already."""
    try:
        old = path.read_bytes()
    except FileNotFoundError:
        old = b""
    if old == content:
        return
    if content:
        write_atomic(path, content)
    else:
        os.unlink(path)

"""What passes between the readers of all formats: documents, and the task of reading one unit."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from llm.config import TextConfig
from llm.corpus_config import SourceConfig
from llm.damage import Bad, Damage, Reason
from llm.shards import Unit


class Document(NamedTuple):
    """A text and where it is from."""

    place: str
    """Offset of its first byte in the (unpacked) file; in parquet and csv the number of its row,
    from 0; or the value under the key `id` if the source has one."""
    text: str
    url: str = ""


@dataclass(frozen=True)
class Reading:
    """A unit to be read: how, and to whom damage is told."""

    unit: Unit
    config: TextConfig
    bad: Bad
    largest: int | None
    """Bytes of a document at most."""
    encoding: str
    """Encoding of the file; of a parquet or web file it means nothing."""

    @property
    def id(self) -> str | None:
        """The key or column that names a document."""
        return self.config.id if isinstance(self.config, SourceConfig) else None

    @property
    def longest_line(self) -> int | None:
        """Bytes of a line that can hold a document, whose characters may be escaped in JSON."""
        return None if self.largest is None else 6 * self.largest + (64 << 10)

    def report(self, reason: Reason, place: str, detail: str, bytes: int = 0) -> None:
        """Tell of something that is left out."""
        self.bad(Damage(reason, self.unit.path, place, detail, bytes))

    def too_long(self, start: int, size: int) -> None:
        """Tell of a line that is not held in memory."""
        what = f"is a line of {size} bytes; a document has {self.largest} at most"
        self.report("too large", str(start), what, size)

    def name_of(self, value: Any, place: str, size: int) -> str | None:
        """The name under a document's key `id`; None if it is none, which is reported."""
        if isinstance(value, str) and value:
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        what = f"has no name under {self.id!r}; expected a string or a whole number"
        self.report("no id", place, f"{what}; id: names the key or column", size)
        return None

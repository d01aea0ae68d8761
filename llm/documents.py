"""The documents of one unit, in the order of the file, whatever its format.

Memory is bounded by a row or a line, or by `largest` if that is given: what is longer is passed
over in portions. What cannot be read goes to `bad` (llm/damage.py): each record is given or
reported, once. Damage inside a file leaves what was read before it; bytes are never unpacked to
disk.
"""

from collections.abc import Callable, Iterator
from hashlib import blake2b

from llm.config import TextConfig
from llm.damage import Bad, Damage, DamageError, fail
from llm.encodings import encoding_of, has_plain_lines
from llm.errors import DataError
from llm.lines import line_number
from llm.read_csv import read_csv
from llm.read_json import read_jsonl
from llm.read_parquet import read_parquet
from llm.read_text import read_txt
from llm.read_web import read_web
from llm.reading import Document, Reading
from llm.shards import Format, Unit

READERS: dict[Format, Callable[[Reading], Iterator[Document]]] = {
    "parquet": read_parquet,
    "jsonl": read_jsonl,
    "txt": read_txt,
    "csv": read_csv,
    "warc": read_web,
    "wet": read_web,
}

ENCODED = ("jsonl", "txt", "csv")


def read_unit(unit: Unit, config: TextConfig) -> Iterator[str]:
    """Texts in file order; those that are null or have nothing but white space are skipped."""
    for document in read_documents(unit, config):
        yield document.text


def read_documents(
    unit: Unit, config: TextConfig, bad: Bad = fail, largest: int | None = None
) -> Iterator[Document]:
    """Documents in file order, `largest` bytes at most; what is none is told to `bad`."""
    encoding = "utf-8"
    try:
        if unit.format in ENCODED:
            found = encoding_of(unit.path, config.encoding)
            if found is None:
                return unknown_encoding(unit, bad)
            encoding = found
            if unit.start and not has_plain_lines(encoding):
                return  # the file cannot be cut: its first unit reads it all
        yield from kept(Reading(unit, config, bad, largest, encoding))
    except DamageError as error:
        raise DataError(located(unit, error.damage, encoding)) from error


def kept(reading: Reading) -> Iterator[Document]:
    """Documents that are not blank and not too large."""
    unit, largest = reading.unit, reading.largest
    try:
        for document in READERS[unit.format](reading):
            text = document.text
            if not text or text.isspace():
                reading.report("empty", document.place, "has no text but white space", len(text))
            elif largest is not None and is_larger(text, largest):
                size = len(text.encode())
                what = f"has a text of {size} bytes; a document has {largest} at most"
                reading.report("too large", document.place, what, size)
            else:
                yield document
    except UnicodeDecodeError as error:  # a file that is recoded as a whole
        what = f"has bytes that are not {error.encoding.upper()} ({error.reason})"
        reading.report("invalid encoding", "", f"{what}; say what it is with encoding:")
    except (OSError, EOFError, ValueError) as error:
        what = f"cannot be read: {error}; the file may be damaged or incomplete"
        reading.report("damaged file", "", what)


def is_larger(text: str, largest: int) -> bool:
    """Whether a text has more bytes than that; a character has one to four."""
    return len(text) > largest or (4 * len(text) > largest and len(text.encode()) > largest)


def unknown_encoding(unit: Unit, bad: Bad) -> None:
    """Report a file whose encoding is none that can be recognised, by its first unit."""
    if unit.start == 0:
        what = "has an encoding that cannot be recognised; say what it is with encoding:"
        bad(Damage("invalid encoding", unit.path, "", what, unit.bytes))


def located(unit: Unit, damage: Damage, encoding: str) -> str:
    """A damage in words that lead a person to it."""
    if not damage.place:
        return f"{damage.path}: {damage.detail}"
    if unit.format in ("txt", "jsonl"):
        line = line_number(unit.path, int(damage.place), encoding)
        return f"{damage.path}, line {line}: {damage.detail}"
    what = "row" if unit.format in ("parquet", "csv", "json") else "record at byte"
    return f"{damage.path}, {what} {damage.place}: {damage.detail}"


def is_held_out(text: str, fraction: float) -> bool:
    """Whether a document is kept for validation: a fixed property of its text."""
    return position(text, b"held out", b"") < fraction


def is_sampled(text: str, share: float, seed: int) -> bool:
    """Whether a document is in a sample; independent of whether it is held out."""
    return position(text, b"sampled", seed.to_bytes(16, "little", signed=True)) < share


def position(text: str, purpose: bytes, salt: bytes) -> float:
    """Where in [0, 1) a text falls, uniformly; other purposes and salts are independent draws."""
    bits = blake2b(text.encode(), digest_size=8, person=purpose, salt=salt).digest()
    return (int.from_bytes(bits, "big") >> 11) / (1 << 53)

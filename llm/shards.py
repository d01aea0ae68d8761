"""Which files a corpus consists of, and how they are cut into units.

    patterns -> list_shards -> [Shard] -> list_units -> [Unit] -> llm.documents.read_documents

A unit is the smallest portion that is read at once, about 256 KiB: a run of a parquet file's rows,
a range of bytes of a text file, or a whole file of a kind that can only be read from its start:
compressed, csv, WARC and WET, UTF-16, or one whose web server does not give parts of files.
Units of one file share nothing and leave nothing out, so that any worker can read any of them, and
adjoining units may be joined (start of the first, stop of the last).
`digest` names the content: the same text in another folder is the same corpus.

Neither pyarrow nor fsspec is imported before a parquet file or a URI is met: `plan` calls this.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Literal, TypeVar, cast

from llm.compression import ALGORITHMS, algorithm_of, declared_bytes, name_of
from llm.damage import Bad, Damage, DamageError, fail
from llm.encodings import encoding_of, has_plain_lines
from llm.errors import DataError
from llm.filesystem import Found, find, is_uri, open_file
from llm.row_groups import row_ranges

T = TypeVar("T")

Format = Literal["parquet", "jsonl", "txt", "csv", "warc", "wet", "json"]
"""json: an array of objects, which only llm/rows.py reads."""

PLAIN: dict[str, Format] = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".txt": "txt",
    ".csv": "csv",
    ".warc": "warc",
    ".arc": "warc",
    ".wet": "wet",
}

FORMATS = tuple(dict.fromkeys(PLAIN.values()))

SUFFIXES: dict[str, Format] = PLAIN | {
    suffix + packed: format
    for suffix, format in PLAIN.items()
    for packed in ALGORITHMS
    if format != "parquet"
}

SHOWN = ".parquet .jsonl .txt .csv .warc .wet, also .gz and .zst"

READ_WHOLE = 64 << 20
"""Local files up to this size are digested whole; larger ones by samples and modification time."""

SAMPLES, SAMPLE_BYTES = 16, 64 << 10
CONNECTIONS = 16

STREAM_BYTES = 256 << 20
"""Text up to which a unit that cannot be cut is read at once."""


@dataclass(frozen=True)
class Shard:
    """One file of a corpus; `version` changes when the file is written anew."""

    path: str
    format: Format
    bytes: int
    version: str = ""
    parts: bool = True
    """Whether its server gives parts of it."""


@dataclass(frozen=True)
class Unit:
    """A portion of a shard that is read at once.

    parquet: rows [start, stop). jsonl and txt: the lines whose first byte lies in [start, stop).
    A file that is read from its start is one unit over all of it. `bytes` is the text's size, not
    the file's, as far as the file says: in its footer, its gzip trailer or its zstd header.
    """

    path: str
    format: Format
    start: int
    stop: int
    bytes: int


def too_large_to_stream(unit: Unit) -> bool:
    """Whether a unit is too much text for training, which holds a unit at once: above 256 MiB.

    Only a file that cannot be cut is that large; the remedy is to write it as several files, as
    parquet or as plain jsonl, or to let a corpus stage do that.
    """
    return unit.bytes > STREAM_BYTES


def list_shards(
    patterns: tuple[str, ...], format: Format | Literal["auto"], bad: Bad = fail
) -> list[Shard]:
    """The files that files, folders, globs and URIs stand for, each once, sorted by path.

    A folder gives all files below it whose suffix is that of a format (of `format` unless auto);
    a glob or a path gives just its files, so their suffix must be known unless `format` is given.
    Empty files hold no text and are left out, as are those that cannot be opened.
    """
    shards = {shard.path: shard for pattern in patterns for shard in expand(pattern, format, bad)}
    return [shards[path] for path in sorted(shards)]


def expand(pattern: str, format: str, bad: Bad) -> Iterator[Shard]:
    """The shards of one pattern; at least one, or an error."""
    match = find(pattern)
    files = match.files
    if match.kind == "folder":
        files = [file for file in files if fits(format_of(file.path), format)]
    for file in files:
        if file.problem or not file.bytes:
            reason, what = ("damaged file", file.problem) if file.problem else ("empty", "is empty")
            bad(Damage(reason, file.path, "", what, 0))  # type: ignore[arg-type]
    files = [file for file in files if file.bytes and not file.problem]
    if not files:
        raise nothing_found(pattern, format, match.files)
    for file in files:
        known = format_of(file.path) if format == "auto" else cast(Format, format)
        if known is None:
            raise unknown_suffix(pattern, file)
        yield Shard(file.path, known, file.bytes, file.version, file.parts)


def format_of(path: str) -> Format | None:
    """The format that a file's name tells, if any."""
    return next((f for suffix, f in SUFFIXES.items() if name_of(path).endswith(suffix)), None)


def fits(found: Format | None, wanted: str) -> bool:
    """Whether a file in a folder is text of the wanted format."""
    return found is not None and wanted in ("auto", found)


def nothing_found(pattern: str, format: str, files: list[Found]) -> DataError:
    """Why a pattern gives no shard: nothing there, only empty files, or other suffixes."""
    message = f"shards: {pattern}: no file with text in it ({suffixes_of(format)})"
    if not files:
        return DataError(f"{message}; nothing is there that is not hidden; check the path")
    if not any(file.bytes for file in files):
        return DataError(f"{message}; the {len(files)} files there are empty")
    others = sorted({os.path.splitext(name_of(f.path))[1] or "(none)" for f in files if f.bytes})
    return DataError(
        f"{message}; the files there end in {', '.join(others[:8])}; name them with a glob "
        f"such as folder/*.text and say what they are with format: {', '.join(FORMATS)}"
    )


def suffixes_of(format: str) -> str:
    """The suffixes of a format, in words."""
    if format == "auto":
        return SHOWN
    own = " ".join(suffix for suffix, known in PLAIN.items() if known == format)
    return own if format == "parquet" else f"{own}, also .gz and .zst"


def unknown_suffix(pattern: str, file: Found) -> DataError:
    """The error for a file whose name does not tell its format."""
    return DataError(
        f"shards: {pattern}: the name of {file.path} does not tell its format; known are {SHOWN}; "
        f"set format: {', '.join(FORMATS)}, or narrow the pattern"
    )


# -- units -----------------------------------------------------------------------------------------


def list_units(
    shards: list[Shard], unit_bytes: int = 1 << 18, encoding: str = "utf-8", bad: Bad = fail
) -> list[Unit]:
    """All units of all shards, in order. Reads only footers, headers and trailers of files.

    `encoding` is that of the config: a file whose lines cannot be found in its bytes is one unit.
    """
    groups = in_parallel(partial(units_or_damage, unit_bytes=unit_bytes, encoding=encoding), shards)
    for group in groups:
        if isinstance(group, Damage):
            bad(group)
    return [unit for group in groups if not isinstance(group, Damage) for unit in group]


def in_parallel(function: Callable[[Shard], T], shards: list[Shard]) -> list[T]:
    """What the function gives for each shard; files far away are waited for together."""
    from concurrent.futures import ThreadPoolExecutor  # half of this module's import time

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return list(pool.map(function, shards))


def units_or_damage(shard: Shard, unit_bytes: int, encoding: str) -> list[Unit] | Damage:
    """The units of one shard in file order, or why there are none."""
    try:
        return units_of(shard, unit_bytes, encoding)
    except DamageError as error:
        return error.damage
    except OSError as error:
        return unreadable(shard, error)


def unreadable(shard: Shard, error: OSError) -> Damage:
    """A file that the operating system does not give."""
    return Damage("damaged file", shard.path, "", f"cannot be read: {error}", shard.bytes)


def units_of(shard: Shard, unit_bytes: int, encoding: str) -> list[Unit]:
    """The units of one shard, in file order."""
    if shard.format == "parquet":
        return [Unit(shard.path, "parquet", *rows) for rows in row_ranges(shard.path, unit_bytes)]
    if algorithm_of(shard.path):
        size = declared_bytes(shard.path, shard.bytes) if shard.parts else shard.bytes
        return [Unit(shard.path, shard.format, 0, shard.bytes, size)]
    if not can_be_cut(shard, encoding):
        return [Unit(shard.path, shard.format, 0, shard.bytes, shard.bytes)]
    open_file(shard.path).close()  # a file that cannot be opened is one damage, not one a unit
    starts = range(0, shard.bytes, unit_bytes)
    ends = (min(start + unit_bytes, shard.bytes) for start in starts)
    return [
        Unit(shard.path, shard.format, start, stop, stop - start)
        for start, stop in zip(starts, ends, strict=True)
    ]


def can_be_cut(shard: Shard, encoding: str) -> bool:
    """Whether a file can be read from any of its lines; a field of csv may hold line ends."""
    if shard.format not in ("jsonl", "txt") or not shard.parts:
        return False
    actual = encoding_of(shard.path, encoding)
    return actual is None or has_plain_lines(actual)


# -- digest ----------------------------------------------------------------------------------------


def digest(shards: list[Shard], bad: Bad = fail) -> str:
    """A hex name of the corpus' content that does not depend on the folder it lies in."""
    return digest_of(shards, contents(shards, bad))


def contents(shards: list[Shard], bad: Bad = fail) -> list[str]:
    """What stands for the content of each file: whole up to 64 MiB, beyond that samples and the
    modification time.

    A remote file is not downloaded: its server's version mark stands for its content, or samples if
    it has none. A file that cannot be read has no content, but is told to `bad`.
    """
    return in_parallel(partial(content_digest, bad=bad), shards)


def digest_of(shards: list[Shard], contents: list[str]) -> str:
    """The name of a corpus, made of each file's name relative to the folder common to all, its
    size, and its content."""
    common = common_parts([shard.path.split("/")[:-1] for shard in shards])
    whole = hashlib.sha256()
    for shard, content in zip(shards, contents, strict=True):
        name = "/".join(shard.path.split("/")[common:])
        whole.update(f"{name}\0{shard.bytes}\0{content}\n".encode(errors="surrogateescape"))
    return whole.hexdigest()


def common_parts(paths: list[list[str]]) -> int:
    """How many leading parts all paths share."""
    same = (len(set(parts)) == 1 for parts in zip(*paths, strict=False))
    return sum(takewhile(bool, same))


def content_digest(shard: Shard, bad: Bad) -> str:
    """What stands for one file's content."""
    try:
        if is_uri(shard.path):
            return shard.version or hashed(sample(shard))
        if shard.bytes > READ_WHOLE:
            return f"{shard.version} {hashed(sample(shard))}"
        return hashed(everything(shard))
    except OSError as error:
        bad(unreadable(shard, error))
        return "unreadable"


def hashed(blocks: Iterator[bytes]) -> str:
    """Digest of some of a file's blocks."""
    result = hashlib.sha256()
    for block in blocks:
        result.update(block)
    return result.hexdigest()


def everything(shard: Shard) -> Iterator[bytes]:
    """All of a file, in portions."""
    with open_file(shard.path) as file:
        while block := file.read(1 << 20):
            yield block


def sample(shard: Shard) -> Iterator[bytes]:
    """Blocks evenly spaced over a file, its first and last among them."""
    last = max(0, shard.bytes - SAMPLE_BYTES)
    with open_file(shard.path) as file:
        for start in sorted({last * i // (SAMPLES - 1) for i in range(SAMPLES)}):
            file.seek(start)
            yield file.read(SAMPLE_BYTES)

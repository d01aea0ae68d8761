"""Which files a corpus consists of, and how they are cut into units.

    patterns -> list_shards -> [Shard] -> list_units -> [Unit] -> llm.documents.read_unit

A unit is the smallest portion that is read at once, about 1 MiB: a run of parquet row groups, a
range of bytes of a text file, or a whole gzip'd file, which can only be streamed from its start.
Units of one file share nothing and leave nothing out, so that any worker can read any of them.
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

from llm.errors import DataError
from llm.filesystem import Found, find, is_uri, open_file

T = TypeVar("T")

Format = Literal["parquet", "jsonl", "txt"]

SUFFIXES: dict[str, Format] = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".jsonl.gz": "jsonl",
    ".txt": "txt",
    ".txt.gz": "txt",
}

READ_WHOLE = 64 << 20
"""Local files up to this size are digested whole; larger ones by samples and modification time."""

SAMPLES, SAMPLE_BYTES = 16, 64 << 10
CONNECTIONS = 16


@dataclass(frozen=True)
class Shard:
    """One file of a corpus; `version` changes when the file is written anew."""

    path: str
    format: Format
    bytes: int
    version: str = ""


@dataclass(frozen=True)
class Unit:
    """A portion of a shard that is read at once.

    parquet: row groups [start, stop). jsonl and txt: the lines whose first byte lies in
    [start, stop); a gzip'd file is one unit over all of it. `bytes` is the text's size, not the
    file's, as far as the file says: what its row groups or its gzip trailer declare.
    """

    path: str
    format: Format
    start: int
    stop: int
    bytes: int


def list_shards(
    patterns: tuple[str, ...], format: Literal["auto", "parquet", "jsonl", "txt"]
) -> list[Shard]:
    """The files that files, folders, globs and URIs stand for, each once, sorted by path.

    A folder gives all files below it whose suffix is that of a format (of `format` unless auto);
    a glob or a path gives just its files, so their suffix must be known unless `format` is given.
    Empty files hold no text and are left out.
    """
    shards = {shard.path: shard for pattern in patterns for shard in expand(pattern, format)}
    return [shards[path] for path in sorted(shards)]


def expand(pattern: str, format: str) -> Iterator[Shard]:
    """The shards of one pattern; at least one, or an error."""
    match = find(pattern)
    files = [file for file in match.files if file.bytes]
    if match.kind == "folder":
        files = [file for file in files if fits(format_of(file.path), format)]
    if not files:
        raise nothing_found(pattern, format, match.files)
    for file in files:
        known = format_of(file.path) if format == "auto" else cast(Format, format)
        if known is None:
            raise unknown_suffix(pattern, file)
        yield Shard(file.path, known, file.bytes, file.version)


def format_of(path: str) -> Format | None:
    """The format that a file's name tells, if any."""
    return next((f for suffix, f in SUFFIXES.items() if name_of(path).endswith(suffix)), None)


def is_gzip(path: str) -> bool:
    """Whether a file is to be decompressed, by its name."""
    return name_of(path).endswith(".gz")


def name_of(path: str) -> str:
    """Last part of a path in lower case, without a URI's options."""
    path = path.partition("?")[0] if is_uri(path) else path
    return path.rpartition("/")[2].lower()


def fits(found: Format | None, wanted: str) -> bool:
    """Whether a file in a folder is text of the wanted format."""
    return found is not None and wanted in ("auto", found)


def nothing_found(pattern: str, format: str, files: list[Found]) -> DataError:
    """Why a pattern gives no shard: nothing there, only empty files, or other suffixes."""
    allowed = ", ".join(s for s, f in SUFFIXES.items() if fits(f, format))
    message = f"shards: {pattern}: no file with text in it ({allowed})"
    if not files:
        return DataError(f"{message}; nothing is there that is not hidden; check the path")
    if not any(file.bytes for file in files):
        return DataError(f"{message}; the {len(files)} files there are empty")
    others = sorted({os.path.splitext(name_of(f.path))[1] or "(none)" for f in files if f.bytes})
    return DataError(
        f"{message}; the files there end in {', '.join(others[:8])}; name them with a glob "
        "such as folder/*.text and say what they are with format: jsonl, txt or parquet"
    )


def unknown_suffix(pattern: str, file: Found) -> DataError:
    """The error for a file whose name does not tell its format."""
    return DataError(
        f"shards: {pattern}: the name of {file.path} does not tell its format; known are "
        f"{', '.join(SUFFIXES)}; set format: parquet, jsonl or txt, or narrow the pattern"
    )


# -- units -----------------------------------------------------------------------------------------


def list_units(shards: list[Shard], unit_bytes: int = 1 << 20) -> list[Unit]:
    """All units of all shards, in order. Opens only parquet footers and gzip trailers."""
    groups = in_parallel(partial(units_of, unit_bytes=unit_bytes), shards)
    return [unit for group in groups for unit in group]


def in_parallel(function: Callable[[Shard], T], shards: list[Shard]) -> list[T]:
    """What the function gives for each shard; files far away are waited for together."""
    from concurrent.futures import ThreadPoolExecutor  # half of this module's import time

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return list(pool.map(function, shards))


def units_of(shard: Shard, unit_bytes: int) -> list[Unit]:
    """The units of one shard, in file order."""
    if shard.format == "parquet":
        return parquet_units(shard, unit_bytes)
    if is_gzip(shard.path):
        return [Unit(shard.path, shard.format, 0, shard.bytes, gzip_bytes(shard))]
    starts = range(0, shard.bytes, unit_bytes)
    ends = (min(start + unit_bytes, shard.bytes) for start in starts)
    return [
        Unit(shard.path, shard.format, start, stop, stop - start)
        for start, stop in zip(starts, ends, strict=True)
    ]


def parquet_units(shard: Shard, unit_bytes: int) -> list[Unit]:
    """Runs of row groups of at most `unit_bytes` each, or of one row group that is larger."""
    units: list[Unit] = []
    start = size = 0
    sizes = row_group_bytes(shard.path)
    for group, more in enumerate(sizes):
        if size and size + more > unit_bytes:
            units.append(Unit(shard.path, "parquet", start, group, size))
            start, size = group, 0
        size += more
    return [*units, Unit(shard.path, "parquet", start, len(sizes), size)] if sizes else units


def row_group_bytes(path: str) -> list[int]:
    """Uncompressed size of each row group, from the footer."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open_file(path) as file, pq.ParquetFile(file) as parquet:
            groups = [parquet.metadata.row_group(i) for i in range(parquet.num_row_groups)]
            return [group.total_byte_size for group in groups]
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as parquet: {error}; write it anew") from error


def gzip_bytes(shard: Shard) -> int:
    """Size of a gzip'd text by its last member's trailer (RFC 1952), or of the file if larger."""
    try:
        with open_file(shard.path) as file:
            file.seek(max(0, shard.bytes - 4))
            return max(shard.bytes, int.from_bytes(file.read(4), "little"))
    except OSError as error:
        raise DataError(f"{shard.path}: cannot be read: {error}") from error


# -- digest ----------------------------------------------------------------------------------------


def digest(shards: list[Shard]) -> str:
    """A hex name of the corpus' content that does not depend on the folder it lies in.

    Made of each file's name relative to the folder common to all, its size, and its content: whole
    up to 64 MiB, beyond that samples and the modification time. A remote file is not downloaded:
    its server's version mark stands for its content, or samples if it has none.
    """
    common = common_parts([shard.path.split("/")[:-1] for shard in shards])
    whole = hashlib.sha256()
    for shard, content in zip(shards, in_parallel(content_digest, shards), strict=True):
        name = "/".join(shard.path.split("/")[common:])
        whole.update(f"{name}\0{shard.bytes}\0{content}\n".encode(errors="surrogateescape"))
    return whole.hexdigest()


def common_parts(paths: list[list[str]]) -> int:
    """How many leading parts all paths share."""
    same = (len(set(parts)) == 1 for parts in zip(*paths, strict=False))
    return sum(takewhile(bool, same))


def content_digest(shard: Shard) -> str:
    """What stands for one file's content."""
    if is_uri(shard.path):
        return shard.version or hashed(shard, sample)
    if shard.bytes > READ_WHOLE:
        return f"{shard.version} {hashed(shard, sample)}"
    return hashed(shard, everything)


def hashed(shard: Shard, blocks: Callable[[Shard], Iterator[bytes]]) -> str:
    """Digest of some of a file's blocks."""
    result = hashlib.sha256()
    try:
        for block in blocks(shard):
            result.update(block)
    except OSError as error:
        raise DataError(f"{shard.path}: cannot be read: {error}") from error
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

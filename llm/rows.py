"""Rows of conversations and rankings: JSON objects of jsonl and json files, rows of parquet files.

    config -> row_shards -> row_units -> [Unit] -> read_rows -> [Row]

A unit is what one task reads: a portion of jsonl or parquet as in llm/shards.py, or a whole file
that holds a JSON array, which has to be in memory at once and so may have 256 MiB. Where the rows
of one prompt stand together (schema `ratings`) a unit is a file.

Whatever is wrong is a DataError that names file and line or row. Damage is never passed over here,
as it is in a corpus: conversations are few and dear.
"""

import json
from collections.abc import Iterator
from typing import Any, Literal, get_args

from pydantic_core import from_json

from llm.align_config import FIELDS
from llm.compression import ALGORITHMS, algorithm_of, name_of, open_unpacked
from llm.config import TextConfig
from llm.damage import Damage, DamageError
from llm.documents import located
from llm.encodings import mark_of
from llm.errors import DataError
from llm.filesystem import Found, find, open_file
from llm.lines import open_lines, whole_lines
from llm.read_json import named, refused, row_of
from llm.read_parquet import between, rows_at_once
from llm.reading import Reading
from llm.row import DataConfig, Row, check_mapping
from llm.shards import Shard, Unit, list_units

RowFormat = Literal["jsonl", "json", "parquet"]

SUFFIXES: dict[str, RowFormat] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
}

SHOWN = ".jsonl .json .parquet, the first two also .gz and .zst"

NOT_UTF8 = "has bytes that are not UTF-8; convert the file: iconv -f ITS_ENCODING -t UTF-8"

MOST_BYTES = 256 << 20
"""Bytes of a JSON array, or of a line."""


# -- files and units -------------------------------------------------------------------------------


def row_shards(config: DataConfig) -> list[Shard]:
    """The files of a config, each once, sorted by path."""
    shards = {shard.path: shard for pattern in config.shards for shard in expand(pattern, config)}
    return [shards[path] for path in sorted(shards)]


def row_units(config: DataConfig) -> list[Unit]:
    """The portions of the files of a config, in order."""
    check_mapping(config)
    units: list[Unit] = []
    for shard in row_shards(config):
        found = units_of(shard)
        units += [joined(found)] if config.schema == "ratings" and found else found
    return units


def units_of(shard: Shard) -> list[Unit]:
    """The portions of one file."""
    if shard.format == "json":
        return [Unit(shard.path, "json", 0, shard.bytes, shard.bytes)]
    return list_units([shard])


def joined(units: list[Unit]) -> Unit:
    """All units of a file as one."""
    first, size = units[0], sum(unit.bytes for unit in units)
    return Unit(first.path, first.format, first.start, units[-1].stop, size)


def expand(pattern: str, config: DataConfig) -> Iterator[Shard]:
    """The shards of one pattern; at least one, or an error."""
    match = find(pattern)
    files = [file for file in match.files if file.bytes or file.problem]
    if match.kind == "folder":
        wanted = get_args(RowFormat) if config.format == "auto" else (config.format,)
        files = [file for file in files if suffix_format(file.path) in wanted]
    if not files:
        raise DataError(
            f"shards: {pattern}: no file with rows in it ({SHOWN}); give the path of such a file, "
            "or a glob"
        )
    for file in files:
        yield Shard(file.path, format_of(file, config), file.bytes, file.version, file.parts)


def format_of(file: Found, config: DataConfig) -> RowFormat:
    """How a file is written."""
    if file.problem:
        raise DataError(f"{file.path}: {file.problem}")
    found = suffix_format(file.path) if config.format == "auto" else config.format
    if found is None:
        raise DataError(
            f"{file.path}: its name does not tell its format; known are {SHOWN}; set format: "
            f"{', '.join(get_args(RowFormat))}, or narrow the pattern"
        )
    return (
        "jsonl" if config.format == "auto" and found == "json" and not array(file.path) else found
    )


def suffix_format(path: str) -> RowFormat | None:
    """The format that a file's name tells, if any."""
    name = name_of(path)
    plain = name if name.endswith(".parquet") else name.removesuffix(packing(name))
    return next((f for suffix, f in SUFFIXES.items() if plain.endswith(suffix)), None)


def packing(name: str) -> str:
    """The suffix of a compressed file's name."""
    return next((suffix for suffix in ALGORITHMS if name.endswith(suffix)), "")


def array(path: str) -> bool:
    """Whether a file's first character begins an array."""
    try:
        with open_unpacked(path) as file:
            head = file.read(4096)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}; the file may be damaged") from error
    return head.removeprefix(mark_of("utf-8")).lstrip().startswith(b"[")


# -- rows ------------------------------------------------------------------------------------------


def read_rows(unit: Unit, config: DataConfig) -> Iterator[Row]:
    """The rows of a unit in the order of the file."""
    try:
        if unit.format == "parquet":
            yield from parquet_rows(unit, config)
        else:
            for place, value in (jsonl_rows if unit.format == "jsonl" else array_rows)(unit):
                yield Row(unit, place, value, config, value)
    except DamageError as error:
        raise DataError(located(unit, error.damage, "utf-8")) from error
    except (OSError, EOFError, ValueError) as error:
        what = f"cannot be read: {error}; the file may be damaged or incomplete"
        raise DataError(f"{unit.path}: {what}") from error


Objects = Iterator[tuple[str, dict[str, Any]]]
"""Places and values of JSON."""


def jsonl_rows(unit: Unit) -> Objects:
    """One object a line; empty lines are none."""
    reading = Reading(unit, TextConfig(shards=(unit.path,)), refuse, None, "utf-8")

    def too_long(start: int, size: int) -> None:
        what = f"is a line of {size} bytes; at most {MOST_BYTES} are allowed; cut it up"
        raise DamageError(Damage("too large", unit.path, str(start), what, size))

    with open_lines(unit.path, unit.start, unit.stop, "utf-8") as lines:
        for line in whole_lines(lines, MOST_BYTES, too_long):
            if line.data.strip():
                row = row_of(reading, lines.codec, line)
                assert row is not None  # `refuse` raises
                yield str(line.start), row


def refuse(damage: Damage) -> None:
    """Raise; rows, unlike text, come in UTF-8 only, so the remedy is another."""
    if damage.reason == "invalid encoding":
        damage = damage._replace(detail=NOT_UTF8)
    raise DamageError(damage)


def array_rows(unit: Unit) -> Objects:
    """The elements of a JSON array, numbered from 0."""
    with open_unpacked(unit.path) as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise damaged(
            unit,
            f"is JSON of more than {MOST_BYTES >> 20} MiB{unpacked(unit)}, which has to be read "
            "at once; convert it to jsonl: jq -c '.[]'",
        )
    rows = parsed(unit, data.removeprefix(mark_of("utf-8")))
    if not isinstance(rows, list):
        what = f"holds {named(rows)}; expected an array of objects"
        raise damaged(unit, f"{what}, or one object a line with format: jsonl")
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            raise damaged(unit, f"holds {named(row)}; expected an object", str(index))
        yield str(index), row


def unpacked(unit: Unit) -> str:
    """A word on compression."""
    return " unpacked" if algorithm_of(unit.path) else ""


def parsed(unit: Unit, data: bytes) -> Any:
    """A file's JSON; what pydantic's parser refuses is left to `json`, as in llm/read_json.py."""
    try:
        return from_json(data, allow_inf_nan=False)
    except ValueError:
        pass
    try:
        return json.loads(data.decode(), parse_constant=refused)
    except UnicodeDecodeError as error:
        raise damaged(unit, NOT_UTF8) from error
    except (ValueError, RecursionError) as error:
        raise damaged(unit, f"is not JSON: {error}; expected an array of objects") from error


def damaged(unit: Unit, what: str, place: str = "") -> DamageError:
    """The error for a file or row that is not what it should be."""
    return DamageError(Damage("invalid json", unit.path, place, what, 0))


def parquet_rows(unit: Unit, config: DataConfig) -> Iterator[Row]:
    """Rows, numbered from 0, with the columns that are asked for; a few are in memory at once."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = unit.start
    try:
        with open_file(unit.path) as file, pq.ParquetFile(file) as parquet:
            names = parquet.schema_arrow.names
            asked = wanted(config) or names
            for batch in batches(unit, parquet, [name for name in names if name in asked]):
                for value in batch.to_pylist():
                    yield Row(unit, str(row), value, config, names)
                    row += 1
    except (pa.ArrowException, OverflowError) as error:
        raise damaged(unit, f"cannot be read: {error}; the file is damaged", str(row)) from error


def wanted(config: DataConfig) -> set[str]:
    """Columns in which the fields of a schema may lie; none: in any."""
    paths = [config.columns.get(field, field) for field in FIELDS[config.schema]]
    return {*paths, *(path.partition(".")[0] for path in paths)}


def batches(unit: Unit, parquet: Any, columns: list[str]) -> Iterator[Any]:
    """The unit's rows, some at a time."""
    first = 0
    for group in range(parquet.num_row_groups):
        footer = parquet.metadata.row_group(group)
        start, stop = max(0, unit.start - first), min(footer.num_rows, unit.stop - first)
        first += footer.num_rows
        if start < stop:
            yield from between(
                parquet.iter_batches(rows_at_once(footer), [group], columns), start, stop
            )

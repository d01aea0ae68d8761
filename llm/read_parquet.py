"""Documents of parquet units: a column of strings, of some rows of a file.

Rows are decoded a few at a time. Of a unit that begins inside a row group the rows before it are
decoded and thrown away, since parquet's reader cannot skip.
"""

from collections.abc import Iterator
from typing import Any

from llm.damage import Reason
from llm.filesystem import open_file
from llm.reading import Document, Reading

ROWS, BATCH_BYTES = 256, 1 << 20
"""Rows of a column that are in memory at once, fewer if they are large."""


def read_parquet(reading: Reading) -> Iterator[Document]:
    """The unit's rows that have a text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = reading.unit.start
    try:
        with open_file(reading.unit.path) as file, pq.ParquetFile(file) as parquet:
            if not has_columns(reading, parquet.schema_arrow):
                return
            for batch in batches(reading, parquet):
                yield from documents_of(reading, batch, row)
                row += len(batch)
    except (OSError, ValueError, pa.ArrowException) as error:
        what = f"rows {row} to {reading.unit.stop - 1} cannot be read: {error}"
        reading.report("damaged file", str(row), f"{what}; the file is damaged")


def batches(reading: Reading, parquet: Any) -> Iterator[Any]:
    """The unit's rows with the columns that are needed; no batch is of two row groups.

    So damage in one takes nothing from the one before.
    """
    columns = [reading.config.text, *([reading.id] if reading.id else [])]
    first = 0
    for group in range(parquet.num_row_groups):
        footer = parquet.metadata.row_group(group)
        start = max(0, reading.unit.start - first)
        stop = min(footer.num_rows, reading.unit.stop - first)
        first += footer.num_rows
        if start < stop:
            decoded = parquet.iter_batches(rows_at_once(footer), [group], columns)
            yield from between(decoded, start, stop)


def between(batches: Iterator[Any], start: int, stop: int) -> Iterator[Any]:
    """Rows [start, stop) of what is decoded from a row group's beginning."""
    at = 0
    for batch in batches:
        part = batch.slice(max(0, start - at), max(0, stop - max(start, at)))
        at += len(batch)
        if len(part):
            yield part
        if at >= stop:
            return


def rows_at_once(footer: Any) -> int:
    """Rows of a row group that make up a batch, if they are of average size."""
    return max(1, min(ROWS, BATCH_BYTES * footer.num_rows // max(1, footer.total_byte_size)))


def documents_of(reading: Reading, batch: Any, row: int) -> Iterator[Document]:
    """The documents of a batch whose first row has that number."""
    names = batch.column(reading.id).to_pylist() if reading.id else None
    for index, text in enumerate(texts_of(batch.column(reading.config.text))):
        place = str(row + index)
        if isinstance(text, UnicodeDecodeError):
            what = f"has bytes that are not UTF-8 ({text.reason}) in {reading.config.text!r}"
            reading.report("invalid encoding", place, f"{what}; write it anew", len(text.object))
        elif text is None:
            reading.report("empty", place, f"has null in column {reading.config.text!r}")
        elif names is None:
            yield Document(place, text)
        elif name := reading.name_of(names[index], place, len(text)):
            yield Document(name, text)


def texts_of(column: Any) -> list[str | UnicodeDecodeError | None]:
    """The strings of a column, or why one is none; old writers do not say that bytes are UTF-8."""
    import pyarrow as pa

    column = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    if not is_binary(column.type):
        try:
            return column.to_pylist()
        except UnicodeDecodeError:
            pass
    return [text_or_error(value) for value in column.cast(pa.large_binary()).to_pylist()]


def text_or_error(value: bytes | None) -> str | UnicodeDecodeError | None:
    """A value as text."""
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError as error:
        return error


def has_columns(reading: Reading, schema: Any) -> bool:
    """Whether the columns of text and names are there; if not, each row is reported."""
    reason: Reason = "no text"
    what = problem_of(schema, reading.config.text, "text")
    if not what and reading.id and schema.names.count(reading.id) != 1:
        reason, what = "no id", missing(schema, reading.id, "id")
    if what:
        for row in range(reading.unit.start, reading.unit.stop):
            reading.report(reason, str(row), what)
    return not what


def problem_of(schema: Any, column: str, field: str) -> str:
    """Why a column gives no text, or nothing."""
    import pyarrow.types as types

    if schema.names.count(column) != 1:
        return missing(schema, column, field)
    kind = schema.field(column).type
    kind = kind.value_type if types.is_dictionary(kind) else kind
    if is_string(kind) or is_binary(kind):
        return ""
    strings = [name.name for name in schema if is_string(name.type)]
    others = f" ({', '.join(strings)})" if strings else ""
    return f"column {column!r} holds {kind}; expected string; set {field}: to such a column{others}"


def missing(schema: Any, column: str, field: str) -> str:
    """That there is not exactly one such column."""
    names = ", ".join(schema.names)
    return f"has not exactly one column {column!r}; its columns are {names}; set {field}: to one"


def is_string(kind: Any) -> bool:
    """Whether a type is one of strings."""
    import pyarrow.types as types

    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def is_binary(kind: Any) -> bool:
    """Whether a type is one of bytes."""
    import pyarrow.types as types

    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)

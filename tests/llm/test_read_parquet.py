"""Parquet: whatever valid files are written with, and portions of their rows."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm.config import TextConfig
from llm.documents import read_documents, read_unit
from llm.errors import DataError
from llm.shards import list_shards, list_units

STRINGS = {
    "alltypes_dictionary": ("string_col", ["0", "1"]),
    "alltypes_plain": ("date_string_col", ["03/01/09"] * 2 + ["04/01/09"] * 2 + ["02/01/09"] * 2),
    "alltypes_plain.snappy": ("string_col", ["0", "1"]),
    "datapage_v2.snappy": ("a", ["abc", "abc", "abc", "abc"]),
    "delta_byte_array": ("c_salutation", ["Sir", "Mrs.", "Ms.", "Sir"]),
    "hadoop_lz4_compressed": ("c1", ["abc", "def", "abc", "def"]),
    "lz4_raw_compressed": ("c1", ["abc", "def", "abc", "def"]),
}
"""A column of strings of each file that has one, and how it begins."""

OTHERS = {
    "byte_stream_split.zstd": ("f32", "holds float; expected string"),
    "concatenated_gzip_members": ("long_col", "holds uint64; expected string"),
    "list_columns": ("utf8_list", "expected string"),
    "nested_lists.snappy": ("a", "expected string"),
    "nested_structs.rust": ("PC_CUR", "expected string"),
    "null_list": ("text", "not exactly one column 'text'; its columns are emptylist"),
    "nulls.snappy": ("b_struct", "expected string"),
}


def texts(path: Path, column: str, unit_bytes: int = 1 << 18) -> list[str]:
    config = TextConfig(shards=(str(path),), text=column)
    units = list_units(list_shards(config.shards, "auto"), unit_bytes)
    return [text for unit in units for text in read_unit(unit, config)]


@pytest.mark.parametrize("name", STRINGS)
def test_strings_of_good_files_are_read(shared_data: Path, name: str) -> None:
    column, expected = STRINGS[name]
    found = texts(shared_data / f"g_hostile/parquet_good/{name}.parquet", column)
    assert found[: len(expected)] == expected


@pytest.mark.parametrize("name", OTHERS)
def test_files_without_strings_are_refused_by_name(shared_data: Path, name: str) -> None:
    column, said = OTHERS[name]
    with pytest.raises(DataError, match=rf"{name}\.parquet, row 0: .*{said}"):
        texts(shared_data / f"g_hostile/parquet_good/{name}.parquet", column)


def test_every_good_file_is_accounted_for(shared_data: Path) -> None:
    names = {path.stem for path in (shared_data / "g_hostile/parquet_good").iterdir()}
    assert names == {*STRINGS, *OTHERS, "binary"}


def test_bytes_that_are_no_text_are_reported_one_by_one(shared_data: Path) -> None:
    path = shared_data / "g_hostile/parquet_good/binary.parquet"  # the bytes 0 to 11
    config, damages = TextConfig(shards=(str(path),), text="foo"), []
    [unit] = list_units(list_shards(config.shards, "auto"))
    found = [document.text for document in read_documents(unit, config, damages.append)]
    assert "".join(found) == "\0\1\2\3\4\5\6\7\x08"
    assert [(damage.reason, damage.place) for damage in damages] == [
        ("empty", "9"),
        ("empty", "10"),
        ("empty", "11"),
    ]


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=5),
    st.integers(1, 2000),
    st.sampled_from(["none", "zstd"]),
)
@settings(max_examples=40, deadline=None)
def test_rows_are_the_same_for_every_unit_size(
    tmp_path_factory: pytest.TempPathFactory, groups: list[int], unit_bytes: int, compression: str
) -> None:
    path = tmp_path_factory.mktemp("rows") / "x.parquet"
    rows = [f"row {i} " * (i % 7) + "." for i in range(sum(groups))]
    with pq.ParquetWriter(
        path, pa.schema([("text", pa.string())]), compression=compression
    ) as writer:
        at = 0
        for size in groups:
            writer.write_table(pa.table({"text": rows[at : at + size]}))
            at += size
    assert texts(path, "text", unit_bytes) == rows


def test_units_of_a_large_row_group_are_small(tmp_path: Path) -> None:
    rows = [f"{i:09d} " * 100 for i in range(4000)]
    pq.write_table(
        pa.table({"text": rows}), tmp_path / "x.parquet", use_dictionary=False, compression="none"
    )
    units = list_units(list_shards((str(tmp_path),), "auto"), 1 << 17)
    assert len(units) == 31  # of 4,016,000 bytes and some
    assert max(unit.bytes for unit in units) <= 1 << 17
    assert texts(tmp_path / "x.parquet", "text", 1 << 17) == rows


def test_file_that_unpacks_without_end_is_no_shard(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    rows = ["\0" * 100_000_000]
    pq.write_table(pa.table({"text": rows}), path, compression="zstd", write_statistics=False)
    with pytest.raises(DataError, match=r"column 'text' unpack to 1000000\d\d, over 1000 to 1"):
        texts(path, "text")

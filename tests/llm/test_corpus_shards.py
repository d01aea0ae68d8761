"""Shards: their bytes are a function of the documents, not of the parts they come from."""

from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from llm.corpus_shards import GROUP_BYTES, ShardMaker, regrouped
from llm.fates import TRAIN, VALIDATION, Shard, Slice
from llm.files import sha256
from llm.parts import part_path, writing_part

LENGTHS = [100, 200_000, 70_000, 5, 300_000, 1, 2, 90_000, 262_144, 3]


def write_parts(folder: Path, cuts: list[int]) -> list[Slice]:
    """The same ten documents in parts that end at `cuts`; every fourth is held out."""
    folder.mkdir()
    slices = []
    for number, (start, stop) in enumerate(zip([0, *cuts], [*cuts, 10], strict=True)):
        with writing_part(part_path(folder, number), None) as writer:
            for index in range(start, stop):
                text = chr(97 + index) * LENGTHS[index]
                writer.add(f"web/{index}", "", text, index % 4 == 3)
        slices.append(Slice(number, 0, stop - start))
    return slices


def made(folder: Path, cuts: list[int], fate: int = TRAIN) -> Path:
    slices = write_parts(folder, cuts)
    shard = Shard("web", fate, 0, slices, documents=8, bytes=sum(LENGTHS))
    ShardMaker([shard], folder, folder).make(0)
    return folder / shard.name


def test_a_shard_is_the_same_whatever_parts_its_documents_come_from(tmp_path: Path) -> None:
    cuts = [[], [5], [1, 2, 3], [4, 9], list(range(1, 10))]
    paths = [made(tmp_path / str(number), one) for number, one in enumerate(cuts)]
    assert len(set(map(sha256, paths))) == 1


def test_a_shard_holds_its_split_in_order_with_names_and_source(tmp_path: Path) -> None:
    train = pq.read_table(made(tmp_path / "t", [5]))
    assert train.column_names == ["id", "text", "url", "source"]
    assert train["id"].to_pylist() == [f"web/{index}" for index in (0, 1, 2, 4, 5, 6, 8, 9)]
    assert train["text"][0].as_py() == "a" * 100
    assert set(train["source"].to_pylist()) == {"web"}
    validation = pq.read_table(made(tmp_path / "v", [5], VALIDATION))
    assert validation["id"].to_pylist() == ["web/3", "web/7"]


def test_row_groups_are_about_256_KiB_of_text(tmp_path: Path) -> None:
    with pq.ParquetFile(made(tmp_path / "t", [])) as file:
        rows = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    # 100 + 200,000 + 70,000 | 300,000 | 1 + 2 + 262,144 | 3
    assert rows == [3, 1, 3, 1]


def test_a_shard_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    path = made(tmp_path / "t", [])
    before = path.stat().st_mtime_ns
    shard = Shard("web", TRAIN, 0, [Slice(0, 0, 10)], 8, 1)
    entry = ShardMaker([shard], tmp_path / "t", tmp_path / "t").make(0)
    assert path.stat().st_mtime_ns == before
    assert entry["sha256"] == sha256(path)


@given(st.lists(st.integers(1, 200_000), max_size=30), st.lists(st.integers(0, 30), max_size=5))
def test_tables_are_regrouped_by_size_alone(sizes: list[int], cuts: list[int]) -> None:
    whole = pa.table({"bytes": pa.array(sizes, pa.int64())})
    edges = sorted({0, len(sizes), *(cut for cut in cuts if cut < len(sizes))})
    pieces = [whole.slice(a, b - a) for a, b in pairwise(edges)]
    groups = [table["bytes"].to_pylist() for table in regrouped(pieces)]
    assert [size for group in groups for size in group] == sizes
    assert all(sum(group) >= GROUP_BYTES for group in groups[:-1])
    assert all(sum(group[:-1]) < GROUP_BYTES for group in groups)

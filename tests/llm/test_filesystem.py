"""Files at URIs: memory:// and http:// by fsspec, and the road that s3, gs and hdfs take."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest

from llm import filesystem
from llm.config import DataConfig
from llm.documents import read_unit
from llm.errors import DataError
from llm.shards import digest, list_shards, list_units


@pytest.fixture
def memory() -> Iterator[Any]:
    """fsspec's file system in memory, with three text files and what is to be skipped."""
    client = fsspec.filesystem("memory")
    table = io.BytesIO()
    pq.write_table(pa.table({"text": ["in a column"]}), table)
    client.pipe("/corpus/a.txt", b"first\nsecond\n")
    client.pipe("/corpus/below/b.jsonl", b'{"text": "in json"}\n')
    client.pipe("/corpus/c.parquet", table.getvalue())
    client.pipe("/corpus/_temporary/d.txt", b"no\n")
    client.pipe("/corpus/empty.txt", b"")
    yield client
    client.rm("/corpus", recursive=True)


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that pyarrow shows as the bucket of every s3:// URI."""
    local = pyarrow.fs.SubTreeFileSystem(str(tmp_path), pyarrow.fs.LocalFileSystem())

    class Client:
        from_uri = staticmethod(lambda uri: (local, uri.partition("?")[0].partition("://")[2]))

    monkeypatch.setattr(pyarrow.fs, "FileSystem", Client)
    filesystem.connect_arrow.cache_clear()
    yield tmp_path
    filesystem.connect_arrow.cache_clear()


def texts(*patterns: str, unit_bytes: int = 8) -> list[str]:
    data = DataConfig(shards=patterns, documents="line")
    units = list_units(list_shards(patterns, "auto"), unit_bytes)
    return [text for unit in units for text in read_unit(unit, data)]


def test_folder_in_memory_is_read_like_one_on_disk(memory: Any) -> None:
    assert texts("memory://corpus") == ["first", "second", "in json", "in a column"]


def test_glob_in_memory_matches(memory: Any) -> None:
    assert texts("memory://corpus/*.txt") == ["first", "second"]
    assert texts("memory://corpus/**/*.jsonl") == ["in json"]


def test_missing_remote_file_is_named(memory: Any) -> None:
    with pytest.raises(DataError, match=r"memory://corpus/none\.txt: cannot be listed"):
        list_shards(("memory://corpus/none.txt",), "auto")


def test_remote_digest_changes_when_a_file_is_written_anew(memory: Any) -> None:
    before = digest(list_shards(("memory://corpus",), "auto"))
    assert digest(list_shards(("memory://corpus",), "auto")) == before
    memory.pipe("/corpus/a.txt", b"other\nsecond\n")
    assert digest(list_shards(("memory://corpus",), "auto")) != before


def test_bucket_options_stay_in_the_paths_and_keys_are_no_uris(bucket: Path) -> None:
    (bucket / "b/with space").mkdir(parents=True)
    (bucket / "b/with space/ä#1.txt").write_text("in a bucket\n")
    uri = "s3://b/with space?region=eu-west-1"
    [shard] = list_shards((uri,), "auto")
    assert shard.path == "s3://b/with space/ä#1.txt?region=eu-west-1"
    assert texts(uri) == ["in a bucket"]


def test_bucket_glob_and_root_match(bucket: Path) -> None:
    (bucket / "b/x").mkdir(parents=True)
    (bucket / "b/x/1.txt").write_text("one\n")
    (bucket / "b/x/2.txt").write_text("two\n")
    assert texts("s3://b/x/[1]*") == ["one"]
    assert texts("s3://b") == ["one", "two"]

"""Finding a corpus' files, cutting them into units, naming their content."""

import gzip
import shutil
import subprocess
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from llm import shards as module
from llm.damage import Damage
from llm.errors import DataError
from llm.shards import Shard, Unit, digest, list_shards, list_units, too_large_to_stream


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two text files, a jsonl below, and what is to be skipped."""
    files = {
        "b.txt": "bb\n",
        "a.txt": "a\n",
        "below/c.jsonl": '{"text": "c"}\n',
        "empty.txt": "",
        ".hidden.txt": "no\n",
        "_temporary/d.txt": "no\n",
        "README.md": "no\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def names(shards: list[Shard]) -> list[str]:
    return [shard.path.rpartition("/")[2] for shard in shards]


def write_parquet(path: Path, rows: int, group: int) -> None:
    """Rows of 1,000 random-looking bytes each, `group` of them a row group."""
    texts = [f"{i:04d}" * 250 for i in range(rows)]
    table = pa.table({"text": texts})
    pq.write_table(table, path, row_group_size=group, use_dictionary=False, compression="zstd")


def test_folder_gives_known_suffixes_sorted_without_hidden_and_empty_files(folder: Path) -> None:
    shards = list_shards((str(folder),), "auto")
    assert names(shards) == ["a.txt", "b.txt", "c.jsonl"]
    assert [(s.format, s.bytes) for s in shards] == [("txt", 2), ("txt", 3), ("jsonl", 14)]


def test_folder_with_a_format_gives_only_that_format(folder: Path) -> None:
    assert names(list_shards((str(folder),), "jsonl")) == ["c.jsonl"]


def test_file_that_two_patterns_name_is_listed_once(folder: Path) -> None:
    patterns = (f"{folder}/a.txt", f"{folder}/*.txt", f"{folder}/below/../a.txt")
    assert names(list_shards(patterns, "auto")) == ["a.txt", "b.txt"]


def test_recursive_glob_and_relative_path_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    shards = list_shards(("**/*.jsonl", "a.txt"), "auto")
    assert [s.path for s in shards] == [f"{folder}/a.txt", f"{folder}/below/c.jsonl"]


def test_file_named_outright_is_taken_even_if_hidden_or_with_glob_characters(
    tmp_path: Path,
) -> None:
    (tmp_path / "_x[1].txt").write_text("x\n")
    assert names(list_shards((f"{tmp_path}/_x[1].txt",), "auto")) == ["_x[1].txt"]


def test_given_format_overrides_the_suffix_of_named_files(folder: Path) -> None:
    assert list_shards((f"{folder}/*.md",), "txt")[0].format == "txt"


def test_file_uri_is_a_local_path(folder: Path) -> None:
    (folder / "x y.txt").write_text("x\n")
    assert list_shards((f"file://{folder}/x%20y.txt",), "auto")[0].path == f"{folder}/x y.txt"


@pytest.mark.parametrize(
    ("pattern", "format", "said"),
    [
        ("nowhere", "auto", "no such file or folder"),
        ("*.csv", "auto", "nothing is there"),
        (
            "README.md",
            "auto",
            "does not tell its format; known are .parquet .jsonl .txt .csv .warc .wet, also .gz",
        ),
        ("empty.txt", "auto", "the 1 files there are empty"),
        ("", "parquet", "(.parquet); the files there end in .jsonl, .md, .txt"),
        ("foo://bar", "auto", "Protocol not known: foo"),
    ],
)
def test_pattern_without_text_says_what_is_wrong(
    folder: Path, pattern: str, format: str, said: str
) -> None:
    pattern = pattern if "://" in pattern else str(folder / pattern)
    with pytest.raises(DataError) as caught:
        list_shards((pattern,), format)  # type: ignore[arg-type]
    assert pattern in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(("scheme", "package"), [("gcs", "gcsfs"), ("s3a", "s3fs")])
def test_missing_client_says_what_to_install(
    scheme: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DataError, match=f"pip install {package}"):
        list_shards((f"{scheme}://bucket/x.txt",), "auto")


def test_text_file_is_cut_into_adjoining_ranges(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"a" * 2500)
    units = list_units(list_shards((str(tmp_path),), "auto"), unit_bytes=1000)
    assert [(u.start, u.stop, u.bytes) for u in units] == [
        (0, 1000, 1000),
        (1000, 2000, 1000),
        (2000, 2500, 500),
    ]


def test_gzip_file_is_one_unit_with_the_size_of_its_text(tmp_path: Path) -> None:
    path = tmp_path / "x.txt.gz"
    path.write_bytes(gzip.compress(b"abc\n" * 10_000))
    [shard] = list_shards((str(path),), "auto")
    size = path.stat().st_size
    assert list_units([shard], 1000) == [Unit(str(path), "txt", 0, size, 40_000)]


def test_zstd_file_has_the_size_its_header_declares(tmp_path: Path) -> None:
    content = b"abc\n" * 10_000
    (tmp_path / "a.txt.zst").write_bytes(zstandard.compress(content))
    streamed = zstandard.ZstdCompressor(write_content_size=False).compress(content)
    (tmp_path / "b.txt.zst").write_bytes(streamed)
    (tmp_path / "c.txt.zst").write_bytes(b"none")
    units = list_units(list_shards((str(tmp_path),), "auto"))
    assert [unit.bytes for unit in units] == [40_000, len(streamed), 4]


def test_every_format_is_known_by_its_name_packed_or_not(tmp_path: Path) -> None:
    expected = {
        "a.parquet": "parquet",
        "b.jsonl": "jsonl",
        "c.JSONL.GZ": "jsonl",
        "d.ndjson.zst": "jsonl",
        "e.txt.zst": "txt",
        "f.csv": "csv",
        "g.csv.gz": "csv",
        "h.warc.gz": "warc",
        "i.arc": "warc",
        "j.warc.wet.gz": "wet",
    }
    for name in [*expected, "k.parquet.gz", "l.tar.gz", "m.json"]:
        (tmp_path / name).write_bytes(b"x")
    shards = list_shards((str(tmp_path),), "auto")
    assert {shard.path.rpartition("/")[2]: shard.format for shard in shards} == expected


@pytest.mark.parametrize("format", ["csv", "warc", "wet"])
def test_file_that_is_read_from_its_start_is_one_unit(format: Literal["csv"]) -> None:
    assert list_units([Shard("/x", format, 2500)], 1000) == [Unit("/x", format, 0, 2500, 2500)]


def test_file_whose_server_gives_no_parts_is_one_unit() -> None:
    shard = Shard("/x.txt", "txt", 2500, parts=False)
    assert list_units([shard], 1000) == [Unit("/x.txt", "txt", 0, 2500, 2500)]


def test_units_above_256_mib_are_too_large_to_stream() -> None:
    assert not too_large_to_stream(Unit("/x.txt.gz", "txt", 0, 100, 256 << 20))
    assert too_large_to_stream(Unit("/x.txt.gz", "txt", 0, 100, (256 << 20) + 1))


def test_row_groups_are_gathered_up_to_the_unit_size(tmp_path: Path) -> None:
    write_parquet(tmp_path / "x.parquet", rows=50, group=10)  # five groups of 10 kB
    units = list_units(list_shards((str(tmp_path),), "auto"), unit_bytes=25_000)
    assert [(u.start, u.stop) for u in units] == [(0, 20), (20, 40), (40, 50)]
    assert all(10_000 < u.bytes < 25_000 for u in units)


def test_large_row_group_is_cut_evenly_by_rows(tmp_path: Path) -> None:
    write_parquet(tmp_path / "x.parquet", rows=20, group=10)  # two groups of 10 kB
    shards = list_shards((str(tmp_path),), "auto")
    assert [(u.start, u.stop) for u in list_units(shards, 5_000)] == [(0, 10), (10, 20)]
    cut = list_units(shards, 2_000)  # 12,200 bytes with statistics: seven parts
    ends = [0, 1, 2, 4, 5, 7, 8, 10, 11, 12, 14, 15, 17, 18, 20]  # 10 i // 7
    assert [(u.start, u.stop) for u in cut] == list(pairwise(ends))
    assert len(list_units(shards, 1)) == 20


def test_broken_parquet_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 this is none PAR1")
    with pytest.raises(DataError, match=r"x\.parquet: cannot be read as parquet"):
        list_units(list_shards((str(tmp_path),), "auto"))


def digest_of(folder: Path) -> str:
    return digest(list_shards((str(folder),), "auto"))


def test_digest_is_that_of_the_content_wherever_it_lies(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("elsewhere"))
    moved = digest_of(copy)
    shutil.rmtree(tmp_path / "elsewhere")
    assert digest_of(folder) == moved


@pytest.mark.parametrize("change", ["content", "name", "more"])
def test_digest_changes_with_content_names_and_files(folder: Path, change: str) -> None:
    before = digest_of(folder)
    if change == "content":
        (folder / "a.txt").write_text("b\n")
    elif change == "name":
        (folder / "a.txt").rename(folder / "z.txt")
    else:
        (folder / "z.txt").write_text("z\n")
    assert digest_of(folder) != before


def test_large_file_is_digested_by_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_WHOLE", 1000)
    monkeypatch.setattr(module, "SAMPLE_BYTES", 10)
    path = tmp_path / "x.txt"
    path.write_bytes(b"a" * 10_000)
    [shard] = list_shards((str(path),), "auto")
    assert len(b"".join(module.sample(shard))) == 16 * 10
    before = digest([shard])
    path.write_bytes(b"a" * 9_999 + b"b")  # the last block is always among the samples
    assert digest([Shard(shard.path, "txt", 10_000, shard.version)]) != before


def test_a_file_without_read_permission_is_one_damage_and_has_no_content(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = list_shards((str(folder),), "auto")

    def locked(path: str) -> BinaryIO:  # whoever runs tests as root may read everything
        if path.endswith("b.txt"):
            raise PermissionError(13, "Permission denied", path)
        return open(path, "rb")

    before = digest(shards)
    monkeypatch.setattr(module, "open_file", locked)
    for reported in (partial(digest, shards), partial(list_units, shards, unit_bytes=1)):
        damages: list[Damage] = []
        reported(bad=damages.append)
        assert [(d.reason, d.path, d.place, d.bytes) for d in damages] == [
            ("damaged file", str(folder / "b.txt"), "", 3)
        ]
        with pytest.raises(DataError, match=r"b\.txt: cannot be read: .*Permission denied"):
            reported()
    assert digest(shards, damages.append) != before
    assert {Path(unit.path).name for unit in list_units(shards, bad=damages.append)} == {
        "a.txt",
        "c.jsonl",
    }


def test_importing_brings_neither_arrow_nor_torch() -> None:
    code = "import sys, llm.shards; print([m for m in sys.modules if m in sys.argv[1:]])"
    heavy = ["pyarrow", "fsspec", "numpy", "torch", "ray", "sentencepiece"]
    done = subprocess.run(
        [sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"

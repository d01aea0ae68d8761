"""Records are given or reported, once each; what is too large is never held in memory."""

import gzip
import json
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from llm import compression
from llm.config import TextConfig
from llm.corpus_config import SourceConfig
from llm.damage import Damage, DamageError, fail
from llm.documents import read_documents, read_unit
from llm.errors import DataError
from llm.reading import Document
from llm.shards import list_shards, list_units


def read(
    path: Path, unit_bytes: int = 1 << 18, largest: int | None = None, **options: Any
) -> tuple[list[Document], list[Damage]]:
    """All documents of a file, unit by unit, and what is left out."""
    config = SourceConfig(shards=(str(path),), **options)
    damages: list[Damage] = []
    shards = list_shards(config.shards, config.format, damages.append)
    units = list_units(shards, unit_bytes, config.encoding, damages.append)
    documents = [
        document
        for unit in units
        for document in read_documents(unit, config, damages.append, largest)
    ]
    return documents, damages


def reasons(damages: list[Damage]) -> list[tuple[str, str]]:
    return [(damage.reason, damage.place) for damage in damages]


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


BAD_ROWS = {
    b'{"text": "a"': "invalid json",
    b'{"text": NaN}': "invalid json",
    b"[1]": "not an object",
    b'{"body": "a"}': "no text",
    b'{"text": 1}': "no text",
    b'{"text": null}': "empty",
    b'{"text": " \\n"}': "empty",
    b'{"text": "\xff"}': "invalid encoding",
    b'{"text": "\\ud800"}': "invalid encoding",
    b'{"text": "aaaaaaaaaaaaaaaaaaaaaaaaa"}': "too large",
}


@given(
    st.lists(st.sampled_from([b'{"text": "good"}', b"", *BAD_ROWS]), max_size=30),
    st.integers(1, 200),
)
@settings(max_examples=60, deadline=None)
def test_every_row_is_given_or_reported_once_at_its_place(
    tmp_path_factory: pytest.TempPathFactory, rows: list[bytes], unit_bytes: int
) -> None:
    path = written(tmp_path_factory.mktemp("rows"), "x.jsonl", b"\n".join([b'{"text":"a"}', *rows]))
    documents, damages = read(path, unit_bytes, largest=20)
    starts = [13 + sum(len(row) + 1 for row in rows[:index]) for index in range(len(rows))]
    expected = [(BAD_ROWS.get(r), str(s)) for r, s in zip(rows, starts, strict=True) if r]
    given_ = [(None, document.place) for document in documents[1:]]
    assert sorted([*given_, *reasons(damages)], key=lambda pair: int(pair[1])) == expected


def test_fail_raises_what_is_an_error_and_passes_what_is_a_choice(tmp_path: Path) -> None:
    for row, reason in BAD_ROWS.items():
        path = written(tmp_path, "x.jsonl", row + b'\n{"text": "good"}')
        [unit] = list_units(list_shards((str(path),), "auto"))
        config = TextConfig(shards=(str(path),))
        if reason in ("empty", "too large"):
            assert [d.text for d in read_documents(unit, config, largest=20)] == ["good"]
        else:
            with pytest.raises(DataError, match=r"x\.jsonl, line 1: "):
                list(read_unit(unit, config))


def test_what_a_function_of_ones_own_raises_names_the_line_too(tmp_path: Path) -> None:
    path = written(tmp_path, "x.jsonl", b'{"text": "a"}\n{')
    [unit] = list_units(list_shards((str(path),), "auto"))
    seen = []

    def counted(damage: Damage) -> None:
        seen.append(damage.reason)
        fail(damage)

    with pytest.raises(DataError, match=r"x\.jsonl, line 2: is not JSON"):
        list(read_documents(unit, TextConfig(shards=(str(path),)), counted))
    assert seen == ["invalid json"]


def test_damage_error_survives_the_way_between_processes() -> None:
    error = DamageError(Damage("damaged file", "/x", "3", "is broken", 5))
    copy = pickle.loads(pickle.dumps(error))
    assert copy.damage == error.damage
    assert str(copy) == "/x, at 3: is broken"


# -- bounds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.jsonl", "x.txt", "x.csv"])
@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
def test_huge_line_is_passed_over_without_being_held(
    tmp_path: Path, name: str, packed: str
) -> None:
    size = 40_000_000
    content = {
        "x.jsonl": b'{"text": "a"}\n{"text": "%s"}\n{"text": "b"}\n',
        "x.txt": b"a\n%s\nb\n",
        "x.csv": b'text\na\n"%s"\nb\n',
    }[name] % (b"0123456789" * (size // 10))
    compress = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[packed]
    path = written(tmp_path, name + packed, compress(content))
    del content
    read(written(tmp_path, "warm.jsonl" + packed, compress(b'{"text": "a"}\n')))
    tracemalloc.start()
    documents, damages = read(path, largest=100_000, documents="line")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [document.text for document in documents] == ["a", "b"]
    assert [damage.reason for damage in damages] == ["too large"]
    assert damages[0].bytes >= size
    assert peak < 6_000_000


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_bomb_is_named_with_its_ratio_and_what_came_before_is_kept(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compression, "HARMLESS_BYTES", 1 << 20)
    monkeypatch.setattr(compression, "MOST_RATIO", 500)
    content = b"first\n" + b"\0" * 30_000_000
    compress = {".gz": gzip.compress, ".zst": zstandard.compress}[suffix]
    path = written(tmp_path, "x.txt" + suffix, compress(content))
    documents, [damage] = read(path, largest=100, documents="line")
    assert [document.text for document in documents] == ["first"]
    assert damage.reason == "damaged file"
    assert "over 500 to 1" in damage.detail


def test_short_text_that_repeats_itself_is_no_bomb(tmp_path: Path) -> None:
    packed = zstandard.compress(b"line\n" * 400_000)
    assert len(packed) * compression.MOST_RATIO < 2_000_000 < compression.HARMLESS_BYTES
    documents, damages = read(written(tmp_path, "x.txt.zst", packed), documents="file")
    assert "".join(document.text for document in documents) == "line\n" * 400_000
    assert damages == []


# -- damaged files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_truncated_file_gives_what_was_before_and_is_reported_once(
    tmp_path: Path, suffix: str
) -> None:
    lines = b"".join(b"%d %d\n" % (i, i * i) for i in range(200_000))
    packed = {".gz": gzip.compress, ".zst": zstandard.compress}[suffix](lines)
    path = written(tmp_path, "x.txt" + suffix, packed[: len(packed) // 2])
    documents, [damage] = read(path, documents="line")
    assert damage.reason == "damaged file"
    assert "Truncated" in damage.detail
    texts = [document.text for document in documents]
    assert texts == [f"{i} {i * i}" for i in range(len(texts))]
    assert len(texts) > 80_000


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_parts_that_follow_one_another_are_one_text(tmp_path: Path, suffix: str) -> None:
    compress = {".gz": gzip.compress, ".zst": zstandard.compress}[suffix]
    path = written(tmp_path, "x.txt" + suffix, compress(b"a\nb") + compress(b"c\nd\n"))
    documents, damages = read(path, documents="line")
    assert [document.text for document in documents] == ["a", "bc", "d"]
    assert damages == []


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.txt.zst", "x.csv.gz", "x.warc.gz"])
def test_file_that_is_not_what_its_name_says_is_reported(tmp_path: Path, name: str) -> None:
    documents, [damage] = read(written(tmp_path, name, b"neither gzip nor zstd\n" * 20))
    assert documents == []
    assert (damage.reason, damage.place) == ("damaged file", "")


def test_folder_of_broken_files_gives_the_good_one_and_names_the_others(tmp_path: Path) -> None:
    written(tmp_path, "good.jsonl", b'{"text": "good"}')
    written(tmp_path, "broken.parquet", b"PAR1 this is none PAR1")
    written(tmp_path, "empty.jsonl", b"")
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "dangling.jsonl").symlink_to(tmp_path / "nowhere")
    (tmp_path / "circle").symlink_to(tmp_path)
    documents, damages = read(tmp_path)
    assert [document.text for document in documents] == ["good"]
    found = {Path(damage.path).name: damage.reason for damage in damages}
    assert found == {
        "broken.parquet": "damaged file",
        "empty.jsonl": "empty",
        "dangling.jsonl": "damaged file",
    }
    with pytest.raises(DataError, match=r"dangling\.jsonl: cannot be opened: No such file"):
        list_shards((str(tmp_path),), "auto")


def test_damaged_page_costs_the_rows_from_there_on(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    rows = [f"row {i:05d} " * 20 for i in range(2000)]
    pq.write_table(
        pa.table({"text": rows}),
        path,
        row_group_size=1000,
        compression="gzip",
        use_dictionary=False,
    )
    second = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[second + 40 : second + 400] = b"\xff" * 360
    path.write_bytes(content)
    documents, [damage] = read(path, unit_bytes=1 << 30)
    assert [document.text for document in documents] == rows[:1000]
    assert damage.reason == "damaged file"
    assert damage.place == "1000"


def test_row_that_is_not_utf8_costs_that_row(tmp_path: Path) -> None:
    bytes_ = pa.array([b"a", b"\xff", b"c"], pa.binary())
    strings = pa.Array.from_buffers(pa.string(), 3, bytes_.buffers())
    pq.write_table(pa.table({"text": strings, "raw": bytes_}), tmp_path / "x.parquet")
    for column in ("text", "raw"):  # old writers do not say that bytes are text
        documents, damages = read(tmp_path / "x.parquet", text=column)
        assert documents == [("0", "a", ""), ("2", "c", "")]
        assert reasons(damages) == [("invalid encoding", "1")]


def test_unreadable_file_is_reported(tmp_path: Path) -> None:
    path = written(tmp_path, "x.jsonl", b'{"text": "a"}')
    [unit] = list_units(list_shards((str(path),), "auto"))
    path.unlink()
    damages: list[Damage] = []
    assert list(read_documents(unit, TextConfig(shards=(str(path),)), damages.append)) == []
    assert [damage.reason for damage in damages] == ["damaged file"]


def test_line_that_is_not_utf8_costs_that_line(tmp_path: Path) -> None:
    path = written(tmp_path, "x.txt", "\ufeffé\n".encode() + b"\xff\nc\r\n\n" + b"d" * 200_000)
    documents, damages = read(path, documents="line")
    assert documents == [("0", "é", ""), ("8", "c", ""), ("12", "d" * 200_000, "")]
    assert reasons(damages) == [("invalid encoding", "6")]


# -- names -----------------------------------------------------------------------------------------


def test_document_is_named_by_its_id_or_its_place(tmp_path: Path) -> None:
    rows = [{"text": "a", "n": "x"}, {"text": "b", "n": 7}, {"text": "c"}, {"text": "d", "n": True}]
    jsonl = written(tmp_path, "x.jsonl", "\n".join(map(json.dumps, rows)).encode())
    documents, damages = read(jsonl, id="n")
    assert documents == [("x", "a", ""), ("7", "b", "")]
    assert [damage.reason for damage in damages] == ["no id", "no id"]
    assert [document.place for document in read(jsonl)[0]] == ["0", "24", "46", "60"]


def test_rows_of_parquet_are_numbered_through_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    table = pa.table({"text": [f"t{i}" for i in range(10)], "n": [f"id{i}" for i in range(10)]})
    pq.write_table(table, path, row_group_size=4)
    for unit_bytes in (1, 1 << 20):
        assert read(path, unit_bytes)[0] == [(str(i), f"t{i}", "") for i in range(10)]
        assert read(path, unit_bytes, id="n")[0] == [(f"id{i}", f"t{i}", "") for i in range(10)]


def test_missing_parquet_column_is_reported_row_by_row(tmp_path: Path) -> None:
    pq.write_table(pa.table({"body": ["a", "b"]}), tmp_path / "x.parquet")
    documents, damages = read(tmp_path / "x.parquet")
    assert documents == []
    assert reasons(damages) == [("no text", "0"), ("no text", "1")]
    _, damages = read(tmp_path / "x.parquet", text="body", id="name")
    assert reasons(damages) == [("no id", "0"), ("no id", "1")]

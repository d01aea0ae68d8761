"""Documents of a unit: none lost, none twice, none cut, however a file is cut into units."""

import gzip
import json
import re
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm.config import DataConfig
from llm.damage import Damage
from llm.documents import is_held_out, is_sampled, read_documents, read_unit
from llm.errors import DataError
from llm.lines import PIECE_BYTES, incomplete
from llm.shards import Shard, Unit, list_units

BOM = b"\xef\xbb\xbf"


def config(**options: Any) -> DataConfig:
    return DataConfig(shards=("unused",), **options)


def read(path: Path, unit_bytes: int = 1 << 20, **options: Any) -> list[str]:
    """All documents of a file, unit by unit."""
    name = path.name.removesuffix(".gz")
    shard = Shard(str(path), name.rpartition(".")[2], path.stat().st_size)  # type: ignore[arg-type]
    units = list_units([shard], unit_bytes)
    return [text for unit in units for text in read_unit(unit, config(**options))]


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


# -- ownership -------------------------------------------------------------------------------------

lines = st.lists(
    st.tuples(
        st.text(alphabet="ab \u3000é中😀", max_size=12), st.sampled_from(["\n", "\r\n", "\n\n"])
    ).map("".join),
    max_size=12,
)
texts = st.tuples(st.booleans(), lines, st.text(alphabet="a中", max_size=5)).map(
    lambda parts: (BOM if parts[0] else b"") + ("".join(parts[1]) + parts[2]).encode()
)


def plain_text(content: bytes) -> str:
    return content.removeprefix(BOM).decode()


def kept(documents: list[str]) -> list[str]:
    return [text for text in documents if text and not text.isspace()]


def plain_paragraphs(text: str) -> list[str]:
    """The slow way: blocks between lines of white space, without their last line end."""
    blank = [line.isspace() and line.endswith("\n") for line in text.splitlines(keepends=True)]
    blocks = [""]
    for line, is_blank in zip(text.splitlines(keepends=True), blank, strict=True):
        if is_blank:
            blocks.append("")
        else:
            blocks[-1] += line
    return [block.rstrip("\r\n") for block in blocks]


@given(texts, st.integers(1, 40))
@settings(max_examples=80, deadline=None)
def test_lines_are_the_same_for_every_unit_size(content: bytes, unit_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), "x.txt", content)
        expected = kept([line.rstrip("\r") for line in plain_text(content).split("\n")])
        assert read(path, unit_bytes, documents="line") == expected


@given(texts, st.integers(1, 40), st.integers(4, 20))
@settings(max_examples=80, deadline=None)
def test_lines_are_the_same_however_much_is_read_at_once(
    content: bytes, unit_bytes: int, read_bytes: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, mock.patch("llm.lines.PIECE_BYTES", read_bytes):
        path = written(Path(folder), "x.txt", content)
        expected = kept([line.rstrip("\r") for line in plain_text(content).split("\n")])
        assert read(path, unit_bytes, documents="line") == expected


@given(texts, st.integers(1, 40))
@settings(max_examples=80, deadline=None)
def test_paragraphs_are_the_same_for_every_unit_size(content: bytes, unit_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), "x.txt", content)
        expected = kept(plain_paragraphs(plain_text(content)))
        assert read(path, unit_bytes, documents="paragraph") == expected


@given(st.lists(st.text(max_size=20), max_size=8), st.integers(1, 60), st.booleans())
@settings(max_examples=60, deadline=None)
def test_json_rows_are_the_same_for_every_unit_size(
    values: list[str], unit_bytes: int, escaped: bool
) -> None:
    rows = [json.dumps({"n": 1, "text": value}, ensure_ascii=escaped) for value in values]
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), "x.jsonl", "\r\n\n".join(rows).encode())
        assert read(path, unit_bytes) == kept(values)


@given(texts, st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_pieces_of_a_file_join_to_the_file(content: bytes, unit_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), "x.txt", content)
        pieces = read(path, unit_bytes, documents="file")
    joined = re.sub(r"\s", "", "".join(pieces))  # pieces of white space alone are skipped
    assert joined == re.sub(r"\s", "", plain_text(content))


def test_line_longer_than_a_unit_belongs_to_the_unit_where_it_begins(tmp_path: Path) -> None:
    path = written(tmp_path, "x.txt", b"a\n" + b"b" * 100 + b"\nc\n")
    units = [Unit(str(path), "txt", at, min(at + 10, 105), 10) for at in range(0, 105, 10)]
    found = [list(read_unit(unit, config(documents="line"))) for unit in units]
    assert found[0] == ["a", "b" * 100]
    assert found[1:10] == [[]] * 9
    assert found[10] == ["c"]


def test_unit_inside_a_long_line_reads_no_further_than_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, "x.txt", b"b" * 3_000_000 + b"\n")
    read_bytes = []

    class Watched:
        def __init__(self, name: str) -> None:
            self.file = open(name, "rb")  # noqa: SIM115

        def close(self) -> None:
            self.file.close()

        def seek(self, at: int) -> int:
            return self.file.seek(at)

        def readline(self, limit: int) -> bytes:
            line = self.file.readline(limit)
            read_bytes.append(len(line))
            return line

    monkeypatch.setattr("llm.compression.open_file", Watched)
    for kind in ("line", "paragraph", "file"):
        unit = Unit(str(path), "txt", 1_000_000, 1_100_000, 100_000)
        assert list(read_unit(unit, config(documents=kind))) == []
    assert sum(read_bytes) == 3 * 100_000


# -- pieces ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("documents", ["file", "paragraph"])
def test_long_texts_are_cut_at_line_ends_below_64_kib(tmp_path: Path, documents: str) -> None:
    text = "".join(f"line {i:05d} é\n" for i in range(20_000))  # 14 bytes each
    pieces = read(written(tmp_path, "x.txt", text.encode()), documents=documents)
    whole = "".join(pieces) if documents == "file" else "\n".join(pieces) + "\n"
    assert whole == text
    assert max(len(piece.encode()) for piece in pieces) <= PIECE_BYTES
    assert min(len(piece.encode()) for piece in pieces[:-1]) > PIECE_BYTES - 20
    assert len(pieces) == 5  # 280,000 / 65,536


@pytest.mark.parametrize("text", ["中" * 100_000, "a" + "😀" * 60_000, "ab" + "é中😀" * 20_000])
def test_line_longer_than_a_piece_is_cut_between_characters(tmp_path: Path, text: str) -> None:
    pieces = read(written(tmp_path, "x.txt", text.encode()), documents="file")
    assert "".join(pieces) == text
    assert max(len(piece.encode()) for piece in pieces) <= PIECE_BYTES


def test_white_space_that_fills_a_piece_is_no_blank_line(tmp_path: Path) -> None:
    text = "a\n" + " " * 3 * PIECE_BYTES + "b\nc\n"
    path = written(tmp_path, "x.txt", text.encode())
    for unit_bytes in (1000, 1 << 20):
        found = read(path, unit_bytes, documents="paragraph")
        assert "".join(found).split() == ["a", "b", "c"]


@pytest.mark.parametrize("text", ["a", "é", "中", "😀", "a😀", "😀a", "é中"])
def test_incomplete_counts_the_bytes_of_a_cut_character(text: str) -> None:
    data = text.encode()
    for cut in range(len(data) + 1):
        whole = data[:cut].decode(errors="ignore").encode()
        assert incomplete(data[:cut], "utf-8") == cut - len(whole)


# -- formats ---------------------------------------------------------------------------------------


def test_gzip_text_is_read_as_if_it_were_none(tmp_path: Path) -> None:
    content = b"eins\nzwei\n\ndrei\n"
    plain = written(tmp_path, "x.txt", content)
    packed = written(tmp_path, "y.txt.gz", gzip.compress(content[:7]) + gzip.compress(content[7:]))
    for documents in ("line", "paragraph", "file"):
        assert read(packed, documents=documents) == read(plain, documents=documents)
    rows = written(tmp_path, "z.jsonl.gz", gzip.compress(b'{"text": "a"}\n{"text": "b"}'))
    assert read(rows) == ["a", "b"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_string_columns_of_any_width_are_read_without_nulls(tmp_path: Path, kind: Any) -> None:
    values = pa.array(["a", None, "", "b", " \n"], kind)
    pq.write_table(pa.table({"n": [1] * 5, "text": values}), tmp_path / "x.parquet")
    assert read(tmp_path / "x.parquet") == ["a", "b"]


def test_row_groups_are_shared_out_among_units(tmp_path: Path) -> None:
    table = pa.table({"body": pa.array([f"row {i}" for i in range(10)]).dictionary_encode()})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=3)
    expected = [f"row {i}" for i in range(10)]
    assert read(tmp_path / "x.parquet", unit_bytes=1, text="body") == expected


def test_parquet_without_rows_has_no_documents(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "x.parquet")
    assert read(tmp_path / "x.parquet") == []


# -- what is wrong ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "line 3: is not JSON"),
        (b"[" * 100_000, "line 3: is not JSON"),
        (b"[1]", "line 3: holds a list; expected an object"),
        (b'{"a": "x", "b": 1}', "line 3: has no key 'text' (keys: 'a', 'b')"),
        (b'{"text": 3}', "line 3: has a number under 'text'; expected a string"),
        (b'{"text": ["x"]}', "line 3: has a list under 'text'"),
        (b'{"text": "\\ud800"}', "line 3: has half a surrogate pair"),
        (b'{"text": "\xff"}', "line 3: has bytes that are not UTF-8"),
    ],
)
@pytest.mark.parametrize("unit_bytes", [10, 1 << 20])
def test_broken_row_is_named_by_file_and_line(
    tmp_path: Path, line: bytes, said: str, unit_bytes: int
) -> None:
    path = written(tmp_path, "x.jsonl", b'{"text": "a"}\n\n' + line + b'\n{"text": "b"}\n')
    with pytest.raises(DataError) as caught:
        read(path, unit_bytes)
    assert str(caught.value).startswith(f"{path}, {said}")


def test_null_and_surrogate_pairs_are_no_errors(tmp_path: Path) -> None:
    path = written(tmp_path, "x.jsonl", b'{"text": null}\n{"text": "\\ud83d\\ude00"}\n')
    assert read(path) == ["😀"]


@pytest.mark.parametrize("documents", ["line", "paragraph", "file"])
def test_text_that_is_not_utf8_is_named_by_line(tmp_path: Path, documents: str) -> None:
    path = written(tmp_path, "x.txt", b"one\ntwo\nthr\xe9e\n")
    with pytest.raises(DataError, match=r"x\.txt, line 3: has bytes that are not UTF-8"):
        read(path, documents=documents)


def test_truncated_gzip_is_an_error_not_a_short_text(tmp_path: Path) -> None:
    content = gzip.compress(b"".join(b"%d\n" % i for i in range(9999)))
    path = written(tmp_path, "x.txt.gz", content[:-100])
    with pytest.raises(DataError, match=r"x\.txt\.gz: cannot be read"):
        read(path, documents="line")


def test_missing_column_lists_the_columns_there_are(tmp_path: Path) -> None:
    pq.write_table(pa.table({"body": ["a"], "n": [1]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"column 'text'; its columns are body, n; set text:"):
        read(tmp_path / "x.parquet")
    with pytest.raises(DataError, match="column 'n' holds int64; expected string"):
        read(tmp_path / "x.parquet", text="n")


def test_damaged_parquet_page_names_file_and_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": ["abc" * 1000] * 50}), path, compression="gzip")
    content = bytearray(path.read_bytes())
    content[20:200] = b"\xff" * 180
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.parquet"):
        read(path)


# -- draws -----------------------------------------------------------------------------------------


def test_held_out_documents_stay_the_same_for_ever() -> None:
    held = [i for i in range(200) if is_held_out(f"document {i}", 0.05)]
    assert held == [45, 85, 95, 97, 103, 107, 112, 130, 140, 153, 155, 156, 157, 167, 180, 191]


def test_share_held_out_is_the_fraction_and_grows_with_it() -> None:
    documents = [f"document {i}" for i in range(20_000)]
    small = {text for text in documents if is_held_out(text, 0.05)}
    large = {text for text in documents if is_held_out(text, 0.10)}
    assert small < large
    assert len(small) == pytest.approx(1000, abs=100)  # three standard deviations: 92
    assert not any(is_held_out(text, 0.0) for text in documents)


def test_samples_of_two_seeds_and_the_held_out_are_independent() -> None:
    documents = [f"document {i}" for i in range(20_000)]
    first = {text for text in documents if is_sampled(text, 0.5, 1)}
    second = {text for text in documents if is_sampled(text, 0.5, 2)}
    assert len(first & second) == pytest.approx(5000, abs=200)
    assert sum(is_held_out(text, 0.5) for text in first) == pytest.approx(5000, abs=200)
    assert all(is_sampled(text, 1.0, 3) for text in documents)


# -- whole files, as a corpus reads them -----------------------------------------------------------


def read_corpus_file(path: Path, largest: int, unit_bytes: int) -> tuple[list[str], list[Damage]]:
    """The documents of a file of which each is one, and what was left out."""
    shard = Shard(str(path), "txt", path.stat().st_size)
    damages: list[Damage] = []
    texts = [
        document.text
        for unit in list_units([shard], unit_bytes)
        for document in read_documents(unit, config(), damages.append, largest)
    ]
    return texts, damages


def test_a_corpus_takes_a_file_as_one_document_however_it_is_cut(tmp_path: Path) -> None:
    text = "".join(f"line {i} 中文\n" for i in range(20_000))  # 350 kB
    path = written(tmp_path, "book.txt", BOM + text.encode())
    assert read_corpus_file(path, 1_000_000, 1 << 15) == ([text], [])
    assert len(read(path, documents="file")) > 1  # training never holds so much at once


def test_a_file_that_is_too_large_for_a_corpus_is_left_out_once(tmp_path: Path) -> None:
    path = written(tmp_path, "book.txt", b"0123456789\n" * 1000)
    texts, [damage] = read_corpus_file(path, 5000, 1 << 12)
    assert texts == []
    assert (damage.reason, damage.bytes) == ("too large", 11_000)
    assert "a document has 5000 at most; say documents: line or paragraph" in damage.detail

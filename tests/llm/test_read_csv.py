"""csv: quotes, line ends in fields, and rows that break the rules."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm.config import TextConfig
from llm.corpus_config import SourceConfig
from llm.damage import Damage
from llm.documents import read_documents, read_unit
from llm.errors import DataError
from llm.shards import list_shards, list_units


def read(
    folder: Path, content: bytes, largest: int | None = None, **options: Any
) -> tuple[list[tuple[str, str]], list[Damage]]:
    path = folder / "x.csv"
    path.write_bytes(content)
    config, damages = SourceConfig(shards=(str(path),), **options), []
    [unit] = list_units(list_shards(config.shards, "auto"), 10, config.encoding)
    documents = read_documents(unit, config, damages.append, largest)
    return [(document.place, document.text) for document in documents], damages


def reasons(damages: list[Damage]) -> list[tuple[str, str]]:
    return [(damage.reason, damage.place) for damage in damages]


fields = st.text(alphabet='a,"\n\r é中', max_size=8)


@given(st.lists(st.tuples(fields, fields), max_size=8), st.booleans())
@settings(max_examples=80, deadline=None)
def test_what_the_standard_library_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], quoted: bool
) -> None:
    file = io.StringIO()
    style = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    csv.writer(file, quoting=style).writerows([("n", "text"), *rows])
    found, damages = read(tmp_path_factory.mktemp("csv"), file.getvalue().encode())
    expected = [(str(i), text) for i, (_, text) in enumerate(rows) if text and not text.isspace()]
    assert found == expected
    assert {reason for reason, _ in reasons(damages)} <= {"empty"}
    assert len(found) + len(damages) == len(rows)


def test_broken_rows_cost_only_themselves(tmp_path: Path) -> None:
    content = b'n,text\n1,a\n2\n3,"b"c\n4,d,e\n\n5,\xff\n6,f\n7,"open\n'
    found, damages = read(tmp_path, content)
    assert found == [("0", "a"), ("5", "f")]
    assert reasons(damages) == [
        ("damaged record", "1"),
        ("damaged record", "2"),
        ("damaged record", "3"),
        ("invalid encoding", "4"),
        ("damaged record", "6"),
    ]
    assert damages[1].detail == "breaks the rules of csv: ',' expected after '\"' (line 4)"


def test_quote_that_is_never_closed_does_not_take_the_file_with_it(tmp_path: Path) -> None:
    line = b'1,"' + b"x" * 999 + b"\n"
    rows = b"2,b\n" * 100_000
    found, damages = read(tmp_path, b"n,text\n0,a\n" + line + rows, largest=100)
    assert found[0] == ("0", "a")
    assert found[1][1] == "b"
    assert [damage.reason for damage in damages] == ["too large"]
    lost = damages[0].bytes - 1003
    assert lost % 4 == 0
    assert len(found) == 1 + 100_000 - lost // 4
    assert damages[0].bytes < 6 * 100 + (64 << 10) + 10


def test_columns_are_found_by_name_and_a_mark_is_no_part_of_it(tmp_path: Path) -> None:
    content = "\ufefftext,name\nä,first\n".encode()
    assert read(tmp_path, content)[0] == [("0", "ä")]
    assert read(tmp_path, content, id="name")[0] == [("first", "ä")]
    assert read(tmp_path, content, text="name")[0] == [("0", "first")]
    found, damages = read(tmp_path, content, text="body")
    assert (found, reasons(damages)) == ([], [("no text", "0")])


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16", "big5", "utf-32-be"])
def test_csv_in_other_encodings(tmp_path: Path, encoding: str) -> None:
    content = 'text,n\n"床前明月光\n疑是地上霜",1\n舉頭望明月,2\n'.encode(encoding)
    found, damages = read(tmp_path, content, encoding=encoding)
    assert [text for _, text in found] == ["床前明月光\n疑是地上霜", "舉頭望明月"]
    assert damages == []


def test_error_names_the_row(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"text\na\nb,c\n")
    config = TextConfig(shards=(str(path),))
    [unit] = list_units(list_shards(config.shards, "auto"))
    with pytest.raises(DataError, match=r"x\.csv, row 1: has 2 fields; its first row names 1"):
        list(read_unit(unit, config))


def test_file_without_a_first_row_is_damaged(tmp_path: Path) -> None:
    found, damages = read(tmp_path, b'"a"b\nc\n')
    assert found == []
    assert [reason for reason, _ in reasons(damages)] == ["damaged record", "damaged file"]

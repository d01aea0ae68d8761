"""jsonl against the JSON parsing test suite: what must be JSON is, what must not be is not."""

from pathlib import Path

import pytest

from llm.config import TextConfig
from llm.damage import Damage
from llm.documents import read_documents
from llm.shards import list_shards, list_units

SUITE = "g_hostile/JSONTestSuite"


def read(folder: Path, content: bytes) -> tuple[list[str], list[Damage]]:
    path = folder / "x.jsonl"
    path.write_bytes(content)
    config, damages = TextConfig(shards=(str(path),)), []
    [unit] = list_units(list_shards(config.shards, "auto"))
    documents = read_documents(unit, config, damages.append)
    return [document.text for document in documents], damages


def row(value: bytes) -> bytes:
    """A row that holds a value beside its text."""
    return b'{"text": "before", "value": ' + value + b"}"


def test_suite_is_complete(shared_data: Path) -> None:
    kinds = [path.name[0] for path in (shared_data / SUITE).iterdir()]
    assert [kinds.count(kind) for kind in "yni"] == [95, 188, 35]


def test_rows_with_what_must_be_accepted_are_read(shared_data: Path, tmp_path: Path) -> None:
    paths = sorted((shared_data / SUITE).glob("y_*.json"))
    rows = [row(path.read_bytes().replace(b"\n", b" ")) for path in paths]
    texts, damages = read(tmp_path, b"\n".join(rows))
    assert damages == []
    assert texts == ["before"] * 95


def test_rows_with_what_must_be_refused_are_reported(shared_data: Path, tmp_path: Path) -> None:
    for path in sorted((shared_data / SUITE).glob("n_*.json")):
        content = row(path.read_bytes())
        texts, damages = read(tmp_path, content + b'\n{"text": "after"}')
        assert texts == ["after"], path.name
        reasons = [damage.reason for damage in damages]
        assert reasons[0] in ("invalid json", "invalid encoding"), path.name
        assert len(damages) == sum(bool(line.strip()) for line in content.split(b"\n")), path.name


def test_rows_with_what_is_undecided_are_read_or_reported(
    shared_data: Path, tmp_path: Path
) -> None:
    for path in sorted((shared_data / SUITE).glob("i_*.json")):
        texts, damages = read(tmp_path, row(path.read_bytes().replace(b"\n", b" ")))
        assert len(texts) + len(damages) == 1, path.name


def test_naughty_strings_come_back_unharmed(shared_data: Path, tmp_path: Path) -> None:
    import json

    strings = json.loads((shared_data / "g_hostile/blns.json").read_text())
    for escaped in (True, False):
        rows = [json.dumps({"text": text}, ensure_ascii=escaped) for text in strings]
        texts, damages = read(tmp_path, "\n".join(rows).encode())
        assert texts == [text for text in strings if text and not text.isspace()]
        assert {damage.reason for damage in damages} <= {"empty"}


@pytest.mark.parametrize("value", [b'"\\ud800"', b"1" * 4000, b"[" * 300 + b"]" * 300])
def test_what_only_the_fast_parser_refuses_costs_no_row(tmp_path: Path, value: bytes) -> None:
    assert read(tmp_path, row(value)) == (["before"], [])


def test_byte_order_mark_begins_a_file_only(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    texts, [damage] = read(tmp_path, mark + b'{"text": "a"}\n' + mark + b'{"text": "b"}\n')
    assert texts == ["a"]
    assert (damage.reason, damage.place) == ("invalid json", "17")

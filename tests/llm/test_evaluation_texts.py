"""Evaluation sets of any schema: all their strings, or an error."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llm.errors import DataError
from llm.evaluation_texts import evaluation_texts

ROW = {"question": "why", "choices": ["a", {"text": "b"}], "answer": 3, "hint": None}


def test_all_strings_of_json_count_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([ROW, {"q": "how"}]))
    (tmp_path / "b.jsonl").write_text(json.dumps(ROW) + "\n\n" + json.dumps("alone") + "\n")
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(json.dumps(ROW).encode()))
    texts = list(evaluation_texts((str(tmp_path),)))
    assert texts == ["why", "a", "b", "how", "why", "a", "b", "alone", "why", "a", "b"]


def test_lines_fields_and_columns_count(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\ufeffone\ntwo 二\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text('id,text\n1,"x,\ny"\n')
    table = pa.table({"n": [1], "q": ["up"], "c": [["l", "r"]]})
    pq.write_table(table, tmp_path / "c.parquet")
    texts = [text.strip() for text in evaluation_texts((str(tmp_path / "*"),))]
    assert texts == ["one", "two 二", "id", "text", "1", "x,\ny", "up", "l", "r"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b'{"q": "x"}\n{"q": \n'),
        ("a.json", b"[" * 100_000),
        ("a.txt", b"\xff\xfe"),
        ("a.jsonl.gz", gzip.compress(b'{"q": "x"}\n' * 999, mtime=0)[:-20]),
        ("a.parquet", b"PAR1"),
    ],
)
def test_a_damaged_set_is_an_error_that_names_it(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"decontaminate.shards: .*{name}.*cannot be read"):
        list(evaluation_texts((str(tmp_path / name),)))


def test_an_unknown_suffix_is_an_error_that_says_which_are_known(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("x")
    with pytest.raises(DataError, match=r"a\.tsv.*known are \.json, \.jsonl"):
        list(evaluation_texts((str(tmp_path),)))


def test_the_real_sets_are_read(shared_data: Path) -> None:
    texts = list(evaluation_texts((str(shared_data / "e_eval" / "*"),)))
    assert len(texts) > 20_000

"""Portions: what is read, cleaned and judged ends in a part or in the books."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from llm.clean import Cleaner
from llm.contamination import Grams
from llm.corpus_config import (
    C4Config,
    CharactersConfig,
    CleanConfig,
    CorpusConfig,
    DedupConfig,
    FilterConfig,
    NearConfig,
    SourceConfig,
)
from llm.documents import is_held_out
from llm.duplicates import Signer, exact_key
from llm.errors import DataError
from llm.filters import Filters
from llm.ledger import Ledger
from llm.parts import part_path, read_batches, summary_path
from llm.portions import PartMaker, Portion, Rules, portions_of, short_name
from llm.shards import Unit, list_shards, list_units


def config_of(folder: Path, **values: object) -> CorpusConfig:
    source = SourceConfig(shards=(str(folder),))
    return CorpusConfig(sources={"web": source}, **values)  # type: ignore[arg-type]


def make(config: CorpusConfig, work: Path, grams: Grams | None = None) -> dict:
    """The summary of the one portion that a source's files are."""
    work.mkdir(exist_ok=True)
    source = config.sources["web"]
    units = list_units(list_shards(source.shards, "auto"))
    rules = Rules(Cleaner(config.clean), Filters(config.filter), grams)
    portion = Portion("web", f"{source.shards[0]}/", tuple(units))
    return PartMaker(config, rules, 1, work).make(portion, 0)


def write(folder: Path, *lines: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "a.jsonl").write_text("".join(line + "\n" for line in lines))
    return folder


def text(value: str) -> str:
    return json.dumps({"text": value})


def rows(work: Path) -> list[dict]:
    return pq.read_table(part_path(work, 0)).to_pylist()


def test_units_are_gathered_into_portions_and_large_ones_stay_alone() -> None:
    mega = 1 << 20
    units = [Unit(f"/d/{n}", "txt", 0, size, size) for n, size in enumerate(
        [20 * mega, 12 * mega, 1, 40 * mega, 5, 6]
    )]  # fmt: skip
    found = list(portions_of("web", "/d/", units))
    assert [[unit.path for unit in portion.units] for portion in found] == [
        ["/d/0", "/d/1"], ["/d/2"], ["/d/3"], ["/d/4", "/d/5"]
    ]  # fmt: skip


def test_every_document_is_in_the_part_or_in_the_books(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "in", text("good text"), text("ab"), text(" \t "), "{", text("\u200b")
    )
    config = config_of(folder, filter=FilterConfig(characters=CharactersConfig(least=3)))
    summary = make(config, tmp_path / "work")
    ledger = Ledger.from_json(summary["ledger"])
    assert [row["text"] for row in rows(tmp_path / "work")] == ["good text"]
    assert summary["rows"] == 1
    assert {reason: amount.documents for reason, amount in ledger.dropped.items()} == {
        "characters.least": 1,
        "empty": 2,  # one is blank as it is read, one after cleaning
        "invalid json": 1,
    }
    ledger.train.add(len("good text"))
    ledger.check()


def test_a_part_holds_what_decides_the_fate_of_a_document(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", *(text(f"document number {n}") for n in range(40)))
    near = NearConfig(permutations=12, bands=4)
    config = config_of(folder, validation=0.5, dedup=DedupConfig(near=near))
    make(config, tmp_path / "work")
    (bands,) = next(read_batches(part_path(tmp_path / "work", 0), ["bands"]))
    expected = Signer(near).bands([f"document number {n}" for n in range(40)])
    assert np.array_equal(bands, expected)
    for row in rows(tmp_path / "work"):
        assert row["held_out"] == is_held_out(row["text"], 0.5)
        assert (row["key_high"], row["key_low"]) == exact_key(row["text"])
        assert row["bytes"] == len(row["text"])


def test_a_document_is_named_by_source_file_and_place(tmp_path: Path) -> None:
    write(tmp_path / "in", text("one"), text("two"))
    (tmp_path / "in" / "deep").mkdir()
    write(tmp_path / "in" / "deep", text("three"))
    make(config_of(tmp_path / "in"), tmp_path / "work")
    ids = [row["id"] for row in rows(tmp_path / "work")]
    assert ids == ["web/a.jsonl#0", "web/a.jsonl#16", "web/deep/a.jsonl#0"]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/d/x/a.txt", "web/x/a.txt"),
        ("s3://b/d/a.txt?endpoint_override=localhost:1", "s3://b/d/a.txt"),
        ("/elsewhere/a.txt", "/elsewhere/a.txt"),
        ("/d/\udcff.txt", "web/\\xff.txt"),
    ],
)
def test_names_can_be_written_down_and_hold_no_options(path: str, name: str) -> None:
    assert short_name("web", "/d/", path) == name


def test_cleaning_is_counted_and_shown_step_by_step(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", text("mail me@example.org \u200b now  \n"))
    clean = CleanConfig(emails=True)
    summary = make(config_of(folder, clean=clean), tmp_path / "work")
    changes = summary["ledger"]["changes"]
    assert {name: change["documents"] for name, change in changes.items()} == {
        "control characters": 1,
        "emails": 1,
        "white space": 1,
    }
    shown = {sample["name"]: (sample["before"], sample["after"]) for sample in summary["samples"]}
    assert shown["emails"] == ("mail me@example.org  now  \n", "mail <email>  now  \n")
    assert shown["white space"] == ("mail <email>  now  \n", "mail <email>  now")


def test_lines_that_c4_removes_count_as_cleaning(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", text("A sentence that stays.\nmenu\nAnother one of them."))
    rules = C4Config(least_sentences=None)
    summary = make(config_of(folder, filter=FilterConfig(c4=rules)), tmp_path / "work")
    assert rows(tmp_path / "work")[0]["text"] == "A sentence that stays.\nAnother one of them."
    assert summary["ledger"]["changes"]["lines removed by filters"]["changes"] == 1
    assert summary["ledger"]["removed_by_cleaning"] == len("menu\n")


def test_documents_with_evaluation_text_are_dropped(tmp_path: Path) -> None:
    known = "the quick brown fox jumps over the lazy dog again"
    folder = write(
        tmp_path / "in", text(f"They say {known.upper()}!"), text("The quick brown fox.")
    )
    summary = make(config_of(folder), tmp_path / "work", Grams([known], 10))
    assert [row["text"] for row in rows(tmp_path / "work")] == ["The quick brown fox."]
    assert summary["ledger"]["dropped"] == {"contaminated": {"documents": 1, "bytes": 59}}


def test_a_finished_part_is_not_made_again(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", text("one"))
    first = make(config_of(folder), tmp_path / "work")
    before = part_path(tmp_path / "work", 0).stat().st_mtime_ns
    (folder / "a.jsonl").write_text("{")
    units = (Unit(str(folder / "a.jsonl"), "jsonl", 0, 1, 1),)
    config = config_of(folder)
    rules = Rules(Cleaner(config.clean), Filters(config.filter), None)
    maker = PartMaker(config, rules, 1, tmp_path / "work")
    assert maker.make(Portion("web", "", units), 0) == first
    assert part_path(tmp_path / "work", 0).stat().st_mtime_ns == before


def test_a_part_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", text("one"), "{")
    with pytest.raises(DataError, match="is not JSON"):
        make(config_of(folder, bad_files="fail"), tmp_path / "work")
    assert list((tmp_path / "work").iterdir()) == []
    assert not summary_path(tmp_path / "work", 0).exists()


def test_what_is_no_damage_does_not_stop_a_strict_corpus(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", text("one"), text(""), text("x" * 500))
    config = config_of(folder, bad_files="fail", largest_document=100)
    summary = make(config, tmp_path / "work")
    assert set(summary["ledger"]["dropped"]) == {"empty", "too large"}
    assert summary["rows"] == 1

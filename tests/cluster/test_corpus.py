"""A corpus on Ray: what plain python makes of it, the same bytes on any cluster, after any fall."""

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cluster.corpus import make_corpus
from llm.clean import Cleaner
from llm.corpus_config import CorpusConfig, DecontaminateConfig, SourceConfig
from llm.documents import is_held_out
from llm.duplicates import Signer, exact_key, jaccard
from llm.errors import DataError
from llm.files import sha256
from tests.corpora import LEAST, PORTION_BYTES, config_of, write_corpus

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.ray


@pytest.fixture(autouse=True)
def small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny texts in many portions, of each of which something is said."""
    monkeypatch.setattr("cluster.corpus.BETWEEN_SAYS", 0.0)
    monkeypatch.setattr("cluster.corpus.PORTION_BYTES", PORTION_BYTES)


@pytest.fixture(scope="module")
def made(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus of tests/corpora.py: its files in `in`, what was made of them in `out`."""
    folder = tmp_path_factory.mktemp("corpus")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cluster.corpus.PORTION_BYTES", PORTION_BYTES)
        make(write_corpus(folder / "in"), folder / "out")
    return folder


def make(config: CorpusConfig, folder: Path, said: list[str] | None = None) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    return make_corpus(config, folder, 1, (said if said is not None else []).append)


def shards(folder: Path) -> dict[str, str]:
    """Digests of all shards."""
    return {f"{p.parent.name}/{p.name}": sha256(p) for p in sorted(folder.glob("*/*.parquet"))}


def texts(folder: Path, split: str, source: str = "*") -> list[str]:
    paths = sorted((folder / split).glob(f"{source}-*.parquet"))
    return [text for path in paths for text in pq.read_table(path)["text"].to_pylist()]


def ledger(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "ledger.json").read_text())


# -- against plain python --------------------------------------------------------------------------


def read_plainly(folder: Path) -> Iterator[tuple[str, str]]:
    """Sources and texts of tests/corpora.py that can be read, in the corpus' order."""
    for path in sorted((folder / "wiki").iterdir()):
        for line in path.read_text().splitlines():
            if line.startswith('{"'):
                yield "wiki", json.loads(line)["text"]
    for line in gzip.decompress((folder / "web" / "0.txt.gz").read_bytes()).decode().splitlines():
        yield "web", line


def survivors(folder: Path, config: CorpusConfig) -> dict[str, list[str]]:
    """What is left of each source, by comparing every document with every other."""
    near = config.dedup.near
    assert near is not None
    signer, cleaner = Signer(near), Cleaner(config.clean)
    documents = [(source, cleaner(text).text) for source, text in read_plainly(folder)]
    documents = [(source, text) for source, text in documents if len(text) >= LEAST]
    first = {exact_key(text): index for index, (_, text) in reversed([*enumerate(documents)])}
    unique = [documents[index] for index in sorted(first.values())]
    shingles = [signer.shingles(text) for _, text in unique]
    kept: dict[str, list[str]] = {"wiki": [], "web": []}
    for index, (source, text) in enumerate(unique):
        before = shingles[:index]
        if not any(jaccard(one, shingles[index]) >= near.threshold for one in before):
            kept[source].append(text)
    cap = config.sources["wiki"].cap
    assert cap is not None
    taken, size = set(), 0
    for text in sorted(kept["wiki"], key=lambda text: exact_key(text)[0]):
        size += len(text)
        taken |= {text} if size <= cap else set()
    kept["wiki"] = [text for text in kept["wiki"] if text in taken]
    return kept


def test_shards_hold_what_plain_python_keeps(made: Path) -> None:
    expected = survivors(made / "in", config_of(made / "in"))
    assert min(map(len, expected.values())) >= 20
    for source, kept in expected.items():
        validation = [text for text in kept if is_held_out(text, 0.1)]
        assert texts(made / "out", "validation", source) == validation
        assert texts(made / "out", "train", source) == [t for t in kept if t not in validation]


def test_the_books_tell_each_loss_by_its_name(made: Path) -> None:
    books = ledger(made / "out")
    wiki, web = books["sources"]["wiki"], books["sources"]["web"]
    assert wiki["read"]["documents"] == 123
    assert wiki["dropped"]["invalid json"]["documents"] == 3
    assert wiki["dropped"]["characters.least"]["documents"] == 1
    assert wiki["dropped"]["exact duplicate"]["documents"] == 1
    assert wiki["dropped"]["cap"]["documents"] > 10
    assert wiki["train"]["bytes"] + wiki["validation"]["bytes"] <= 14_000
    assert web["dropped"]["exact duplicate"]["documents"] == 1
    assert web["dropped"]["near duplicate"]["documents"] == 2
    assert web["dropped"]["damaged file"]["documents"] == 1
    assert [(one["file"], one["reason"]) for one in books["total"]["bad"]] == [
        ("wiki/0.jsonl", "invalid json"),
        ("wiki/1.jsonl", "invalid json"),
        ("wiki/2.jsonl", "invalid json"),
        ("web/1.txt.gz", "damaged file"),
    ]
    cleaned = web["changes"]["white space"]
    assert cleaned["documents"] == cleaned["changes"] == web["removed_by_cleaning"]


def test_documents_and_bytes_in_are_kept_plus_dropped(made: Path) -> None:
    for books in (*ledger(made / "out")["sources"].values(), ledger(made / "out")["total"]):
        amounts = [books["train"], books["validation"], *books["dropped"].values()]
        assert books["read"]["documents"] == sum(one["documents"] for one in amounts)
        bytes = sum(one["bytes"] for one in amounts) + books["removed_by_cleaning"]
        assert books["read"]["bytes"] == bytes


def test_the_manifest_is_true(made: Path) -> None:
    corpus = json.loads((made / "out" / "corpus.json").read_text())
    assert {one["path"]: one["sha256"] for one in corpus["shards"]} == shards(made / "out")
    for shard in corpus["shards"]:
        rows = pq.read_table(made / "out" / shard["path"]).to_pylist()
        assert shard["documents"] == len(rows)
        assert shard["bytes"] == sum(len(row["text"].encode()) for row in rows) <= 4_000
        assert {row["source"] for row in rows} == {shard["source"]}
        assert all(row["id"].startswith(f"{shard['source']}/") for row in rows)
    for name, source in corpus["sources"].items():
        of_split = [s for s in corpus["shards"] if s["path"].startswith(f"train/{name}-")]
        assert source["train"]["documents"] == sum(one["documents"] for one in of_split)
        assert source["train"]["bytes"] == ledger(made / "out")["sources"][name]["train"]["bytes"]
    assert len(corpus["shards"]) >= 6


def test_ids_are_unique_and_lead_back_to_the_text(made: Path) -> None:
    rows = [
        row
        for path in (made / "out").glob("*/*.parquet")
        for row in pq.read_table(path).to_pylist()
    ]
    assert len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        if row["source"] == "wiki":
            name, place = row["id"].removeprefix("wiki/").split("#")
            with open(made / "in" / "wiki" / name, "rb") as file:
                file.seek(int(place))
                assert json.loads(file.readline())["text"] == row["text"]


def test_copies_are_shown_beside_the_document_that_stays(made: Path) -> None:
    samples = [
        json.loads(line) for line in (made / "out" / "samples.jsonl").read_text().splitlines()
    ]
    near = [one for one in samples if one["name"] == "near duplicate"]
    assert {one["after"].split()[-1] for one in near}.isdisjoint({"tail", "end"})
    assert {one["before"].split()[-1] for one in near} == {"tail", "end"}
    assert {one["other"].partition("#")[0] for one in near} == {"wiki/0.jsonl"}
    assert {one["kind"] for one in samples} == {"changed", "dropped", "kept"}


def test_what_was_made_on_the_way_is_removed(made: Path) -> None:
    assert sorted(path.name for path in (made / "out").iterdir()) == [
        "README.md", "corpus.json", "ledger.json", "report.html", "samples.jsonl",
        "train", "validation",
    ]  # fmt: skip


def test_a_finished_corpus_is_not_made_again(made: Path) -> None:
    before = shards(made / "out")
    said: list[str] = []
    figures = make(config_of(made / "in"), made / "out", said)
    assert not said
    assert shards(made / "out") == before
    assert figures["documents"] == ledger(made / "out")["total"]["read"]["documents"]


def test_the_cut_into_portions_changes_nothing(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.corpus.PORTION_BYTES", 1 << 20)
    monkeypatch.setattr("cluster.dedup.GROUP_BYTES", 100)
    monkeypatch.setattr("cluster.dedup.BUCKET_BYTES", 1_000)
    make(config_of(made / "in"), tmp_path / "out")
    assert shards(tmp_path / "out") == shards(made / "out")
    for name in ("ledger.json", "README.md", "corpus.json", "samples.jsonl", "report.html"):
        assert (tmp_path / "out" / name).read_bytes() == (made / "out" / name).read_bytes()


# -- other clusters, falls -------------------------------------------------------------------------


def run_alone(folder: Path, cpus: int, last_words: str = "") -> int:
    """Make folder/in's corpus in a process with its own cluster; the exit code."""
    command = [
        sys.executable,
        "-m",
        "tests.corpora",
        str(folder),
        str(cpus),
        *filter(None, [last_words]),
    ]
    return subprocess.run(command, cwd=ROOT, timeout=300, capture_output=True).returncode


@pytest.mark.parametrize("last_words", ["read 2/", "found exact", "comparing", "wrote 1/"])
def test_what_goes_on_after_a_fall_ends_as_if_nothing_had_been(
    made: Path, tmp_path: Path, last_words: str
) -> None:
    def fall(line: str) -> None:
        if line.startswith(last_words):
            raise ZeroDivisionError

    config = config_of(made / "in")
    (tmp_path / "out").mkdir()
    with pytest.raises(ZeroDivisionError):
        make_corpus(config, tmp_path / "out", 1, fall)
    make(config, tmp_path / "out")
    assert shards(tmp_path / "out") == shards(made / "out")
    assert ledger(tmp_path / "out") == ledger(made / "out")


@pytest.mark.slow
@pytest.mark.long
def test_one_cpu_and_a_driver_killed_twice_leave_no_trace_in_the_bytes(
    made: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").symlink_to(made / "in")
    for last_words in ("read 1/", "wrote 2/"):
        assert run_alone(tmp_path, 3, last_words) == 9
        assert (tmp_path / "out" / "work").exists()
        assert not (tmp_path / "out" / "corpus.json").exists()
    assert run_alone(tmp_path, 1) == 0
    assert shards(tmp_path / "out") == shards(made / "out")


# -- what a spec can ask for -----------------------------------------------------------------------


def one_source(folder: Path, *lines: str, **values: Any) -> CorpusConfig:
    folder.mkdir(exist_ok=True)
    (folder / "a.txt").write_text("".join(line + "\n" for line in lines))
    source = SourceConfig(shards=(str(folder),), documents="line")
    return CorpusConfig(sources={"web": source}, **{"validation": 0.0} | values)


def test_bad_files_are_an_error_if_the_spec_says_so(
    ray_cluster: None, made: Path, tmp_path: Path
) -> None:
    strict = replace(config_of(made / "in"), bad_files="fail")
    with pytest.raises(DataError, match=r"wiki/0\.jsonl.*is not JSON"):
        make(strict, tmp_path / "out")


def test_a_corpus_with_nothing_left_says_which_rules_took_it(
    ray_cluster: None, tmp_path: Path
) -> None:
    config = one_source(tmp_path / "in", "one", "one", "two", validation=0.999)
    with pytest.raises(
        DataError, match=r"left to train on: of 3 documents 1 were .*'exact dup.*2 are held out"
    ):
        make(config, tmp_path / "out")


def test_evaluation_text_is_left_out(ray_cluster: None, tmp_path: Path) -> None:
    question = "which of these many small birds can fly backwards at night"
    (tmp_path / "test.jsonl").write_text(json.dumps({"q": question, "a": "the hummingbird"}))
    config = one_source(
        tmp_path / "in", f"someone asked {question}", "the hummingbird can fly backwards",
        decontaminate=DecontaminateConfig(shards=(str(tmp_path / "test.jsonl"),), ngram=8),
    )  # fmt: skip
    make(config, tmp_path / "out")
    assert texts(tmp_path / "out", "train") == ["the hummingbird can fly backwards"]
    assert ledger(tmp_path / "out")["total"]["dropped"]["contaminated"]["documents"] == 1


def test_a_plan_that_changed_begins_anew(ray_cluster: None, tmp_path: Path) -> None:
    (tmp_path / "out" / "train").mkdir(parents=True)
    (tmp_path / "out" / "train" / "web-00000.parquet").write_bytes(b"of another plan")
    (tmp_path / "out" / "work").mkdir()
    (tmp_path / "out" / "work" / "000000.json").write_text("{}")
    (tmp_path / "out" / "work" / "plan").write_text("another")
    make(one_source(tmp_path / "in", "one", "two"), tmp_path / "out")
    assert texts(tmp_path / "out", "train") == ["one", "two"]


def test_a_new_shard_moves_no_document_between_train_and_validation(
    ray_cluster: None, tmp_path: Path
) -> None:
    lines = [f"line number {number}" for number in range(200)]
    make(one_source(tmp_path / "in", *lines, validation=0.3), tmp_path / "one")
    (tmp_path / "in" / "0.txt").write_text("a new line\n" * 2)
    make(one_source(tmp_path / "in", *lines, validation=0.3), tmp_path / "two")
    for split in ("train", "validation"):
        assert set(texts(tmp_path / "one", split)) <= set(texts(tmp_path / "two", split))
    assert 30 < len(texts(tmp_path / "one", "validation")) < 90


def test_a_source_of_damaged_files_is_an_error_that_names_them(
    ray_cluster: None, tmp_path: Path
) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not really")
    source = SourceConfig(shards=(str(tmp_path / "a.parquet"),))
    with pytest.raises(DataError, match=r"of 1 documents 1 were dropped \(1 by 'damaged file'\)"):
        make(CorpusConfig(sources={"web": source}), tmp_path / "out")

"""A corpus in a spec: groups of rules, paths, and every mistake with its line and a remedy."""

import re
from pathlib import Path

import pytest

from jobs.load import load
from jobs.stages import CorpusStage
from llm.corpus_config import GopherConfig
from llm.errors import SpecError

CORPUS = """\
name: clean
stages:
  corpus:
    kind: corpus
    sources:
      web: {shards: web/*.warc.gz}
    filter:
      gopher: {}
      words: {file: bad.txt}
    decontaminate: {shards: [evaluation, s3://b/c]}
  tokenizer: {kind: tokenizer, corpus: corpus}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "x.yaml").write_text(CORPUS)
    return tmp_path / "x.yaml"


def loaded(file: Path, *overrides: str) -> CorpusStage:
    corpus = load(str(file), overrides).stages["corpus"]
    assert isinstance(corpus, CorpusStage)
    return corpus


def complaints(file: Path, *overrides: str) -> list[str]:
    """What is wrong, without the folder of the file."""
    with pytest.raises(SpecError) as error:
        load(str(file), overrides)
    return [re.sub(r"^/.*/", "", line) for line in str(error.value).split("\n")]


def test_a_group_of_rules_is_on_if_it_is_mentioned_and_null_turns_it_off(file: Path) -> None:
    corpus = loaded(file, "stages.corpus.filter.gopher.stop_words=null")
    assert corpus.filter.gopher == GopherConfig(stop_words=None)
    assert corpus.filter.c4 is None and corpus.dedup.near is None
    off = loaded(file, "stages.corpus.filter.gopher=null")
    assert off.filter.gopher is None


def test_all_paths_of_a_corpus_start_from_where_they_are_written(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    more = "stages.corpus.sources.wiki={shards: [wiki, pydoc]}"
    corpus = loaded(file, more)
    assert corpus.sources["web"].shards == (str(tmp_path / "web/*.warc.gz"),)
    assert corpus.sources["wiki"].shards == (str(here / "wiki"), str(here / "pydoc"))
    assert corpus.filter.words and corpus.filter.words.file == str(tmp_path / "bad.txt")
    assert corpus.decontaminate
    assert corpus.decontaminate.shards == (str(tmp_path / "evaluation"), "s3://b/c")


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        (
            "stages.corpus.filter.gophr={}",
            "stages.corpus.filter.gophr: unknown key; did you mean 'gopher'? "
            "allowed: characters, language, gopher, repetition, c4, words",
        ),
        (
            "stages.corpus.filter.gopher.stopwords=3",
            "stages.corpus.filter.gopher.stopwords: unknown key; did you mean 'stop_words'? ",
        ),
        (
            "stages.corpus.sources.web.shard=a",
            "stages.corpus.sources.web.shard: unknown key; did you mean 'shards'? ",
        ),
        (
            "stages.corpus.filter.gopher.stop_words=-1",
            "stages.corpus.filter.gopher.stop_words: -1 is not allowed; "
            "must be a whole number of at least 0 or null",
        ),
        (
            "stages.corpus.dedup.near=true",
            "stages.corpus.dedup.near: true is not allowed; must be a mapping with the keys "
            "threshold, ngram, permutations, bands, seed, {} for all defaults, or null",
        ),
        (
            "stages.corpus.filter={c4: true}",
            "stages.corpus.filter.c4: true is not allowed; must be a mapping with the keys ",
        ),
        (
            "stages.corpus.sources=[a]",
            'stages.corpus.sources: ["a"] is not allowed; must be a mapping of names, at least one',
        ),
        (
            "stages.corpus.sources.wiki={text: body}",
            "stages.corpus.sources.wiki.shards: missing: Files, folders, globs or URIs",
        ),
        (
            "stages.corpus.threshold=0.5",
            "stages.corpus.threshold: unknown key; it belongs under stages.corpus.filter",
        ),
        (
            "stages.tokens={kind: tokens}",
            "stages.tokens.kind: 'tokens' is not allowed; write `cache: true` in the pretrain "
            "stage that reads them",
        ),
    ],
)
def test_a_mistake_in_a_corpus_is_one_line_too(file: Path, override: str, complaint: str) -> None:
    [line] = complaints(file, override)
    assert line.startswith(f"command line: {override}: {complaint}")


def test_an_empty_group_of_rules_in_a_file_is_not_silently_off(file: Path) -> None:
    file.write_text(CORPUS.replace("gopher: {}", "gopher:"))
    assert complaints(file) == [
        "x.yaml:8: stages.corpus.filter.gopher: an empty group of rules would be off; "
        "write {} for all its defaults, or leave the key out"
    ]

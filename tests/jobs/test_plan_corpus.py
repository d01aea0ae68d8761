"""Plans with a corpus: what it is made of, what runs again when, tokens that are kept, epochs."""

import io
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from rich.console import Console

from jobs.facts import Facts, SourceFacts, Text, gather
from jobs.graph import order
from jobs.load import load
from jobs.plan import resolve
from jobs.planned import Plan, StagePlan
from jobs.show import show
from jobs.spec import Spec
from jobs.stages import PretrainStage
from llm import shards
from llm.errors import DataError

SPEC = """\
name: small
seed: 7
stages:
  corpus:
    kind: corpus
    sources:
      web: {shards: web.jsonl, weight: 1}
      wiki: {shards: wiki.txt, weight: 3, cap: 500}
    filter:
      gopher: {stop_words: null}
      words: {file: bad.txt}
    dedup: {near: {threshold: 0.7}}
    decontaminate: {shards: evaluation.json}
  tokenizer: {kind: tokenizer, corpus: corpus, vocab_size: 1000}
  pretrain:
    {kind: pretrain, corpus: corpus, tokenizer: tokenizer, model: {depth: 2}, steps: 100, batch: 12}
  generate: {kind: generate, from: pretrain, prompts: Once}
"""

UNWEIGHTED = ["stages.corpus.sources.web.weight=null", "stages.corpus.sources.wiki.weight=null"]
EPOCHS = [*UNWEIGHTED, "stages.pretrain.steps=auto", "stages.pretrain.epochs=3"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spec and its files, as the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_text(SPEC)
    Path("web.jsonl").write_text('{"text": "a page"}\n' * 50)  # 950 bytes
    Path("wiki.txt").write_text("an article\n" * 100)  # 1,100 bytes
    Path("bad.txt").write_text("unwanted\n")
    Path("evaluation.json").write_text('["a question"]')
    return tmp_path


def finish(plan: Plan, *names: str, **metrics: Any) -> None:
    """Put down the manifests of finished stages, as jobs.run does."""
    for name in names:
        stage = plan.by_name[name]
        assert stage.folder
        stage.folder.mkdir(parents=True)
        manifest = {**stage.manifest, "metrics": metrics}
        (stage.folder / "manifest.json").write_text(json.dumps(manifest))


def spec(*overrides: str) -> Spec:
    return load("x.yaml", overrides)


def planned(*overrides: str, rows: int | None = None) -> Plan:
    facts = gather(spec(*overrides))
    if rows is not None:
        facts = replace(facts, count_rows=lambda folder, context, seed, epochs: rows)
    return resolve(spec(*overrides), facts)


def reason(name: str, *overrides: str) -> str:
    stage = planned(*overrides).by_name[name]
    return f"{stage.status}: {stage.reason}"


def trained(plan: Plan) -> PretrainStage:
    stage = plan.by_name["pretrain"].stage
    assert isinstance(stage, PretrainStage)
    return stage


# -- corpus ----------------------------------------------------------------------------------------


def test_everything_is_planned_before_the_corpus_is_made() -> None:
    plan = planned()
    assert [stage.name for stage in plan.stages] == ["corpus", "tokenizer", "pretrain", "generate"]
    assert all(stage.fingerprint for stage in plan.stages)
    assert plan.by_name["pretrain"].parents == {
        "tokenizer": plan.by_name["tokenizer"].fingerprint,
        "corpus": plan.by_name["corpus"].fingerprint,
    }


def test_the_same_files_elsewhere_are_the_same_corpus(folder: Path) -> None:
    before = planned().by_name["corpus"].fingerprint
    (folder / "other").mkdir()
    for name in ("web.jsonl", "wiki.txt", "bad.txt", "evaluation.json", "x.yaml"):
        (folder / name).rename(folder / "other" / name)
    plan = load("other/x.yaml", ["name=other", "cluster.workers=3"])
    assert resolve(plan, gather(plan)).by_name["corpus"].fingerprint == before


@pytest.mark.parametrize(
    ("file", "reason_given"),
    [
        ("web.jsonl", "the text of source 'web' has changed"),
        ("bad.txt", "the list of words has changed"),
        ("evaluation.json", "the evaluation text has changed"),
    ],
)
def test_another_file_makes_another_corpus(file: str, reason_given: str) -> None:
    finish(planned(), "corpus", "tokenizer")
    Path(file).write_text('{"text": "something else"}\n')
    assert reason("corpus") == f"will run: {reason_given}"
    assert reason("tokenizer") == "will run: 'corpus' will run"


def test_a_rule_or_the_size_of_shards_makes_another_corpus() -> None:
    finish(planned(), "corpus")
    changes = ["stages.corpus.dedup.near.threshold=0.9", "stages.corpus.shard_bytes=1000"]
    assert reason("corpus", *changes) == (
        "will run: dedup.near.threshold 0.7 -> 0.9; shard_bytes 256000000 -> 1000"
    )


def test_of_two_copies_the_first_stays_so_the_order_of_sources_counts() -> None:
    finish(planned(), "corpus")
    text = Path("x.yaml").read_text()
    lines = text.split("\n")
    lines[6], lines[7] = lines[7], lines[6]
    Path("x.yaml").write_text("\n".join(lines))
    assert reason("corpus") == 'will run: sources.order ["web","wiki"] -> ["wiki","web"]'


def test_another_mixture_trains_again_and_cleans_nothing_again() -> None:
    finish(planned(), "corpus", "tokenizer", "pretrain")
    other = "stages.corpus.sources.web.weight=2"
    assert reason("corpus", other).startswith("cached")
    assert reason("tokenizer", other).startswith("cached")
    assert reason("pretrain", other) == "will run: sources.weights.web 1.0 -> 2.0"


def test_weights_where_none_were_are_named() -> None:
    finish(planned(*UNWEIGHTED), "corpus", "tokenizer", "pretrain")
    told = "will run: sources.weights.web null -> 1.0; sources.weights.wiki null -> 3.0"
    assert reason("pretrain") == told


def test_text_from_data_in_place_of_a_corpus_is_named() -> None:
    finish(planned(), "corpus", "tokenizer", "pretrain")
    changes = ["data.shards=wiki.txt", "stages.pretrain.corpus=null"]
    told = reason("pretrain", *changes)
    assert told == "will run: the text is that of data now; the text has changed"


def test_data_that_nobody_reads_is_not_looked_for() -> None:
    plan = planned("data.shards=none.txt", "data.validation.tokens=99")
    assert plan.by_name["pretrain"].data["validation_tokens"] == 99


def test_a_missing_source_is_named_with_its_line_and_a_remedy() -> None:
    Path("wiki.txt").unlink()
    path = r"stages\.corpus\.sources\.wiki\.shards"
    with pytest.raises(DataError, match=rf"x\.yaml:8: {path}: .* or run with {path}=PATH"):
        planned()


def test_a_file_that_cannot_be_opened_stops_the_plan_only_where_it_is_to_fail() -> None:
    Path("many").mkdir()
    Path("many/a.txt").write_text("an article\n")
    os.mkfifo("many/b.txt")
    many = "stages.corpus.sources.wiki.shards=many"
    assert planned(many).by_name["corpus"].source_bytes["wiki"] == 11
    with pytest.raises(DataError, match=r"sources\.wiki\.shards: .*b\.txt: is not a regular file"):
        planned(many, "stages.corpus.bad_files=fail")


def test_a_file_without_read_permission_stops_the_plan_only_where_it_is_to_fail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def locked(path: str) -> BinaryIO:
        if path.endswith("wiki.txt"):
            raise PermissionError(13, "Permission denied", path)
        return open(path, "rb")

    before = planned().by_name["corpus"].fingerprint
    monkeypatch.setattr(shards, "open_file", locked)
    assert planned().by_name["corpus"].fingerprint not in (None, before)
    with pytest.raises(DataError, match=r"sources\.wiki\.shards: .*cannot be read: .*Permission"):
        planned("stages.corpus.bad_files=fail")


def test_a_missing_word_list_or_evaluation_file_is_named() -> None:
    Path("bad.txt").unlink()
    with pytest.raises(DataError, match=r"filter\.words\.file: .*bad\.txt cannot be read: .*word"):
        planned()
    Path("bad.txt").write_text("a\n")
    Path("evaluation.json").write_text("")
    with pytest.raises(DataError, match=r"decontaminate\.shards: .*no file with text in it"):
        planned()


def test_the_text_of_a_corpus_is_that_of_its_files_until_it_is_made() -> None:
    assert planned().by_name["pretrain"].text_bytes == 950 + 1100
    finish(planned(), "corpus", train_documents=7, train_bytes=123)
    assert planned().by_name["pretrain"].text_bytes == 123


# -- tokens ----------------------------------------------------------------------------------------


def test_trainings_on_the_same_text_share_its_tokens() -> None:
    second = "{kind: pretrain, corpus: corpus, tokenizer: tokenizer, cache: true}"
    made = spec("stages.pretrain.cache=true", f"stages.other={second}")
    names = ["corpus", "tokenizer", "corpus.tokenizer", "pretrain", "other", "generate"]
    assert sorted(order(made.stages)) == sorted(names)
    assert order(made.stages).index("corpus.tokenizer") == 2


def test_kept_tokens_do_not_change_what_is_trained() -> None:
    with_cache = planned("stages.pretrain.cache=true")
    assert trained(with_cache).cache is True
    assert trained(planned()).cache is False
    fingerprints = {stage.name: stage.fingerprint for stage in with_cache.stages}
    assert fingerprints.pop("corpus.tokenizer")
    assert fingerprints == {stage.name: stage.fingerprint for stage in planned().stages}


def test_tokens_are_not_made_for_a_training_that_is_finished() -> None:
    finish(planned(), "corpus", "tokenizer", "pretrain", "generate")
    plan = planned("stages.pretrain.cache=true")
    tokens = plan.by_name["corpus.tokenizer"]
    assert (tokens.status, tokens.reason) == ("not needed", "'pretrain' made before")
    assert plan.next is None
    longer = planned("stages.pretrain.cache=true", "stages.pretrain.steps=200")
    assert longer.next is longer.by_name["corpus.tokenizer"]


def test_tokens_do_not_depend_on_how_much_text_measures_the_model() -> None:
    def tokens(*overrides: str) -> str | None:
        more = ("stages.pretrain.cache=true", "data.shards=none", *overrides)
        return planned(*more).by_name["corpus.tokenizer"].fingerprint

    assert tokens() == tokens("data.validation.tokens=9") == tokens("stages.pretrain.steps=7")
    assert tokens() != tokens("stages.tokenizer.vocab_size=900")


def test_epochs_have_a_length_once_the_text_is_tokenised() -> None:
    plan = planned(*EPOCHS)
    assert [stage.name for stage in plan.stages][2] == "corpus.tokenizer"
    assert reason("pretrain", *EPOCHS) == "will run: 'corpus.tokenizer' will run"
    finish(plan, "corpus", "tokenizer", "corpus.tokenizer", tokens=5000)
    stage = trained(planned(*EPOCHS, rows=121))
    assert (stage.epochs, stage.batch, stage.steps) == (3, 12, 11)  # 121 rows / 12 = 10.1
    assert stage.tokens == 11 * 12 * 512
    assert stage.cache is True


def test_the_rows_are_counted_for_context_seed_and_epochs_in_the_tokens_folder() -> None:
    plan = planned(*EPOCHS)
    finish(plan, "corpus", "tokenizer", "corpus.tokenizer")
    asked: list[tuple[object, ...]] = []

    def count(*arguments: object) -> int:
        asked.append(arguments)
        return 24

    resolve(spec(*EPOCHS), replace(gather(spec(*EPOCHS)), count_rows=count))
    assert asked == [(plan.by_name["corpus.tokenizer"].folder, 512, 7, 3)]


def test_the_batch_of_epochs_follows_their_tokens() -> None:
    more = [*EPOCHS, "stages.pretrain.batch=auto"]
    finish(planned(*more), "corpus", "tokenizer", "corpus.tokenizer")
    # N = 554,624, D = 2,000 x 512, C = 6 N D = 3.41e12: 0.292 C^0.3271 = 3,680 tokens, 7.2 rows
    stage = trained(planned(*more, rows=2000))
    assert (stage.batch, stage.steps) == (8, 250)


# -- looks -----------------------------------------------------------------------------------------


def printed(plan: Plan) -> str:
    out = io.StringIO()
    show(plan, Console(file=out, width=80))
    return out.getvalue()


def test_the_plan_names_sources_and_rules_in_80_columns() -> None:
    text, _, command = printed(planned(*EPOCHS)).rpartition("Next: ")
    assert max(map(len, text.split("\n"))) <= 80
    assert command.startswith("python -m jobs run x.yaml ")
    joined = " ".join(text.split())
    assert "sources web: 950 B wiki: 1.1 kB, 500 B at most" in joined
    assert "filters gopher (without stop_words), words" in joined
    assert "duplicates equal ones and those 70% alike (runs of 5 words) are dropped" in joined
    assert "documents that share 13 words in a row with it are dropped" in joined
    assert "tokenised once for pretrain" in joined
    assert "training its length is known after 'corpus.tokenizer'" in joined


def test_weights_are_shown_as_shares() -> None:
    joined = " ".join(printed(planned()).split())
    assert "web: 950 B, 25% of the training tokens wiki: 1.1 kB, 75% of" in joined


def test_a_finished_corpus_tells_what_it_holds_and_needs_no_next_command() -> None:
    only = "stages={corpus: {kind: corpus, sources: {web: {shards: web.jsonl}}}}"
    finish(planned(only), "corpus", train_documents=7, train_bytes=123)
    text = printed(planned(only))
    assert "result 7 documents to train on, 123 B" in " ".join(text.split())
    assert text.endswith("\nAll stages are done.\n")


def test_a_stage_plan_keeps_what_the_file_says() -> None:
    facts = Facts(4, corpora={"corpus": SourceFacts({"web": Text(1, "a"), "wiki": Text(2, "b")})})
    made = spec("stages.corpus.filter.words=null", "stages.corpus.decontaminate=null")
    plan: StagePlan = resolve(made, facts).by_name["corpus"]
    assert plan.written is made.stages["corpus"]
    assert plan.data == {"sources": {"web": "a", "wiki": "b"}, "order": ["web", "wiki"]}

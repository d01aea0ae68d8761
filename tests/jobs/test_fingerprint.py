"""What makes another result has another fingerprint, and nothing else has."""

from dataclasses import replace
from typing import Any

import pytest

from jobs.fingerprint import differences, fingerprint, meaningful
from jobs.kinds import as_json
from jobs.stages import (
    AnyStage,
    CorpusStage,
    GenerateStage,
    PretrainStage,
    TokenizerStage,
    TokensStage,
)
from llm.config import CheckpointConfig, KeepConfig, OptimConfig, SamplingConfig
from llm.corpus_config import (
    DecontaminateConfig,
    DedupConfig,
    FilterConfig,
    SourceConfig,
    WordsConfig,
)

PRETRAIN = PretrainStage(kind="pretrain", tokenizer="tokenizer", steps=10, batch=2)
GENERATE = GenerateStage(kind="generate", from_="pretrain", prompts=("a",))
TOKENIZER = TokenizerStage(kind="tokenizer")
WEB = SourceConfig(shards=("web/*.warc.gz",), weight=1.0)
CORPUS = CorpusStage(
    kind="corpus",
    sources={"web": WEB},
    filter=FilterConfig(words=WordsConfig(file="words.txt")),
    decontaminate=DecontaminateConfig(shards=("evaluation",)),
)


def of(stage: AnyStage = PRETRAIN, digest: str = "d", seed: int = 1, **parents: str) -> str:
    return fingerprint(stage, parents or {"tokenizer": "t"}, {"digest": digest}, seed)


def test_it_is_twelve_hex_digits_and_stays_the_same_for_ever() -> None:
    assert of() == of() == "c3b94d83708b"  # if this changes, everybody's runs start anew
    assert len(of()) == 12


@pytest.mark.parametrize(
    "changes",
    [
        {"log_every": 7},
        {"validate_every": 7},
        {"micro_batch": 1},
        {"checkpoint": CheckpointConfig(every=3, keep=KeepConfig(last=9), mirror="s3://b")},
        {"prompt": "other"},
        {"tokenizer": "another-name"},
        {"corpus": "another-name"},
        {"cache": True},
    ],
)
def test_what_changes_no_result_is_not_in_it(changes: dict[str, Any]) -> None:
    assert of(replace(PRETRAIN, **changes)) == of()


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 11},
        {"batch": 4},
        {"precision": "bf16"},
        {"optim": OptimConfig(lr=0.1)},
        {"epochs": 2},
        {"short_start": 2},
        {"model": replace(PRETRAIN.model, depth=1)},
        {"model": replace(PRETRAIN.model, attend="document")},
    ],
)
def test_what_changes_the_result_is_in_it(changes: dict[str, Any]) -> None:
    assert of(replace(PRETRAIN, **changes)) != of()


def test_seed_parents_and_content_are_in_it() -> None:
    assert len({of(), of(seed=2), of(digest="e"), of(tokenizer="u")}) == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"sources": {"web": replace(WEB, shards=("/elsewhere/web",))}},
        {"sources": {"web": replace(WEB, weight=0.5)}},
        {"filter": FilterConfig(words=WordsConfig(file="/elsewhere/words.txt"))},
        {"decontaminate": DecontaminateConfig(shards=("/elsewhere",))},
    ],
)
def test_neither_paths_nor_weights_change_a_corpus(changes: dict[str, Any]) -> None:
    assert of(replace(CORPUS, **changes)) == of(CORPUS)


@pytest.mark.parametrize(
    "changes",
    [
        {"sources": {"wiki": WEB}},
        {"sources": {"web": replace(WEB, cap=9)}},
        {"sources": {"web": replace(WEB, id="url")}},
        {"filter": FilterConfig(words=WordsConfig(file="words.txt", most=1))},
        {"filter": FilterConfig()},
        {"decontaminate": None},
        {"dedup": DedupConfig(exact=False)},
        {"shard_bytes": 1000},
        {"bad_files": "fail"},
    ],
)
def test_rules_sources_and_the_size_of_shards_change_a_corpus(changes: dict[str, Any]) -> None:
    assert of(replace(CORPUS, **changes)) != of(CORPUS)


def test_a_foreign_tokenizer_is_its_content() -> None:
    one = replace(TOKENIZER, file="/a/x.model")
    two = replace(TOKENIZER, file="/b/y.model")
    assert of(one) == of(two)
    assert of(one) != of(one, digest="e")


def test_tokens_are_named_by_text_and_tokenizer_alone() -> None:
    one = TokensStage(tokenizer="a", corpus="b")
    assert meaningful(as_json(one)) == {"kind": "tokens"}
    assert of(one, tokenizer="t", corpus="c") != of(one, tokenizer="t", corpus="d")


def test_generated_text_depends_on_sampling() -> None:
    assert of(replace(GENERATE, sampling=SamplingConfig(seed=3))) != of(GENERATE)


def test_differences_are_told_by_path() -> None:
    assert list(differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "d": 4})) == [
        "a.b 1 -> 3",
        "c 2 -> null",
        "d null -> 4",
    ]
    assert list(differences({"betas": [0.9, 0.95]}, {"betas": (0.9, 0.95)})) == []

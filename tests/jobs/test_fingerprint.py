"""What makes another result has another fingerprint, and nothing else has."""

from dataclasses import replace
from typing import Any

import pytest

from jobs.fingerprint import differences, fingerprint, text_of
from jobs.spec import GenerateStage, PretrainStage, TokenizerStage
from llm.config import CheckpointConfig, DataConfig, OptimConfig, SamplingConfig, ValidationConfig

DATA = DataConfig(shards=("a.txt",))
PRETRAIN = PretrainStage(kind="pretrain", tokenizer="tokenizer", steps=10, batch=2)
TOKENIZER = TokenizerStage(kind="tokenizer")
GENERATE = GenerateStage(kind="generate", from_="pretrain", prompts=("a",))


def of(
    stage: PretrainStage | TokenizerStage | GenerateStage = PRETRAIN,
    data: DataConfig = DATA,
    digest: str = "d",
    seed: int = 1,
    **parents: str,
) -> str:
    text = text_of(stage, data, digest, "h")
    return fingerprint(stage, parents or {"tokenizer": "t"}, text, seed)


def test_it_is_twelve_hex_digits_and_stays_the_same_for_ever() -> None:
    assert of() == of() == "8eddce925d1f"  # if this changes, everybody's runs start anew
    assert len(of()) == 12


@pytest.mark.parametrize(
    "changes",
    [
        {"log_every": 7},
        {"validate_every": 7},
        {"micro_batch": 1},
        {"checkpoint": CheckpointConfig(every=3, keep=9)},
        {"prompt": "other"},
        {"tokenizer": "another-name"},
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
        {"model": replace(PRETRAIN.model, depth=1)},
    ],
)
def test_what_changes_the_result_is_in_it(changes: dict[str, Any]) -> None:
    assert of(replace(PRETRAIN, **changes)) != of()


def test_seed_parents_and_content_are_in_it() -> None:
    assert len({of(), of(seed=2), of(digest="e"), of(tokenizer="u")}) == 4


def test_paths_are_not_in_it_but_how_text_is_read_is() -> None:
    assert of(data=replace(DATA, shards=("elsewhere/*.txt",))) == of()
    assert of(data=replace(DATA, text="body")) != of()
    assert of(data=replace(DATA, documents="line")) != of()
    assert of(data=replace(DATA, format="txt")) != of()
    assert of(data=replace(DATA, validation=ValidationConfig(fraction=0.1))) != of()


def test_a_tokenizer_does_not_care_how_much_text_measures_the_model() -> None:
    other = replace(DATA, validation=ValidationConfig(tokens=1))
    assert of(TOKENIZER, data=other) == of(TOKENIZER)
    assert of(data=other) != of()


def test_a_foreign_tokenizer_is_its_content() -> None:
    one = replace(TOKENIZER, file="/a/x.model")
    two = replace(TOKENIZER, file="/b/y.model")
    assert of(one) == of(two)
    assert of(one) != of(one, digest="e")
    assert text_of(one, DATA, "d", "h") == {"file": "d"}


def test_generated_text_depends_on_sampling_and_not_on_data() -> None:
    assert of(GENERATE, digest="e") == of(GENERATE)
    assert of(replace(GENERATE, sampling=SamplingConfig(seed=3))) != of(GENERATE)


def test_differences_are_told_by_path() -> None:
    assert list(differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "d": 4})) == [
        "a.b 1 -> 3",
        "c 2 -> null",
        "d null -> 4",
    ]
    assert list(differences({"betas": [0.9, 0.95]}, {"betas": (0.9, 0.95)})) == []

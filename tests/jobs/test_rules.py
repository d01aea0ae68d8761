"""What must hold between fields, each with a spec that breaks it."""

from pathlib import Path

import pytest

from jobs import rules
from jobs.load import load
from llm.errors import SpecError
from llm.tokenizer import RESERVED

SPEC = """\
name: small
cluster: {workers: 4}
data: {shards: text.txt}
stages:
  tokenizer: {kind: tokenizer}
  pretrain: {kind: pretrain, tokenizer: tokenizer}
  generate: {kind: generate, from: pretrain, prompts: Once}
"""

PRETRAIN = "stages.pretrain"


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "x.yaml").write_text(SPEC)
    return str(tmp_path / "x.yaml")


def test_reserved_tokens_are_as_many_as_the_tokenizer_reserves() -> None:
    assert len(RESERVED) == rules.RESERVED_TOKENS


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["name=a b"], "name: 'a b' is not allowed; use letters, digits and ._-"),
        (["name=.."], "name: '..' is not allowed"),
        (["name=a/b"], "name: 'a/b' is not allowed"),
        (["storage=s3://b"], "storage must be a folder that every worker can reach"),
        (["stages={a b: {kind: tokenizer}}"], "stages.a b: a stage's name is made of letters"),
        (["stages={}"], "stages: an empty mapping is not allowed"),
        (["stages={..: {kind: tokenizer}}"], "a stage's name is made of"),
        (
            ["stages.pretrain.tokenizer=tokeniser"],
            "'tokeniser' is not a stage of this file; did you mean 'tokenizer'? "
            "must be a tokenizer stage: tokenizer",
        ),
        (
            ["stages.generate.from=tokenizer"],
            "stages.generate.from: 'tokenizer' is a tokenizer stage; "
            "must be a pretrain stage: pretrain",
        ),
        (
            ["stages.pretrain.tokenizer=generate"],  # generate builds on pretrain: a circle
            "'generate' is a generate stage; must be a tokenizer stage",
        ),
        (["stages.pretrain.tokenizer=pretrain"], "'pretrain' is a pretrain stage"),
        (
            ["data.validation.shards=v", "data.validation.fraction=0.1"],
            "data.validation.fraction: 0.1 is not allowed together with shards",
        ),
        (["data.shards=[a, pydoc://]"], "data.shards: pydoc:// stands alone"),
        (
            ["stages.tokenizer.vocab_size=264"],
            "264 is not allowed; must be greater than 264: 8 reserved tokens and 256 bytes",
        ),
        (
            ["stages.tokenizer.vocab_size=8", "stages.tokenizer.model=char"],
            "8 is not allowed; must be greater than 8: 8 reserved tokens",
        ),
        (
            ["stages.tokenizer.file=a.model", "stages.tokenizer.model=bpe"],
            "stages.tokenizer.model: has no effect together with file",
        ),
        ([f"{PRETRAIN}.model.heads=5"], "5 is not allowed; width 384 must divide by heads 5"),
        ([f"{PRETRAIN}.model.width=100", f"{PRETRAIN}.model.heads=3"], "width 100 must divide"),
        (
            [f"{PRETRAIN}.model.width=9", f"{PRETRAIN}.model.heads=3"],
            "width 9 / heads 3 is odd; rotary positions need an even number",
        ),
        (
            [f"{PRETRAIN}.model.width=9", f"{PRETRAIN}.model.positions=sinusoidal"],
            "9 is not allowed; sinusoidal positions need an even one",
        ),
        ([f"{PRETRAIN}.batch=3"], "3 is not allowed; must be at least 4, one sequence for each"),
        (
            [f"{PRETRAIN}.batch=16", f"{PRETRAIN}.micro_batch=3"],
            "micro_batch: 3 is not allowed; must divide the batch of 16",
        ),
        (
            [f"{PRETRAIN}.batch=16", f"{PRETRAIN}.micro_batch=8"],
            "micro_batch: 8 is not allowed; must be at most 4, or some of 4 workers idle",
        ),
        (
            [f"{PRETRAIN}.batch=16", f"{PRETRAIN}.steps=10", f"{PRETRAIN}.tokens=80000"],
            "80000 contradicts steps 10 x batch 16 x context 512 = 81920",
        ),
        (
            [f"{PRETRAIN}.steps=10", f"{PRETRAIN}.optim.warmup=10"],
            "optim.warmup: 10 is not allowed; must be less than steps 10",
        ),
        (
            [
                f"{PRETRAIN}.steps=10",
                f"{PRETRAIN}.optim.warmup=5",
                f"{PRETRAIN}.optim.schedule=wsd",
                f"{PRETRAIN}.optim.decay=0.6",
            ],
            "optim.decay: 0.6 is not allowed; with this warmup must be at most 0.5",
        ),
    ],
)
def test_a_broken_rule_is_reported(file: str, overrides: list[str], complaint: str) -> None:
    with pytest.raises(SpecError) as error:
        load(file, overrides)
    assert complaint in str(error.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ["stages.tokenizer.vocab_size=265"],
        ["stages.tokenizer.vocab_size=9", "stages.tokenizer.byte_fallback=false"],
        ["stages.tokenizer.file=a.model"],
        ["data.validation.shards=v", "data.validation.fraction=0"],
        [f"{PRETRAIN}.model.width=9", f"{PRETRAIN}.model.positions=learned"],
        [f"{PRETRAIN}.batch=16", f"{PRETRAIN}.micro_batch=4"],
        [f"{PRETRAIN}.batch=12", f"{PRETRAIN}.micro_batch=2"],  # 6 micro batches, 4 workers
        [f"{PRETRAIN}.batch=16", f"{PRETRAIN}.steps=10", f"{PRETRAIN}.tokens=81920"],
        [f"{PRETRAIN}.steps=10", f"{PRETRAIN}.optim.warmup=9"],
        ["name=gpt-0.1_b"],
    ],
)
def test_what_just_holds_is_accepted(file: str, overrides: list[str]) -> None:
    assert load(file, overrides).origin.overrides == tuple(overrides)


def test_of_two_batch_rules_only_the_first_speaks(file: str) -> None:
    with pytest.raises(SpecError) as error:
        load(file, [f"{PRETRAIN}.batch=3", f"{PRETRAIN}.micro_batch=2"])
    assert len(str(error.value).split("\n")) == 1

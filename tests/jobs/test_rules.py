"""What must hold between fields, each with a spec that breaks it."""

from pathlib import Path

import pytest

from jobs import rules
from jobs.corpus_rules import LANGUAGES
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
        (["cluster.workers=[4, 2]"], "cluster.workers: [4, 2] is not allowed; the smaller number"),
        (
            [f"{PRETRAIN}.batch=8", f"{PRETRAIN}.micro_batch=4", "cluster.workers=[1, 4]"],
            "4 is not allowed; must be at most 2, or some of 4 workers idle",
        ),
        ([f"{PRETRAIN}.checkpoint.mirror=''"], "checkpoint.mirror: is empty; give a folder or"),
        ([f"{PRETRAIN}.checkpoint.keep=2"], "checkpoint.keep"),
        ([f"{PRETRAIN}.faults.spike=explode"], "faults.spike"),
        (
            [f"{PRETRAIN}.optim.kind=adafactor", "cluster.strategy=fsdp"],
            "optim.kind: adafactor is not allowed with strategy: fsdp; use adamw, muon or lion",
        ),
        (
            [f"{PRETRAIN}.optim.kind=adafactor", f"{PRETRAIN}.optim.lr_width=64"],
            "optim.lr_width: 64 is not allowed with kind: adafactor",
        ),
        (
            [f"{PRETRAIN}.optim.momentum=0.9"],
            "optim.momentum: 0.9 has no effect with kind: adamw; leave it out",
        ),
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
            "must be a pretrain, sft, dpo, ppo or import stage: pretrain",
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
        (
            [f"{PRETRAIN}.model.kv_heads=4"],
            "model.kv_heads: 4 is not allowed; must divide the 6 heads",
        ),
        (
            [f"{PRETRAIN}.model.positions=learned", f"{PRETRAIN}.model.rope.base=100"],
            "model.rope: has no effect with learned positions; leave it out",
        ),
        (
            [f"{PRETRAIN}.model.rope.factor=4"],
            "model.rope.factor: 4 has no effect without scaling: linear or llama3",
        ),
        (
            [f"{PRETRAIN}.model.rope.scaling=llama3"],
            "model.rope.original_context: missing: llama3 needs the tokens of the context",
        ),
        (
            [
                f"{PRETRAIN}.model.rope.scaling=llama3",
                f"{PRETRAIN}.model.rope.original_context=64",
                f"{PRETRAIN}.model.rope.low_freq_factor=5",
            ],
            "low_freq_factor: 5 is not allowed; must be less than high_freq_factor 4",
        ),
        (
            [f"{PRETRAIN}.model.window=512"],
            "model.window: 512 has no effect; must be less than context 512, or 0",
        ),
        (
            [f"{PRETRAIN}.model.family=encoder", f"{PRETRAIN}.model.window=8"],
            "model.window: 8 has no effect on an encoder; leave it out",
        ),
        (
            [f"{PRETRAIN}.model.family=encoder", f"{PRETRAIN}.model.positions=alibi"],
            "positions: alibi is not allowed; only decoders attend by distance, not an encoder",
        ),
        (
            [f"{PRETRAIN}.model.family=encoder_decoder", f"{PRETRAIN}.model.experts=4"],
            "model.experts: 4 is not allowed; only decoders have them, not an encoder_decoder",
        ),
        (
            [f"{PRETRAIN}.model.experts=4", f"{PRETRAIN}.model.experts_per_token=5"],
            "model.experts_per_token: 5 is not allowed; there are 4 experts",
        ),
        (
            [f"{PRETRAIN}.model.experts=4", f"{PRETRAIN}.model.bias=true"],
            "model.bias: true is not allowed with experts, which have no additive terms",
        ),
        (
            [f"{PRETRAIN}.model.experts=4", f"{PRETRAIN}.model.hidden=100"],
            "model.hidden: 100 is not allowed with experts; must divide by 8",
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
        (
            [f"{PRETRAIN}.epochs=2", f"{PRETRAIN}.steps=10"],
            "stages.pretrain.steps: has no place beside epochs; leave one of them out",
        ),
        (
            [f"{PRETRAIN}.epochs=2", f"{PRETRAIN}.tokens=10"],
            "stages.pretrain.tokens: has no place beside epochs",
        ),
        (
            [f"{PRETRAIN}.epochs=2", f"{PRETRAIN}.cache=false"],
            "stages.pretrain.cache: false is not allowed: epochs are counted there",
        ),
        (
            [f"{PRETRAIN}.short_start=5", f"{PRETRAIN}.model.context=12"],
            "short_start: 5 is not allowed; context 12 must divide by 8",
        ),
        (
            [f"{PRETRAIN}.short_start=10", f"{PRETRAIN}.steps=10"],
            "short_start: 10 is not allowed; must be less than steps 10",
        ),
        (["data.encoding=utf8x"], "data.encoding: 'utf8x' is no encoding of text"),
        (["data=null"], "stages.tokenizer.corpus: missing: the text; add `corpus: NAME of a"),
    ],
)
def test_a_broken_rule_is_reported(file: str, overrides: list[str], complaint: str) -> None:
    with pytest.raises(SpecError) as error:
        load(file, overrides)
    assert complaint in str(error.value)


CORPUS = """\
name: clean
stages:
  corpus:
    kind: corpus
    sources:
      web: {shards: web, weight: 0.3}
      wiki: {shards: wiki, weight: 0.7}
  tokenizer: {kind: tokenizer, corpus: corpus}
  pretrain: {kind: pretrain, tokenizer: tokenizer, corpus: corpus}
"""

WEB = "stages.corpus.sources.web"
FILTER = "stages.corpus.filter"


@pytest.fixture
def corpus_file(tmp_path: Path) -> str:
    (tmp_path / "x.yaml").write_text(CORPUS)
    return str(tmp_path / "x.yaml")


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (
            ["stages.tokenizer.corpus=null"],
            "stages.tokenizer.corpus: missing: the text; add `corpus: corpus` here, "
            "or `data:` at the top level",
        ),
        (
            ["stages.pretrain.corpus=corpse"],
            "'corpse' is not a stage of this file; did you mean 'corpus'? "
            "must be a corpus stage: corpus",
        ),
        (
            ["stages.pretrain.corpus=tokenizer"],
            "'tokenizer' is a tokenizer stage; must be a corpus stage: corpus",
        ),
        (
            ["stages.tokenizer.file=a.model"],
            "stages.tokenizer.corpus: has no effect together with file",
        ),
        (
            ["stages.data={kind: corpus, sources: {a: {shards: a}}}"],
            "stages.data: 'data' is the text of the file; call the corpus otherwise",
        ),
        (
            [f"{WEB}.weight=null"],
            "stages.corpus.sources.web.weight: missing: either all sources have a weight or none "
            "has; without one: web",
        ),
        (["stages.corpus.sources.a/b={shards: a, weight: 1}"], "a source's name is made of"),
        (["stages.corpus.sources._x={shards: a, weight: 1}"], "digits, _ and -, not _ or - first"),
        ([f"{WEB}.shards=[a, pydoc://]"], f"{WEB}.shards: pydoc:// stands alone"),
        (
            [f"{WEB}.shards=pydoc://", f"{WEB}.format=jsonl"],
            f"{WEB}.format: 'jsonl' is not allowed: pydoc:// is parquet; leave format out",
        ),
        (
            [f"{WEB}.encoding=gbk18030"],
            f"{WEB}.encoding: 'gbk18030' is no encoding of text; did you mean gb18030",
        ),
        (
            [f"{WEB}.id=url", f"{WEB}.format=warc"],
            f"{WEB}.id: 'url' has no effect: warc has no columns; leave it out",
        ),
        (
            [f"{FILTER}.language={{keep: [en, english]}}"],
            f"{FILTER}.language.keep.1: 'english' is not a language that is recognised; "
            "did you mean 'en'? allowed: ace, af, am",
        ),
        (
            [f"{FILTER}.language.keep=zh-CN"],
            f"{FILTER}.language.keep.0: 'zh-CN' is not a language that is recognised; "
            "did you mean 'zh'?",
        ),
        (
            [f"{FILTER}.characters={{least: 9, most: 8}}"],
            f"{FILTER}.characters.least: 9 is not allowed; must be at most `most`, which is 8",
        ),
        (
            [f"{FILTER}.gopher.least_word_length=11"],
            "11.0 is not allowed; must be at most `most_word_length`, which is 10.0",
        ),
        (
            ["stages.corpus.dedup.near={permutations: 128, bands: 15}"],
            "stages.corpus.dedup.near.bands: 15 is not allowed; must divide the 128 permutations",
        ),
        (
            [f"{PRETRAIN}.epochs=2"],
            "stages.pretrain.epochs: 2 is not allowed: the sources of 'corpus' have weights, "
            "so they end at different times; say tokens or steps",
        ),
    ],
)
def test_a_broken_rule_of_a_corpus_is_reported(
    corpus_file: str, overrides: list[str], complaint: str
) -> None:
    with pytest.raises(SpecError) as error:
        load(corpus_file, overrides)
    assert complaint in str(error.value)


def test_a_corpus_takes_the_place_of_data(corpus_file: str) -> None:
    assert load(corpus_file).data is None


def test_what_is_wrong_with_data_is_not_said_twice(file: str) -> None:
    with pytest.raises(SpecError) as error:
        load(file, ["data.shards=3"])
    assert str(error.value) == (
        "command line: data.shards=3: data.shards: 3 is not allowed; "
        "must be text or a list of text, at least 1"
    )


def test_languages_are_those_that_py3langid_recognises() -> None:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    labels = LanguageIdentifier.from_model_file(MODEL_FILE).labels
    assert sorted(LANGUAGES.split()) == sorted(labels)


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
        [f"{PRETRAIN}.steps=10", f"{PRETRAIN}.short_start=9"],
        [f"{PRETRAIN}.epochs=2", f"{PRETRAIN}.cache=true"],
        ["data.encoding=detect"],
        ["name=gpt-0.1_b"],
    ],
)
def test_what_just_holds_is_accepted(file: str, overrides: list[str]) -> None:
    assert load(file, overrides).origin.overrides == tuple(overrides)


def test_of_two_batch_rules_only_the_first_speaks(file: str) -> None:
    with pytest.raises(SpecError) as error:
        load(file, [f"{PRETRAIN}.batch=3", f"{PRETRAIN}.micro_batch=2"])
    assert len(str(error.value).split("\n")) == 1

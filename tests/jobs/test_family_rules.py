"""What can be said of families of models and their objectives, each with a spec that breaks it."""

from pathlib import Path

import pytest

from jobs import auto
from jobs.family_rules import GAP
from jobs.fingerprint import meaningful
from jobs.kinds import as_json
from jobs.load import load
from jobs.stages import PretrainStage
from llm import complete
from llm.errors import SpecError

SPEC = """\
name: small
data: {shards: text.txt}
stages:
  tokenizer: {kind: tokenizer}
  letters: {kind: tokenizer, model: char}
  decoder: {kind: pretrain, tokenizer: tokenizer}
  window: {kind: pretrain, tokenizer: tokenizer, model: {family: window, window: 8}}
  encoder: {kind: pretrain, tokenizer: tokenizer, model: {family: encoder}}
  spans: {kind: pretrain, tokenizer: tokenizer, model: {family: encoder_decoder}}
  words: {kind: pretrain, tokenizer: letters, model: {family: encoder_decoder, code: 16}}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "x.yaml").write_text(SPEC)
    return str(tmp_path / "x.yaml")


def test_a_gap_is_written_alike_everywhere() -> None:
    assert complete.GAP == GAP


def test_an_objective_follows_from_the_model(file: str) -> None:
    stages = load(file).stages
    made = {}
    for name, stage in stages.items():
        if isinstance(stage, PretrainStage):
            made[name] = auto.pretrain(
                PretrainStage(**{**vars(stage), "model": auto.model(stage.model)}), 100, 1
            ).objective
    assert made == {
        "decoder": "next_token",
        "window": "next_token",
        "encoder": "masked",
        "spans": "spans",
        "words": "autoencode",
    }


def test_specs_from_before_there_were_families_keep_their_fingerprints(file: str) -> None:
    stage = load(file).stages["decoder"]
    assert isinstance(stage, PretrainStage)
    resolved = auto.pretrain(
        PretrainStage(**{**vars(stage), "model": auto.model(stage.model)}), 100, 1
    )
    told = meaningful(as_json(resolved))
    assert "objective" not in told
    assert not told["model"].keys() & {"family", "window", "code"}


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("decoder.objective=masked", "masked is not allowed; a decoder learns next_token"),
        ("encoder.objective=spans", "spans is not allowed; an encoder learns masked"),
        ("spans.objective=autoencode", "model.code: missing: numbers of the code that words"),
        ("words.objective=spans", "16 is too narrow for spans; leave it out, or say"),
        ("decoder.model.code=4", "model.code: 4 has no effect on a decoder; leave it out"),
        ("window.model={family: window}", "model.window: missing: the tokens that a model of"),
        ("window.model.context=4", "model.window: 8 is not allowed; must be at most the context"),
        ("spans.model.attend=document", "model.attend: document is not allowed"),
        ("spans.model.context=4", "model.context: 4 is not allowed; must be at least 8"),
        ("encoder.short_start=8", "short_start: 8 is not allowed; only next_token cuts its rows"),
        ("encoder.prompt=the king", r"'the king' has no gap; an encoder fills in [MASK]"),
        ("spans.prompt=the king", r"'the king' has no gap"),
        ("words.tokenizer=tokenizer", "is a tokenizer of unigram; autoencode gives words back"),
    ],
)
def test_what_a_family_cannot_do_is_said(file: str, override: str, complaint: str) -> None:
    with pytest.raises(SpecError) as error:
        load(file, [f"stages.{override}"])
    assert complaint in str(error.value)


@pytest.mark.parametrize("name", ["window", "encoder", "spans", "words"])
@pytest.mark.parametrize(
    "stage",
    ["{kind: sft, from: NAME, data: [{shards: x.jsonl}]}", "{kind: serve, from: NAME}"],
)
def test_only_decoders_learn_to_talk_and_are_served(file: str, name: str, stage: str) -> None:
    with pytest.raises(SpecError, match=r"stages\.more\.from: .*needs a model of family decoder"):
        load(file, [f"stages.more={stage.replace('NAME', name)}"])


def test_a_ladder_is_of_decoders(file: str) -> None:
    with pytest.raises(SpecError, match="a scaling stage knows the costs of decoders alone"):
        load(
            file,
            [
                "stages.more={kind: scaling, of: encoder, budgets: [1e12, 2e12, 4e12], "
                "depths: [1, 2, 3, 4], predict: 1e14}"
            ],
        )


def test_prompts_of_models_that_fill_in_have_gaps(file: str) -> None:
    stage = "{kind: generate, from: NAME, prompts: ['a [MASK]', 'no gap']}"
    for name in ("encoder", "spans"):
        with pytest.raises(SpecError, match=r"prompts\.1: 'no gap' has no gap"):
            load(file, [f"stages.more={stage.replace('NAME', name)}"])
    for name in ("decoder", "window", "words"):
        load(file, [f"stages.more={stage.replace('NAME', name)}"])


def test_a_sweep_is_judged_by_what_its_objective_measures(file: str) -> None:
    space = "{encoder.optim.lr: {choice: [1e-3, 2e-3]}}"
    sweep = f"{{kind: sweep, of: encoder, space: {space}, metric: METRIC}}"
    load(file, ["stages.more=" + sweep.replace("METRIC", "filled")])
    with pytest.raises(SpecError, match="'bpb' is not measured"):
        load(file, ["stages.more=" + sweep.replace("METRIC", "bpb")])

"""What people said is data: it may be nothing yet, and a run reads it as it was when it began."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.facts import gather
from jobs.feedback import NOTHING, copied, measure, take, taken
from jobs.kinds import data_sets
from jobs.load import load
from jobs.plan import resolve
from jobs.spec import Spec
from llm.errors import SpecError

SPEC = """\
name: loop
data: {shards: text.txt}
stages:
  tokenizer: {kind: tokenizer, vocab_size: 1000}
  pretrain: {kind: pretrain, tokenizer: tokenizer, model: {depth: 2, context: 64}, steps: 9}
  sft: {kind: sft, from: pretrain, data: [{shards: chats.jsonl}, {shards: "feedback://"}]}
  reward: {kind: reward, from: sft, data: [{shards: "feedback://", schema: ranking}]}
  serve: {kind: serve, from: sft}
"""


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Spec]:
    (tmp_path / "x.yaml").write_text(SPEC)
    (tmp_path / "text.txt").write_text("Once upon a time.\n" * 50)
    (tmp_path / "chats.jsonl").write_text('{"messages": []}\n')
    monkeypatch.chdir(tmp_path)
    return lambda *overrides: load("x.yaml", overrides)


def say(spec: Spec, name: str, text: str) -> None:
    path = spec.feedback / "rankings" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"prompt": "a", "answers": [text, "c"]}) + "\n")


def fingerprints(spec: Spec) -> dict[str, str | None]:
    return {stage.name: stage.fingerprint for stage in resolve(spec, gather(spec)).stages}


def test_a_store_that_is_empty_is_no_mistake(spec: Callable[..., Spec]) -> None:
    facts = gather(spec())
    assert [one.digest for one in facts.examples["reward"]] == [NOTHING]
    assert facts.examples["sft"][1].bytes == 0


def test_what_people_say_renews_only_the_stages_that_read_it(spec: Callable[..., Spec]) -> None:
    loaded = spec()
    before = fingerprints(loaded)
    say(loaded, "00", "b")
    after = fingerprints(loaded)
    assert {name for name in before if before[name] != after[name]} == {"reward"}


def test_a_run_reads_what_was_there_when_it_began(spec: Callable[..., Spec]) -> None:
    loaded = spec()
    say(loaded, "00", "b")
    say(loaded, "01", "d")
    data = data_sets(loaded.stages["reward"])[0]
    size, digest = measure(data, loaded)
    digests = {name: [one.digest for one in s] for name, s in gather(loaded).examples.items()}
    assert take(loaded, digests)
    say(loaded, "00", "changed")
    kept = taken(loaded, digest).read_bytes()
    assert (len(kept), hashlib.sha256(kept).hexdigest()) == (size, digest)
    assert take(loaded, digests), "the copy is there, whatever the store holds now"


def test_what_changed_between_measuring_and_copying_is_noticed(spec: Callable[..., Spec]) -> None:
    loaded = spec()
    say(loaded, "00", "b")
    data = data_sets(loaded.stages["reward"])[0]
    _, digest = measure(data, loaded)
    say(loaded, "00", "changed")
    assert not copied(data, digest, loaded)
    assert not list(taken(loaded, digest).parent.iterdir()), "nothing half-copied stays"


def test_the_store_may_be_elsewhere(spec: Callable[..., Spec], tmp_path: Path) -> None:
    loaded = spec("stages.serve.feedback.folder=said")
    assert loaded.feedback == tmp_path / "said"
    assert spec().feedback == tmp_path / "runs" / "loop" / "feedback"


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        (
            'stages.reward.data=[{shards: "feedback://", schema: pairs}]',
            "stages.reward.data.0.shards: feedback:// stands alone, with `schema: ranking or",
        ),
        (
            'stages.sft.data=[{shards: ["feedback://", chats.jsonl]}]',
            "stages.sft.data.0.shards: feedback:// stands alone, with `schema: messages`",
        ),
    ],
)
def test_the_store_has_schemas_of_its_own(
    spec: Callable[..., Spec], override: str, complaint: str
) -> None:
    with pytest.raises(SpecError) as error:
        spec(override)
    assert complaint in str(error.value)

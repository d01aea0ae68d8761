"""Specs of alignments: what cannot be, what auto becomes, what runs again and what does not."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from jobs.facts import gather
from jobs.load import load
from jobs.plan import resolve
from jobs.planned import Plan
from jobs.run import figures
from jobs.show import show
from jobs.spec import Spec
from jobs.stages import PpoStage
from llm.errors import DataError, SpecError

SPEC = """\
name: chat
cluster: {workers: 2}
data: {shards: text.txt}
stages:
  tokenizer: {kind: tokenizer, vocab_size: 1000}
  pretrain:
    {kind: pretrain, tokenizer: tokenizer, model: {depth: 2, context: 64}, steps: 9, batch: 8}
  sft: {kind: sft, from: pretrain, data: [{shards: chats.jsonl}]}
  reward: {kind: reward, from: sft, data: [{shards: pairs.jsonl}]}
  dpo: {kind: dpo, from: sft, data: [{shards: pairs.jsonl}]}
  ppo: {kind: ppo, from: sft, reward: reward, data: [{shards: chats.jsonl}], answer_tokens: 16}
"""

LoadSpec = Callable[..., Spec]


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoadSpec:
    (tmp_path / "x.yaml").write_text(SPEC)
    (tmp_path / "text.txt").write_text("Once upon a time.\n" * 50)
    (tmp_path / "chats.jsonl").write_text('{"messages": []}\n')
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    (tmp_path / "rule.py").write_text("def score(prompt, answer, reference): return 1.0\n")
    monkeypatch.chdir(tmp_path)
    return lambda *overrides: load("x.yaml", overrides)


def planned(spec: Spec) -> Plan:
    return resolve(spec, gather(spec))


def fingerprints(plan: Plan) -> dict[str, str | None]:
    return {stage.name: stage.fingerprint for stage in plan.stages}


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (
            ["stages.sft.data=[{shards: pydoc://}]"],
            "stages.sft.data.0.shards: pydoc:// stands alone, with `schema: question_answer`",
        ),
        (
            ["stages.reward.data=[{shards: [pydoc://, a.jsonl]}]"],
            "stages.reward.data.0.shards: pydoc:// stands alone, with `schema: pairs`",
        ),
        (["stages.sft.data=[]"], "stages.sft.data"),
        (["stages.ppo.reward=null"], "stages.ppo.reward: missing: name a reward stage, or give"),
        (["stages.ppo.rule=rule.py:score"], "stages.ppo.rule: has no place beside reward"),
        (
            ["stages.ppo.reward=null", "stages.ppo.rule=rule.py"],
            "is not allowed; write FILE.py:NAME or MODULE:NAME",
        ),
        (["stages.ppo.batch=10", "stages.ppo.minibatch=4"], "4 is not allowed; must divide the"),
        (["stages.ppo.critic_warmup=100"], "100 is not allowed; must be less than steps 100"),
        (["stages.ppo.reward=dpo"], "'dpo' is a dpo stage"),
        (["stages.ppo.faults.spike=skip"], "'skip' has no place in a ppo; its `guards` watch"),
        (["stages.ppo.faults.not_finite=roll_back"], "'roll_back' is not allowed in a ppo"),
        (["cluster.strategy=fsdp"], "cluster.strategy: 'fsdp' is not allowed: stage ppo is a ppo"),
        (["stages.sft.batch=9", "stages.sft.micro_batch=2"], "2 is not allowed; must divide"),
        (["stages.sft.data=[{shards: a, schema: alpacas}]"], "did you mean 'alpaca'?"),
        (["stages.sft.data=[{shards: a, shema: alpaca}]"], "did you mean 'schema'?"),
        (
            ["stages.sft.data=[{shards: a, columns: {mesages: conv}}]"],
            "data.0.columns.mesages: is no field of schema messages; did you mean 'messages'?",
        ),
        (["stages.sft.data=[{shards: a, roles: {doctor: assistent}}]"], "'assistent' is not"),
        (["stages.dpo.beta=0"], "stages.dpo.beta"),
    ],
)
def test_what_cannot_be_is_told(spec: LoadSpec, overrides: list[str], complaint: str) -> None:
    with pytest.raises(SpecError) as error:
        spec(*overrides)
    assert complaint in str(error.value)


def test_an_answer_leaves_room_for_its_question(spec: LoadSpec) -> None:
    with pytest.raises(
        SpecError, match=r"ppo\.answer_tokens: 33 is not allowed; must be at most 32"
    ):
        planned(spec("stages.ppo.answer_tokens=33"))


def test_missing_data_is_told_with_its_line(spec: LoadSpec, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.yaml:8: stages\.sft\.data\.0\.shards: .*chats"):
        (tmp_path / "chats.jsonl").unlink()
        planned(spec())


def test_auto_becomes_numbers(spec: LoadSpec) -> None:
    plan = planned(spec())
    ppo = plan.by_name["ppo"].stage
    assert isinstance(ppo, PpoStage)
    assert (ppo.batch, ppo.minibatch, ppo.micro_batch, ppo.steps) == (64, 16, 8, 100)
    assert ppo.critic_lr == ppo.optim.lr > 0
    assert ppo.optim.schedule == "constant"
    assert (ppo.optim.warmup, ppo.checkpoint.every, ppo.validate_every) == (0, 10, 10)
    rates = [plan.by_name[name].stage.optim.lr for name in ("sft", "reward", "ppo", "dpo")]  # type: ignore[union-attr]
    assert rates == sorted(rates, reverse=True)


def test_the_rates_of_seven_billion_parameters_are_the_usual_ones() -> None:
    from jobs.auto import ALIGNED_LR, kaplan

    assert kaplan(7_000_000_000) * ALIGNED_LR["sft"] == pytest.approx(2e-5, rel=0.2)
    assert kaplan(7_000_000_000) * ALIGNED_LR["dpo"] == pytest.approx(8e-7, rel=0.2)


def test_content_of_data_counts_and_its_folder_does_not(spec: LoadSpec, tmp_path: Path) -> None:
    before = fingerprints(planned(spec()))
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "chats.jsonl").write_bytes((tmp_path / "chats.jsonl").read_bytes())
    moved = "stages.sft.data=[{shards: copy/chats.jsonl}]"
    assert fingerprints(planned(spec(moved, "stages.sft.prompts=[hello]"))) == before
    (tmp_path / "copy" / "chats.jsonl").write_text('{"messages": [1]}\n')
    changed = fingerprints(planned(spec(moved)))
    assert {name for name in before if before[name] != changed[name]} == {
        "sft",
        "reward",
        "dpo",
        "ppo",
    }


def test_a_change_of_ppo_runs_only_ppo(spec: LoadSpec) -> None:
    before = fingerprints(planned(spec()))
    after = fingerprints(planned(spec("stages.ppo.kl.target=3")))
    assert {name for name in before if before[name] != after[name]} == {"ppo"}


def test_a_rules_source_is_part_of_the_result(spec: LoadSpec, tmp_path: Path) -> None:
    rule = ("stages.ppo.reward=null", "stages.ppo.rule=rule.py:score")
    before = planned(spec(*rule)).by_name["ppo"].fingerprint
    (tmp_path / "rule.py").write_text("def score(prompt, answer, reference): return 2.0\n")
    assert planned(spec(*rule)).by_name["ppo"].fingerprint != before
    (tmp_path / "rule.py").unlink()
    with pytest.raises(DataError, match=r"rule\.py cannot be read.*FILE\.py:NAME"):
        planned(spec(*rule))


def test_the_plan_shows_every_stage(spec: LoadSpec) -> None:
    text = io.StringIO()
    show(planned(spec()), Console(file=text, width=200))
    shown = text.getvalue()
    assert "3 epochs, 16 rows a step, dealt to 2 workers" in shown
    assert "reward of 'reward' less 0.1 a nat of divergence, steered to 6 nats an answer" in shown
    assert "memory" in shown and "critic" in shown
    assert "--prompt TEXT" not in shown  # there is nothing to write with yet


def test_a_broken_off_alignment_says_so(spec: LoadSpec) -> None:
    folder = planned(spec()).by_name["sft"].folder
    assert folder
    (folder / "checkpoints" / "step-000007").mkdir(parents=True)
    assert planned(spec()).by_name["sft"].reason == "it was broken off; continues after step 7"
    (folder / "manifest.json").write_text(json.dumps({}))


def test_the_end_of_a_run_tells_what_was_held_out() -> None:
    ppo = {"validation_reward": 0.5, "validation_kl": 2.0, "reward": 0.9, "kl": 3.0}
    assert list(figures(ppo)) == ["held-out prompts: reward 0.500, kl 2.00"]
    judge = {"loss": 0.4, "accuracy": 0.8, "low": 0.7, "high": 0.9, "pairs": 50}
    assert list(figures(judge)) == ["80.0% of 50 held-out pairs right (70.0% to 90.0%)"]
    assert list(figures({"loss": 1.5})) == ["validation loss 1.500"]
    assert list(figures({"bpb": 1.5, "loss": 3.0})) == ["1.500 bits per byte of held-out text"]

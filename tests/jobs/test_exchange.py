"""A model of others through a spec: taken over, taught, judged, written out, loaded there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers

from jobs.facts import gather
from jobs.load import load
from jobs.plan import resolve
from jobs.planned import Plan
from jobs.spec import Spec
from llm.artifact import read_model
from llm.chat import Template, Turn
from llm.errors import ArtifactError, SpecError
from llm.tokenizer_file import read_tokenizer, tokenizer_in
from tests.llm.foreign import write_foreign
from tests.llm.test_exchange import changed, write_theirs
from tests.tasks import write_text

ROOT = Path(__file__).parents[2]

SPEC = """\
name: exchange
cluster: {workers: 1, cpus_per_worker: 1}
data: {shards: text, validation: {fraction: 0.1, tokens: 500}}
stages:
  llama: {kind: import, folder: theirs, context: 64}
  more: {kind: pretrain, from: llama, steps: 2, batch: 4, optim: {warmup: 1}, model: {context: 48}}
  sft:
    kind: sft
    from: more
    data: [{shards: chats.jsonl, schema: question_answer}]
    epochs: 1
    optim: {lr: 1e-3}
  export: {kind: export, from: sft}
"""


ALIGNED = """\
name: aligned
cluster: {workers: 1, cpus_per_worker: 1}
stages:
  llama: {kind: import, folder: theirs, context: 48}
  sft:
    kind: sft
    from: llama
    data: [{shards: chats.jsonl, schema: question_answer}]
    epochs: 1
  reward: {kind: reward, from: sft, data: [{shards: pairs.jsonl, schema: pairs}], epochs: 1}
  dpo: {kind: dpo, from: sft, data: [{shards: pairs.jsonl, schema: pairs}], epochs: 1}
  ppo:
    kind: ppo
    from: dpo
    reward: reward
    data: [{shards: chats.jsonl, schema: question_answer}]
    steps: 2
    batch: 4
    minibatch: 4
    micro_batch: 2
    answer_tokens: 4
  export: {kind: export, from: ppo}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of others, text to go on with, questions and answers."""
    size = write_foreign(tmp_path / "theirs", "llama3").get_vocab_size()
    write_theirs(tmp_path / "theirs", "llama", size)
    write_text(tmp_path / "text", documents=300)
    rows = [{"question": f"Who sat {n} times?", "answer": "<|end|> Humpty"} for n in range(40)]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "x.yaml").write_text(SPEC)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_plan_knows_a_model_before_it_is_taken_over(folder: Path) -> None:
    spec = load("x.yaml")
    plan = resolve(spec, gather(spec))
    model = plan.by_name["llama"].model
    assert model is not None and (model.depth, model.kv_heads, model.context) == (2, 2, 64)
    assert plan.by_name["llama"].status == "will run"
    assert plan.by_name["more"].reason == "'llama' will run"
    before = plan.by_name["llama"].fingerprint
    (folder / "theirs").rename(folder / "elsewhere")
    moved = load("x.yaml", ["stages.llama.folder=elsewhere"])
    assert resolve(moved, gather(moved)).by_name["llama"].fingerprint == before
    changed(folder / "elsewhere", rms_norm_eps=1e-5)
    assert resolve(moved, gather(moved)).by_name["llama"].fingerprint != before


def test_what_cannot_be_exported_is_said_before_it_is_trained(folder: Path) -> None:
    made = "stages.more={kind: pretrain, tokenizer: cut, model: {positions: sinusoidal, depth: 1}}"
    cut = "stages.cut={kind: tokenizer, vocab_size: 300}"
    with pytest.raises(SpecError, match=r"export\.from: 'sft': positions 'sinusoidal' has no"):
        planned(load("x.yaml", [cut, made]))
    gated = made.replace("positions: sinusoidal", "mlp: geglu")
    with pytest.raises(SpecError, match=r"export\.from: 'sft': mlp 'geglu' .* in llama\.cpp"):
        planned(load("x.yaml", [cut, gated, "stages.export.format=gguf"]))


def planned(spec: Spec) -> Plan:
    return resolve(spec, gather(spec))


def test_a_model_that_cannot_be_taken_over_is_said_with_its_line(folder: Path) -> None:
    changed(folder / "theirs", hidden_act="relu")
    spec = load("x.yaml")
    with pytest.raises(
        ArtifactError, match=r"x\.yaml:5.*stages\.llama\.folder: .*config\.json: hidden_act 'relu'"
    ):
        gather(spec)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["stages.more.model.depth=3"], "more.model.depth: 3 has no place beside from"),
        (["stages.more.tokenizer=sft"], "more.tokenizer: 'sft' has no place beside from"),
        (["stages.more.from=null"], "more.tokenizer: missing: name a tokenizer stage, or with"),
        (["stages.sft.from=sft"], "sft.from: 'sft' builds on 'sft' itself ('sft' <- 'sft')"),
        (["stages.llama={kind: sft, from: more, data: [{shards: chats.jsonl}]}"], "builds on"),
        (["stages.export.from=export"], "'export' is an export stage; must be a pretrain"),
    ],
)
def test_what_cannot_be_is_said(folder: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        load("x.yaml", overrides)
    assert message in str(caught.value)


def whole(folder: Path, file: str) -> None:
    """Run it to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "jobs", "run", file],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.long
def test_a_foreign_model_is_aligned_and_goes_back(folder: Path) -> None:
    rows = [{"prompt": f"Who sat {n}?", "chosen": "wall", "rejected": "men"} for n in range(24)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "aligned.yaml").write_text(ALIGNED)
    whole(folder, "aligned.yaml")
    found = [list((folder / "runs" / "aligned" / name).iterdir()) for name in ("ppo", "export")]
    [ppo], [made] = found
    ours, _ = read_model(ppo)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(made).eval()
    ids = torch.arange(40)[None] * 5 % ours.vocab_size
    with torch.inference_mode():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.long
def test_a_foreign_model_is_taught_and_goes_back(folder: Path) -> None:
    whole(folder, "x.yaml")
    [sft], [made], [llama] = (
        list((folder / "runs" / "exchange" / name).iterdir()) for name in ("sft", "export", "llama")
    )
    ours, _ = read_model(sft)
    first, _ = read_model(llama)
    assert ours.config.context == 48
    assert not torch.equal(ours.embedding.weight, first.embedding.weight), "it has learned"
    theirs = transformers.AutoModelForCausalLM.from_pretrained(made).eval()
    there = transformers.AutoTokenizer.from_pretrained(made)
    question = "Who sat <|end|> 7 times?"
    prompt = Template(read_tokenizer(tokenizer_in(sft))).prompt((Turn("user", question),))
    message = [{"role": "user", "content": question}]
    same = there.apply_chat_template(message, tokenize=True, add_generation_prompt=True)
    assert same["input_ids"] == prompt
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=1e-4, rtol=0)
    card = (made / "README.md").read_text()
    assert "taken over from a LlamaForCausalLM" in card
    assert all(f"| {name} |" in card for name in ("llama", "more", "sft"))

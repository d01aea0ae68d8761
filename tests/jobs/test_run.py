"""Whole specs on a real cluster: the shipped ones at toy size, and what the cache makes of them."""

import json
import os
import random
import shutil
from pathlib import Path

import pytest

from jobs.load import load
from jobs.run import run
from jobs.spec import Spec
from jobs.write import generate
from llm.errors import ArtifactError
from llm.tokenizer import Tokenizer
from tests.tasks import losses, sentence, write_text

JOBS = Path(__file__).parents[2] / "jobs"

TINY = [
    "stages.pretrain.model={depth: 1, width: 32, heads: 2, context: 32}",
    "stages.pretrain.batch=4",
    "stages.pretrain.steps=4",
    "stages.pretrain.optim.warmup=1",
    "stages.generate.sampling.max_tokens=8",
]

SMALL = """\
name: small
seed: 1337
cluster: {workers: 2}
data: {shards: text, validation: {fraction: 0.1}}
stages:
  tokenizer: {kind: tokenizer, model: char}
  pretrain: {kind: pretrain, tokenizer: tokenizer}
  generate: {kind: generate, from: pretrain, prompts: the king}
"""

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def artifact(spec: Spec, stage: str) -> Path:
    """The one artifact of a stage."""
    [folder] = (spec.folder / stage).iterdir()
    return folder


def manifest(spec: Spec, stage: str) -> dict:
    return json.loads((artifact(spec, stage) / "manifest.json").read_text())


def samples(spec: Spec) -> list[dict]:
    lines = (artifact(spec, "generate") / "samples.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_humpty_learns_its_verse_and_writes_past_its_context(
    ray_cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = load(str(JOBS / "humpty.yaml"), [f"storage={tmp_path}"])
    run(spec)
    written = samples(spec)[0]["text"]
    assert "Humpty Dumpt" + written in (JOBS / "humpty.txt").read_text()  # he sat, or had a fall
    assert len(written) > 12
    generate(spec, "All the king", None)
    assert "All the king's" in capsys.readouterr().out


def few_examples(folder: Path) -> list[str]:
    """The alignments of quickstart.yaml on sixty questions, in a few steps."""
    source = random.Random(1)
    questions = [f"{sentence(source)} {number}" for number in range(60)]
    chats = [{"question": one, "answer": sentence(source)} for one in questions]
    pairs = [{"prompt": one, "chosen": "wall", "rejected": "men men"} for one in questions]
    for name, rows in (("chats", chats), ("pairs", pairs)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text)
    asked = f"data=[{{shards: {folder}/chats.jsonl, schema: question_answer}}]"
    return [
        f"stages.sft.{asked}",
        f"stages.reward.data=[{{shards: {folder}/pairs.jsonl}}]",
        f"stages.ppo.{asked}",
        "stages.ppo.steps=2",
        "stages.ppo.batch=8",
        "stages.ppo.minibatch=4",
        "stages.ppo.micro_batch=2",
        "stages.ppo.answer_tokens=8",
    ]


@pytest.mark.long
def test_the_whole_recipe_runs_once_and_only_what_changed_runs_again(
    ray_cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [f"storage={tmp_path / 'runs'}", *TINY, *few_examples(tmp_path)]
    base = [str(JOBS / "quickstart.yaml"), options]
    spec = load(*base)
    run(spec)
    assert manifest(spec, "pretrain")["metrics"]["tokens"] > 0
    assert 0 <= manifest(spec, "reward")["metrics"]["accuracy"] <= 1
    assert manifest(spec, "ppo")["metrics"]["length"] > 0
    for stage in ("pretrain", "sft", "reward", "ppo"):
        assert "<svg" in (artifact(spec, stage) / "report.html").read_text()
        assert list((artifact(spec, stage) / "tensorboard").glob("events.*"))
    report = (spec.folder / "report.html").read_text()
    assert all(f"<h2>{stage}" in report for stage in ("pretrain", "sft", "reward", "ppo"))
    assert "PPO let it find out" in report and "cannot be shown" not in report
    lines = map(json.loads, (spec.folder / "log.jsonl").read_text().splitlines())
    assert {one["stage"] for one in lines} == {"pretrain", "sft", "reward", "ppo"}
    for stage in ("sft", "ppo"):
        assert (artifact(spec, stage) / "chat_template.jinja").exists()
    shown = capsys.readouterr().out
    assert "bits per byte" in shown and "held-out pairs right" in shown
    generate(spec, "humpty", None)
    assert capsys.readouterr().out.startswith("humpty\n")  # a chat model answers
    made = {path: path.stat().st_mtime_ns for path in spec.folder.glob("*/*/manifest.json")}
    run(load(*base))
    assert {path: path.stat().st_mtime_ns for path in made} == made
    run(load(base[0], [*base[1], "stages.generate.sampling.max_tokens=4"]))
    [fresh] = [path for path in spec.folder.glob("*/*/manifest.json") if path not in made]
    assert fresh.parent.parent.name == "generate"


def test_an_interrupted_run_goes_on_and_takes_the_same_steps(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*TINY, "stages.pretrain.steps=12", "stages.pretrain.log_every=1"]
    write_text(tmp_path / "text")
    (tmp_path / "small.yaml").write_text(SMALL)
    whole = load(str(tmp_path / "small.yaml"), [f"storage={tmp_path / 'a'}", *options])
    run(whole)
    broken = load(str(tmp_path / "small.yaml"), [f"storage={tmp_path / 'b'}", *options])
    shutil.copytree(whole.folder, broken.folder)
    folder = artifact(broken, "pretrain")
    (folder / "manifest.json").unlink()  # as if the driver had died before the end
    (folder / "model.safetensors").unlink()
    last = sorted((folder / "checkpoints").iterdir())[-1]
    shutil.rmtree(last)
    os.rename(folder / "metrics.jsonl", folder / "old.jsonl")
    shutil.copy(folder / "old.jsonl", folder / "metrics.jsonl")
    shutil.rmtree(broken.folder / "generate")
    run(broken)
    assert losses(folder) == pytest.approx(losses(artifact(whole, "pretrain")), abs=1e-4)
    assert samples(broken) == samples(whole)


def write_pages(path: Path, pages: int = 120) -> None:
    """Pages of a small crawl: one in four is a copy, one in ten too short, one line is broken."""
    source = random.Random(3)
    texts = [" ".join(sentence(source) for _ in range(30)) for _ in range(pages)]
    texts += [text.upper() for text in texts[: pages // 4]] + ["short"] * (pages // 10)
    lines = [json.dumps({"text": text}) for text in texts] + ["{broken"]
    path.write_text("".join(line + "\n" for line in lines))


@pytest.mark.long
def test_a_messy_crawl_becomes_a_model_each_document_once(
    ray_cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pages(tmp_path / "crawl.jsonl")
    options = [
        f"storage={tmp_path}",
        f"stages.corpus.sources={{crawl: {{shards: {tmp_path}/crawl.jsonl}}}}",
        "stages.corpus.filter={characters: {least: 80}}",
        "stages.tokenizer.vocab_size=300",
        "stages.pretrain.model={depth: 1, width: 32, heads: 2, context: 32}",
        "stages.pretrain.epochs=2",
        "stages.generate.sampling.max_tokens=8",
    ]
    spec = load(str(JOBS / "corpus.yaml"), options)
    run(spec)
    total = json.loads((artifact(spec, "corpus") / "ledger.json").read_text())["total"]
    dropped = {reason: amount["documents"] for reason, amount in total["dropped"].items()}
    assert dropped == {"exact duplicate": 30, "characters.least": 12, "invalid json": 1}
    assert total["train"]["documents"] + total["validation"]["documents"] == 120
    metrics = manifest(spec, "pretrain")["metrics"]
    assert metrics["passes"] == {"text": pytest.approx(2)}
    targets = 2 * manifest(spec, "corpus.tokenizer")["metrics"]["tokens"]
    assert metrics["tokens"] == pytest.approx(targets, rel=0.01)
    assert "passes over text 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("file", "questions"),
    [
        ("alpaca_en_demo.json", ["Name three colours.", "Who are you?"]),
        ("alpaca_zh_demo.json", ["你是谁？", "写一首诗"]),
    ],
)
@pytest.mark.long
def test_instructions_in_english_and_chinese_are_learned(
    ray_cluster: None, tmp_path: Path, shared_data: Path, file: str, questions: list[str]
) -> None:
    data = shared_data / "c_sft" / file
    (tmp_path / "text.jsonl").write_text(
        "".join(
            json.dumps({"text": f"{row['instruction']} {row['output']}"}) + "\n"
            for row in json.loads(data.read_text())
        )
    )
    (tmp_path / "chat.yaml").write_text(f"""\
name: chat
cluster: {{workers: 2}}
data: {{shards: text.jsonl}}
stages:
  tokenizer: {{kind: tokenizer, vocab_size: 4000}}
  pretrain:
    kind: pretrain
    tokenizer: tokenizer
    model: {{depth: 2, width: 64, context: 128}}
    batch: 8
    steps: 10
  sft:
    kind: sft
    from: pretrain
    data: [{{shards: {data}, schema: alpaca}}]
    epochs: 1
    optim: {{lr: 1e-3}}
    prompts: {json.dumps(questions)}
""")
    spec = load(str(tmp_path / "chat.yaml"), [f"storage={tmp_path / 'runs'}"])
    run(spec)
    metrics = manifest(spec, "sft")["metrics"]
    log = (artifact(spec, "sft") / "metrics.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in log]
    first = next(event for event in events if event["event"] == "validation")
    assert metrics["loss"] < first["loss"] - 0.5
    assert metrics["conversations"] > 900
    assert metrics["padding"] < 0.05
    assert {e["prompt"] for e in events if e["event"] == "sample"} == set(questions)


def test_generate_without_a_model_says_what_to_run(tmp_path: Path) -> None:
    spec = load(str(JOBS / "humpty.yaml"), [f"storage={tmp_path}"])
    with pytest.raises(ArtifactError, match=r"no model yet; first run\n.*jobs run .*humpty\.yaml"):
        generate(spec, "x", None)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        pytest.param("masked", "{family: encoder", marks=pytest.mark.long),
        pytest.param("spans", "{family: encoder_decoder", marks=pytest.mark.long),
        pytest.param("autoencoder", "{family: encoder_decoder, code: 4", marks=pytest.mark.long),
        pytest.param("window", "{family: window, window: 4", marks=pytest.mark.long),
    ],
)
def test_models_that_are_no_decoders_run_and_show_what_they_learned(
    ray_cluster: None, tmp_path: Path, name: str, model: str
) -> None:
    training = "window" if name == "window" else "pretrain"
    tiny = [one.replace("pretrain", training) for one in TINY[1:]]
    shape = f"stages.{training}.model={model}, depth: 1, width: 32, heads: 2, context: 64}}"
    fewer = [f"stages.{training}.micro_batch=2", f"stages.{training}.validate_every=2"]
    fewer += ["stages.tokenizer.vocab_size=300"] if name in ("masked", "spans") else []
    fewer += ["stages.transformer.model.depth=1", "stages.transformer.steps=20"]
    fewer = [one for one in fewer if name == "window" or "transformer" not in one]
    text = write_text(tmp_path / "text")
    files = [f"data.shards={text}", "cluster.workers=2", f"storage={tmp_path}"]
    spec = load(str(JOBS / f"{name}.yaml"), [*files, shape, *tiny, *fewer])
    run(spec)
    assert samples(spec) and all("[MASK]" not in sample["text"] for sample in samples(spec))
    report = (artifact(spec, training) / "report.html").read_text()
    assert "What it writes" in report
    words = {"window": "Bits per byte", "autoencoder": "Given back"}.get(name, "Filled in")
    assert words in report
    if name != "window":
        assert "frequencies alone" in report


@pytest.mark.long
def test_shakespeare_runs_on_any_text(ray_cluster: None, tmp_path: Path, shared_data: Path) -> None:
    text = shared_data / "a_pretrain/en/tinyshakespeare.txt"
    all_of_it = ["data.validation.fraction=0"]  # else a rare letter may be held out
    spec = load(
        str(JOBS / "shakespeare.yaml"),
        [f"storage={tmp_path}", f"data.shards={text}", *TINY, *all_of_it],
    )
    run(spec)
    assert manifest(spec, "tokenizer")["metrics"]["vocab_size"] == 65 + 8
    assert manifest(spec, "tokenizer")["metrics"]["unknown_share"] == 0


@pytest.mark.long
def test_chinese_has_no_unknown_token_and_no_half_character(
    ray_cluster: None, tmp_path: Path, shared_data: Path
) -> None:
    text = shared_data / "a_pretrain/zh/xiyouji.txt"
    small = ["stages.tokenizer.vocab_size=6000", "stages.tokenizer.sample_bytes=300000"]
    spec = load(
        str(JOBS / "chinese.yaml"),
        [f"storage={tmp_path}", f"data.shards={text}", *TINY, *small],
    )
    run(spec)
    tokenizer = Tokenizer(artifact(spec, "tokenizer") / "tokenizer.model")
    rare = "话说𪚥龘\n"
    assert tokenizer.decode(tokenizer.encode(rare)) == rare
    assert manifest(spec, "tokenizer")["metrics"]["unknown_share"] == 0
    assert all("\ufffd" not in sample["text"] for sample in samples(spec))

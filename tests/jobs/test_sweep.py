"""Sweeps and ladders on a real cluster: trials are ordinary stages, nothing is done twice."""

import json
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs.load import load
from jobs.run import run
from jobs.spec import Spec
from tests.tasks import sentence

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SPEC = """\
name: small
seed: 1337
data: {shards: text.txt, documents: line, validation: {fraction: 0.1, tokens: 2048}}
stages:
  tokenizer: {kind: tokenizer, model: char}
  pretrain:
    kind: pretrain
    tokenizer: tokenizer
    cache: true
    model: {depth: 1, width: 32, heads: 2, context: 32}
    batch: 4
    steps: 12
    validate_every: 4
    optim: {warmup: 1}
  search:
    kind: sweep
    of: pretrain
    search: grid
    scheduler: none
    space:
      pretrain.optim.lr: {grid: [1e-4, 1e-2]}
  sft:
    kind: sft
    from: search
    data: [{shards: chats.jsonl}]
    epochs: 1
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    source = random.Random(7)
    lines = [sentence(source) for _ in range(400)]
    (tmp_path / "text.txt").write_text("\n".join(lines))
    chats = [
        {"messages": [{"role": "user", "content": "say"}, {"role": "assistant", "content": line}]}
        for line in lines[:40]
    ]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    (tmp_path / "x.yaml").write_text(SPEC)
    return tmp_path


def made(spec: Spec, stage: str) -> Path:
    """The one artifact of a stage."""
    [folder] = (spec.folder / stage).iterdir()
    return folder


def times(search: Path) -> dict[str, int]:
    """When each trial was finished, by its name."""
    found = search.glob("trials/*/result.json")
    return {path.parent.name: path.stat().st_mtime_ns for path in found}


@pytest.mark.long
def test_the_best_trial_goes_on_and_more_trials_run_nothing_twice(
    ray_cluster: None, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = load("x.yaml")
    run(spec)
    search = made(spec, "search")
    manifest = json.loads((search / "manifest.json").read_text())
    best = manifest["metrics"]["best"]
    assert manifest["metrics"]["trials"] == {"done": 2, "stopped": 0, "failed": 0}
    assert best["point"] == {"pretrain.optim.lr": 0.01}
    table = pq.read_table(search / "trials.parquet").to_pylist()
    assert [row["metrics.bpb"] for row in table][1] == best["figure"] < table[0]["metrics.bpb"]
    of_trial = search / best["artifact"]
    assert (search / "model.safetensors").samefile(of_trial / "model.safetensors")
    assert not list(search.glob("trials/*/work/*/*/checkpoints"))
    assert not (spec.folder / "pretrain").exists()
    assert len(list((spec.folder / "tokenizer").iterdir())) == 1  # shared, never made again
    task = json.loads((made(spec, "sft") / "task.json").read_text())
    assert str(search) in json.dumps(task)

    before = times(search)
    more = ["stages.search.space={pretrain.optim.lr: {grid: [1e-4, 1e-2]}}"]
    run(load("x.yaml", more))
    assert times(search) == before
    assert "nothing to do" in capsys.readouterr().out

    best_of_all = load(str(search / "best.yaml"))
    assert best_of_all.stages["pretrain"].optim.lr == 0.01  # type: ignore[union-attr]


@pytest.mark.long
def test_a_failed_trial_is_told_and_the_others_go_on(
    ray_cluster: None, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = "{pretrain.optim.warmup: {grid: [1, 6]}, pretrain.steps: {grid: [8, 4]}}"
    spec = load("x.yaml", [f"stages.search.space={space}"])
    run(spec)
    metrics = json.loads((made(spec, "search") / "manifest.json").read_text())["metrics"]
    assert metrics["trials"] == {"done": 3, "stopped": 0, "failed": 1}
    assert "trial 3 failed: trial: pretrain.optim.warmup=6" in capsys.readouterr().out

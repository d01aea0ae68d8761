"""`plan --workers N --gpu NAME`: what it says, and what it refuses."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from jobs.cli import app

SPEC = """\
name: paper
seed: 1
storage: {storage}
cluster: {{price: 2.0, mtbf_hours: 20000}}
data: {{shards: [{text}]}}
stages:
  tokenizer: {{kind: tokenizer, vocab_size: 50000}}
  pretrain:
    kind: pretrain
    tokenizer: tokenizer
    model: {{depth: 24, width: 2048, heads: 16, context: 2048}}
    batch: 1024
    tokens: 100_000_000_000
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_text("some text\n" * 50)
    path = tmp_path / "paper.yaml"
    path.write_text(SPEC.format(storage=tmp_path / "runs", text=tmp_path / "a.txt"))
    return path


def plan(file: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["plan", str(file), *options], env={"COLUMNS": "200"})


def test_it_says_time_money_memory_network_ingest_and_goodput(file: Path) -> None:
    shown = plan(file, "--workers", "64", "--gpu", "h100")
    assert shown.exit_code == 0, shown.output
    assert "paper on paper: 64 h100 in 8 nodes" in shown.output
    rows = {line.split()[0]: line for line in shown.output.splitlines() if line.startswith("   ")}
    assert "1.32B parameters" in rows["model"]
    assert "47,684 steps of 2,097,152 tokens" in rows["training"]
    assert "of 84.9 GB a GPU" in rows["memory"] and "activations" in rows["memory"]
    assert "tokens/s a GPU, mfu" in rows["step"]
    assert "to other nodes at 50 GB/s" in rows["network"]
    assert "with falls" in rows["time"] and rows["cost"].split()[1].startswith("$")
    assert "every 20,000 h" in rows["goodput"] and "every 50,000 h" in rows["goodput"]
    assert "cores at 3.5 MB/s" in rows["ingest"]
    assert "cluster.workers=64" in rows["today"]


def test_options_win_over_the_spec(file: Path) -> None:
    shown = plan(file, "--workers", "16", "--gpu", "H100", "--price", "0", "--network", "12.5")
    assert "at 12.5 GB/s" in shown.output
    assert "`--price` or cluster.price" in shown.output


def test_the_specs_own_machines_are_the_default(file: Path) -> None:
    assert "1 h100 in 1 node" in plan(file, "--gpu", "h100").output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--gpu", "v100"], "--gpu v100: not known; there are a100-40"),
        (["--workers", "8"], "want --gpu, too"),
        (["--gpu", "h100", "--workers", "2000"], "1024 sequences cannot be dealt to 2,000 workers"),
    ],
)
def test_what_cannot_be_reckoned_is_one_line(file: Path, options: list[str], said: str) -> None:
    shown = plan(file, *options)
    assert shown.exit_code == 2
    assert said in shown.output and shown.output.count("\n") == 1


def test_what_fits_nowhere_is_told_with_a_remedy(file: Path) -> None:
    huge = "stages.pretrain.model.context=524288"
    shown = plan(file, huge, "--gpu", "l4", "--workers", "8")
    assert shown.exit_code == 0
    assert "no layout fits" in shown.output and "more workers" in shown.output


def test_a_model_of_unknown_size_waits_for_its_tokenizer(file: Path) -> None:
    shown = plan(
        file, "stages.tokenizer.vocab_size=auto", "stages.tokenizer.model=char", "--gpu", "h100"
    )
    assert shown.exit_code == 0
    assert "its size is known after 'tokenizer'" in shown.output

"""The audit command: what it finds by which name, and what it says."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.audit import newest_training
from jobs.cli import app
from llm.errors import ArtifactError
from tests.tasks import run_plain, write_task


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with one training in it, as `run` leaves it."""
    folder = tmp_path_factory.mktemp("runs")
    artifact = folder / "mine" / "pretrain" / "0123456789ab"
    artifact.parent.mkdir(parents=True)
    task = write_task(folder, steps=30, log_every=10)
    run_plain(task, artifact)
    record = {**json.loads(task.read_text()), "folder": str(artifact)}
    (artifact / "task.json").write_text(json.dumps(record))
    return folder / "mine"


def said(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["audit", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_run_a_stage_and_an_artifact_name_the_same_training(run: Path) -> None:
    artifact = run / "pretrain" / "0123456789ab"
    assert newest_training(run, None) == artifact
    assert newest_training(run, "pretrain") == artifact
    assert newest_training(run / "pretrain", None) == artifact
    assert newest_training(artifact, None) == artifact


def test_what_holds_no_training_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no training in it.*runs/quickstart"):
        newest_training(tmp_path, None)
    result = CliRunner().invoke(app, ["audit", str(run), "--stage", "other"])
    assert result.exit_code == 1
    assert "no training of a stage 'other'" in result.output


def test_the_proof_is_told_in_words(run: Path) -> None:
    text = said(run)
    assert "steps 1 to 30: each took exactly the sequences that follow" in text
    assert "nothing is left out, nothing repeated" in text.replace("\n", " ")
    assert "each once; not at its end" in text


def test_a_document_leads_to_its_steps_and_a_step_to_its_documents(run: Path) -> None:
    text = said(run, "--step", 7)
    assert text.count("sequence ") == 8
    name = next(line for line in text.splitlines() if ".jsonl#" in line)
    assert "step 7: " in said(run, "--document", name)

"""Jobs on a cluster that somebody else started, with a token: sent, left, stopped, gone on with."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.heads import Head, head
from tests.tasks import losses, run_plain, write_task

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SPEC = """\
name: sent
seed: 7
cluster: {workers: 1, cpus_per_worker: 1}
data: {shards: text, validation: {fraction: 0.02, tokens: 500}}
stages:
  tokenizer: {kind: tokenizer, file: tokenizer.model}
  pretrain:
    kind: pretrain
    tokenizer: tokenizer
    model: {depth: 2, width: 64, heads: 2, context: 64}
    batch: 8
    micro_batch: 4
    steps: 400
    precision: fp32
    log_every: 1
    validate_every: 400
    checkpoint: {every: 20}
"""

SOON = 300.0
"""Seconds for what takes a fraction of that on a machine that does nothing else."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Head]:
    with head(cpus=4) as cluster:
        yield cluster


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a spec, and the text and the tokenizer that it names."""
    folder = tmp_path / "project"
    folder.mkdir()
    write_task(folder)
    (folder / "sent.yaml").write_text(SPEC)
    (tmp_path / "store").mkdir()
    return folder


def command(cluster: Head, project: Path, *words: str) -> subprocess.Popen[str]:
    """`python -m jobs` of somebody in the project's folder."""
    where = [] if "doctor" in words else ["--address", cluster.url]
    return subprocess.Popen(
        [sys.executable, "-m", "jobs", *words, *where],
        cwd=project,
        env={**cluster.environment, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    out, err = process.communicate(timeout=SOON)
    return process.returncode, out, err


def wait_for_a_save(folder: Path) -> None:
    """Until a training has committed something."""
    end = time.monotonic() + SOON
    while not list(folder.glob("pretrain/*/checkpoints/step-*[0-9]")):
        assert time.monotonic() < end, f"nothing is saved in {folder}"
        time.sleep(0.05)


def job_in(said: str) -> str:
    found = re.search(r"job (sent-\S+);", said)
    assert found, said
    return found[1]


@pytest.mark.long
def test_a_job_left_stopped_and_resumed_takes_the_steps_of_one_undisturbed(
    cluster: Head, project: Path
) -> None:
    store = project.parent / "store" / "sent"
    code, _, said = finish(
        command(cluster, project, "submit", "sent.yaml", f"storage={store.parent}", "--no-wait")
    )
    assert code == 0, said
    first = job_in(said)
    assert "tokenizer.model" in said
    assert "text/0.jsonl" in said

    leaving = command(cluster, project, "logs", "-f", first)
    following = command(cluster, project, "logs", "-f", first)
    wait_for_a_save(store)
    leaving.send_signal(signal.SIGINT)
    code, _, said = finish(command(cluster, project, "stop", first))
    assert code == 0, said
    assert f"python -m jobs resume {first}" in said

    code, log, _ = finish(leaving)
    assert code == 130
    code, log, said = finish(following)
    assert code == 130
    stopped = re.search(r"stopped after step (\d+), which is saved", log)
    assert stopped, log
    assert 20 <= int(stopped[1]) < 400
    assert f"{first} was stopped" in said

    code, log, said = finish(command(cluster, project, "resume", "sent"))
    assert code == 0, said
    assert f"continuing after step {stopped[1]}" in log

    [made] = store.glob("pretrain/*")
    assert (made / "manifest.json").exists()
    assert (made / "model.safetensors").exists()
    task = json.loads((made / "task.json").read_text())
    task["data"]["shards"] = [str(project / "text")]
    undisturbed = project.parent / "undisturbed"
    (project / "again.json").write_text(json.dumps(task))
    run_plain(project / "again.json", undisturbed)
    assert losses(made) == losses(undisturbed)

    code, out, _ = finish(command(cluster, project, "list"))
    assert [line.split()[2] for line in out.splitlines()[1:]] == ["SUCCEEDED", "STOPPED"]


def test_a_job_that_fails_there_has_the_exit_code_that_it_would_have_here(
    cluster: Head, project: Path
) -> None:
    nowhere = project / "not" / "mounted"
    code, out, said = finish(
        command(cluster, project, "submit", "sent.yaml", f"storage={nowhere}/runs")
    )
    assert code == 1
    assert f"there is no {nowhere} on this node of the cluster" in out
    assert "failed with exit code 1" in said


def test_a_cluster_that_is_fit_is_said_to_be(cluster: Head, project: Path) -> None:
    store = project.parent / "store"
    process = command(
        cluster, project, "doctor", "sent.yaml", f"storage={store}", f"--address={cluster.url}"
    )
    code, out, said = finish(process)
    assert code == 0, out + said
    assert f"{store}: written and read" in out
    assert "for 1 worker of 1 CPU: 4" in out
    assert not list(store.iterdir())


def test_another_token_is_refused_in_one_line(cluster: Head) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jobs", "list", "--address", cluster.url],
        cwd=ROOT,
        env={**cluster.environment, "RAY_AUTH_TOKEN": "another"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "refuses the token of RAY_AUTH_TOKEN" in done.stderr
    assert done.stderr.count("\n") == 1

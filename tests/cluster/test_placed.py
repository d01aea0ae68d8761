"""Three raylets on this machine: text is read on some nodes, models are trained on others."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm.step_log import NAME
from tests.machines import ROOT, Machines, machines
from tests.tasks import losses, run_plain, write_text

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SPEC = """\
name: placed
storage: runs
cluster:
  workers: 2
  cpus_per_worker: 1
  train: {labels: {role: train}}
  data: {labels: {role: data}}
data: {shards: text, validation: {fraction: 0.02, tokens: 500}}
stages:
  tokenizer: {kind: tokenizer, model: char, vocab_size: auto}
  pretrain:
    kind: pretrain
    tokenizer: tokenizer
    model: {depth: 2, width: 32, heads: 2, hidden: 64, context: 32}
    batch: 8
    micro_batch: 2
    steps: 20
    log_every: 1
    precision: fp32
    optim: {lr: 3.0e-3, warmup: 5}
"""

WHERE = """
import json
from ray.util.state import list_actors, list_tasks
tasks = {one.node_id for one in list_tasks(detail=True, limit=9999) if "MapBatches" in one.name}
actors = {one.node_id for one in list_actors(detail=True) if one.class_name == "RayTrainWorker"}
print(json.dumps([sorted(tasks), sorted(actors)]))
"""
"""Prints the nodes on which text was read and models were trained, as Ray has them on record."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Machines]:
    """A head without CPUs, two nodes that train, and one for text."""
    with machines() as cluster:
        cluster.add(1, role="train")
        cluster.add(1, role="train")
        cluster.add(2, role="data")
        yield cluster


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_text(tmp_path / "text")
    (tmp_path / "x.yaml").write_text(SPEC)
    return tmp_path


def python(cluster: Machines, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A process of Python on the cluster, its current folder being `folder`."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=cluster.environment | {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "token"},
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.mark.long
def test_text_is_read_and_models_are_trained_where_the_spec_says_and_nothing_else_changes(
    cluster: Machines, folder: Path
) -> None:
    done = python(cluster, folder, "-m", "jobs", "run", "x.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    where = python(cluster, folder, "-c", WHERE)
    assert where.returncode == 0, where.stderr
    first, second, data = cluster.ids
    assert json.loads(where.stdout) == [[data], sorted([first, second])]

    [placed] = (folder / "runs" / "placed" / "pretrain").iterdir()
    run_plain(placed / "task.json", folder / "plain")
    assert (placed / NAME).read_bytes() == (folder / "plain" / NAME).read_bytes()
    assert losses(placed) == pytest.approx(losses(folder / "plain"), abs=1e-4)


LACKING = {
    "cluster.workers=4": "no room for 4 workers of 1 CPU each, but for 2",
    "cluster.gpus_per_worker=8": "no node with role=train has 8 GPU for a worker; none has any",
    "cluster.train.labels={role: trian}": "its nodes have role=data (1), role=train (2)",
    "cluster.train.resources={fast: 2}": "no node with role=train has 2 'fast' for a worker",
    "cluster.data.labels={role: text}": "no node of the cluster has role=text",
}
"""Overrides, and what is said."""

TRY = """
import sys
from jobs.load import load
from jobs.run import run
from llm.errors import SpecError
for override in sys.argv[1:]:
    try:
        run(load("x.yaml", [override]))
    except SpecError as error:
        print(error, file=sys.stderr)
"""


def test_what_the_cluster_lacks_is_said_before_the_first_stage_in_place_of_waiting(
    cluster: Machines, folder: Path
) -> None:
    done = python(cluster, folder, "-c", TRY, *LACKING)
    lines = [line for line in done.stderr.splitlines() if line.startswith("command line: ")]
    assert len(lines) == len(LACKING), done.stdout + done.stderr
    for line, (override, said) in zip(lines, LACKING.items(), strict=True):
        assert override in line and said in line
    assert not list(folder.glob("runs/placed/*/*/manifest.json"))

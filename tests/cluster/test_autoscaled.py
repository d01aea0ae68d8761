"""A stage that needs nodes which are not there yet: they come, it trains, they go."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.autoscaled import autoscaled
from tests.tasks import losses, run_plain, write_task, write_text

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.chaos]

SPEC = """\
name: scaled
storage: runs
cluster: {workers: 2, cpus_per_worker: 2}
data: {shards: text, validation: {fraction: 0.02, tokens: 500}}
stages:
  tokenizer: {kind: tokenizer, file: t.model}
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

NODES = """
import sys, time
import ray
ray.init(log_to_driver=False)
end = time.monotonic() + float(sys.argv[1])
def count():
    return sum(node["Alive"] and node["Resources"].get("CPU", 0) > 0 for node in ray.nodes())
while count() and time.monotonic() < end:
    time.sleep(0.5)
print(count())
"""
"""Waits until no node is left but the head, or the time is over; prints how many there are."""


def test_nodes_come_for_a_training_and_go_when_it_is_done(tmp_path: Path) -> None:
    write_text(tmp_path / "text")
    write_task(tmp_path / "task")
    (tmp_path / "t.model").write_bytes((tmp_path / "task" / "tokenizer.model").read_bytes())
    (tmp_path / "x.yaml").write_text(SPEC)
    with autoscaled(cpus=3, most=3) as environment:

        def python(*arguments: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, *arguments],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=600,
            )

        assert python("-c", NODES, "0").stdout.strip() == "0"
        begun = time.monotonic()
        done = python("-m", "jobs", "run", "x.yaml")
        trained = time.monotonic()
        assert done.returncode == 0, done.stdout + done.stderr
        waits = [line for line in done.stdout.splitlines() if "waiting for the autoscaler" in line]
        assert waits and "0 nodes to work on" in waits[0]
        assert python("-c", NODES, "180").stdout.strip() == "0"
        gone = time.monotonic()
    print(f"trained after {trained - begun:.0f} s, nodes gone {gone - trained:.0f} s later")
    print("\n".join(waits))
    [folder] = (tmp_path / "runs" / "scaled" / "pretrain").iterdir()
    run_plain(folder / "task.json", tmp_path / "plain")
    assert losses(folder) == pytest.approx(losses(tmp_path / "plain"), abs=1e-4)

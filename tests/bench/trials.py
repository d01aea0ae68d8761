"""What a sweep adds to real trainings: `python -m tests.bench trials`.

Six equal trainings of about half a minute, two at a time: as a sweep on a cluster of two cores,
each again as an ordinary `python -m jobs run`, and as `python -m llm.pretrain` of the task.json in
its artifact, without Ray. The tokens are cached for all. Neither the start of the sweep's cluster
nor the stages before it are counted.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TRIALS, AT_ONCE = 6, 2

SPEC = """\
name: bench
data: {shards: pydoc://, validation: {fraction: 0.05, tokens: 16384}}
stages:
  tokenizer: {kind: tokenizer, vocab_size: 2048}
  pretrain:
    kind: pretrain
    tokenizer: tokenizer
    cache: true
    model: {depth: 3, width: 128, context: 128}
    batch: 16
    steps: 200
"""

SEARCH = """\
  search:
    kind: sweep
    of: pretrain
    space: {pretrain.optim.eps: {grid: [1e-8, 1.1e-8, 1.2e-8, 1.3e-8, 1.4e-8, 1.5e-8]}}
    metric: bpb
    search: grid
    scheduler: none
"""


def swept(folder: Path) -> tuple[float, list[Path]]:
    """Seconds of the stage, and the tasks of its trials."""
    (folder / "sweep.yaml").write_text(SPEC + SEARCH)
    subprocess.run(run_of(folder, "sweep.yaml"), check=True)
    [manifest] = folder.glob("runs/bench/search/*/manifest.json")
    tasks = sorted(manifest.parent.glob("trials/*/work/pretrain/*/task.json"))
    assert len(tasks) == TRIALS, tasks
    return json.loads(manifest.read_text())["seconds"], tasks


def run_of(folder: Path, spec: str, *overrides: str) -> list[str]:
    """The command that runs a spec."""
    storage = f"storage={folder / 'runs'}"
    return [sys.executable, "-m", "jobs", "run", str(folder / spec), storage, *overrides]


def ordinary(folder: Path) -> float:
    """Seconds of the same trainings as runs of their own, on what the sweep's stages cached."""
    (folder / "one.yaml").write_text(SPEC)
    eps = [f"stages.pretrain.optim.eps={1 + number / 100}e-8" for number in range(1, 1 + TRIALS)]
    core = "cluster.cpus_per_worker=1"  # as a trial has; two each on two cores wait for each other
    return side_by_side([run_of(folder, "one.yaml", core, one) for one in eps])


def plain(tasks: list[Path], folder: Path) -> float:
    """Seconds of the same trainings as processes of python alone."""
    pretrain = [sys.executable, "-m", "llm.pretrain"]
    return side_by_side([[*pretrain, str(t), str(folder / f"{n}")] for n, t in enumerate(tasks)])


def side_by_side(commands: list[list[str]]) -> float:
    """Seconds of all of them, some at a time."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    begin = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        options = {"check": True, "env": environment, "stdout": subprocess.DEVNULL}
        for done in [pool.submit(subprocess.run, one, **options) for one in commands]:
            done.result()
    return time.monotonic() - begin


def main() -> None:
    """All three, and their ratios."""
    with tempfile.TemporaryDirectory() as name:
        seconds, tasks = swept(Path(name))
        runs = ordinary(Path(name))
        alone = plain(tasks, Path(name) / "plain")
    print(f"{TRIALS} trainings, {AT_ONCE} at once: sweep {seconds:.1f} s")
    for what, other in (("ordinary runs", runs), ("plain python", alone)):
        each = (seconds - other) * AT_ONCE / TRIALS
        print(f"{what} {other:.1f} s: ratio {seconds / other:.2f}, {each:+.1f} s a trial")


if __name__ == "__main__":
    main()

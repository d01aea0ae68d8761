"""What a sweep adds to real trainings: `python -m tests.bench trials`.

Six equal trainings of about half a minute, two at a time: as a sweep on a cluster of two cores, and
each again as `python -m llm.pretrain` of the task.json in its artifact. The tokens are cached for
both. Neither the start of the cluster nor the stages before the sweep are counted.
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
    (folder / "bench.yaml").write_text(SPEC)
    command = [sys.executable, "-m", "jobs", "run", str(folder / "bench.yaml")]
    subprocess.run([*command, f"storage={folder / 'runs'}"], check=True)
    [manifest] = folder.glob("runs/bench/search/*/manifest.json")
    tasks = sorted(manifest.parent.glob("trials/*/work/pretrain/*/task.json"))
    assert len(tasks) == TRIALS, tasks
    return json.loads(manifest.read_text())["seconds"], tasks


def plain(tasks: list[Path], folder: Path) -> float:
    """Seconds of the same trainings as processes of python alone."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def train(number: int, task: Path) -> None:
        command = [sys.executable, "-m", "llm.pretrain", str(task), str(folder / f"{number}")]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)

    begin = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(train, *one) for one in enumerate(tasks)]:
            done.result()
    return time.monotonic() - begin


def main() -> None:
    """Both, and their ratio."""
    with tempfile.TemporaryDirectory() as name:
        seconds, tasks = swept(Path(name))
        alone = plain(tasks, Path(name) / "plain")
    print(f"{TRIALS} trainings, {AT_ONCE} at once: sweep {seconds:.1f} s, plain {alone:.1f} s")
    print(f"ratio {seconds / alone:.2f}; {(seconds - alone) * AT_ONCE / TRIALS:.1f} s a trial")


if __name__ == "__main__":
    main()

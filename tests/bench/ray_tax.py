"""What Ray costs: `fit` fed by Ray Data inside Ray Train against the same `fit` in plain python.

One worker each, the same task, in turns, first with one thread and then with one for every core
(where Ray's own processes, some twenty that wake up all the time, take their share of the cores).
Ray is started for each of its runs, so that plain python has the machine to itself. Steady steps
only: the first fifth is left out. Start: from nothing to a worker that is ready to train.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from llm.metrics import read_log

ROUNDS = 3
STEPS = 30
THREADS = sorted({1, os.cpu_count() or 1})
MODEL = {"depth": 4, "width": 256, "heads": 4, "hidden": 704, "context": 256}


def main() -> None:
    """Measure and print a table for each number of threads."""
    from tests.tasks import write_task

    for threads in THREADS:
        folder = Path(tempfile.mkdtemp(prefix="humpty-bench-"))
        task = write_task(folder, model=MODEL, steps=STEPS, batch=16, micro_batch=8)
        plain, ray = [], []
        for turn in range(ROUNDS):
            plain.append(measure_plain(task, folder / f"plain-{turn}", threads))
            ray.append(measure_ray(task, folder / f"ray-{turn}", threads))
        report(threads, {"plain python": plain, "Ray Train + Ray Data": ray})


def measure_plain(task: Path, folder: Path, threads: int) -> dict[str, float]:
    """Run the task as `python -m llm.pretrain`."""
    from cluster.session import WORKER_ENVIRONMENT

    start = time.time()
    subprocess.run(
        [sys.executable, "-m", "llm.pretrain", str(task), str(folder)],
        check=True,
        capture_output=True,
        env={"OMP_NUM_THREADS": str(threads), **WORKER_ENVIRONMENT},
    )
    return figures(folder, start)


def measure_ray(task: Path, folder: Path, threads: int) -> dict[str, float]:
    """Run the task on a cluster of its own."""
    from cluster.config import ClusterConfig
    from cluster.session import session
    from cluster.train import pretrain
    from llm.task import read_task

    start = time.time()
    folder.mkdir()
    cluster = ClusterConfig(workers=1, cpus_per_worker=threads)
    with session(cluster):
        pretrain(replace(read_task(task), folder=str(folder)), cluster, lambda _: None)
    return figures(folder, start)


def figures(folder: Path, start: float) -> dict[str, float]:
    """Steady tokens a second, share of time without data, seconds until the workers were up."""
    events = read_log(folder / "metrics.jsonl")
    steady = [e for e in events if e["event"] == "step" and e["step"] > STEPS // 5]
    return {
        "rate": statistics.median(e["tokens_per_second"] for e in steady),
        "wait": statistics.mean(e["data_wait"] for e in steady),
        "start": next(e["time"] for e in events if e["event"] == "start") - start,
    }


def report(threads: int, results: dict[str, list[dict[str, float]]]) -> None:
    """Print medians, and rates as shares of plain python's."""
    base = statistics.median(run["rate"] for run in results["plain python"])
    counted = f"{threads} thread{'s' if threads > 1 else ''}"
    table = Table(title=f"fit, 1 worker, {counted}, {STEPS} steps, median of {ROUNDS} runs")
    for column in ("", "tokens/s", "of plain", "data wait", "seconds to start"):
        table.add_column(column, justify="left" if not column else "right")
    for name, runs in results.items():
        rate, wait, start = (
            statistics.median(r[k] for r in runs) for k in ("rate", "wait", "start")
        )
        table.add_row(name, f"{rate:,.0f}", f"{rate / base:.2f}", f"{wait:.1%}", f"{start:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()

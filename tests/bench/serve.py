"""What serving costs: an engine alone against the same engine behind HTTP and Ray Serve.

A model of 86 M parameters, 1, 8 and 32 streams of 64 tokens each at once; the client runs on the
same cores. `request`: a stream of one token from its beginning to its end. `kept`: the engine's
processor time for a token as a share of that of all processes that serve, which other programs
disturb less than rates; with OMP_NUM_THREADS=1 no thread waits busily. A way that cannot be run is
left out, with the reason.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench._serve import BATCHES, THREADS, TOKENS

SHAPE = {"depth": 12, "width": 768, "heads": 12, "hidden": 2048, "context": 256}
WAYS = ("engine", "front", "proxy", "haproxy")
SECONDS = 600


def main() -> None:
    """Measure every way in a process of its own, and print the table."""
    from tests.deploy.tiny import write_folder

    with tempfile.TemporaryDirectory(prefix="humpty-bench-") as folder:
        model = write_folder(Path(folder) / "bench", chat=False, **SHAPE)
        found = {way: measure(way, model) for way in WAYS}
    report({way: figures for way, figures in found.items() if figures})


def measure(way: str, model: Path) -> dict[str, Any] | None:
    """The figures of a way."""
    environment = dict(os.environ)
    if way == "haproxy":
        environment["RAY_SERVE_ENABLE_HA_PROXY"] = "1"
    command = [sys.executable, "-m", "tests.bench._serve", way, str(model)]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=True
        )
        figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return figures
    except subprocess.SubprocessError as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        print(f"{way} cannot be run: {said[-1] if said else error}")
        return None


def report(found: dict[str, dict[str, Any]]) -> None:
    """Rates, as shares of the engine's, and times."""
    table = Table(title=f"{TOKENS} tokens a stream, {THREADS} threads, best of 2")
    table.add_column("")
    table.add_column("request", justify="right")
    for batch in BATCHES:
        table.add_column(f"{batch}: tokens/s", justify="right")
        table.add_column("first", justify="right")
        table.add_column("kept", justify="right")
    for way, figures in found.items():
        cells = [f"{1000 * figures['request']:.1f} ms"]
        for batch in BATCHES:
            rate, first, work = figures[str(batch)]
            engine = found.get("engine", figures)[str(batch)]
            cells += [f"{rate:,.0f} ({rate / engine[0]:.2f})", f"{1000 * first:.0f} ms"]
            cells.append(f"{engine[2] / work:.2f}")
        table.add_row(way, *cells)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()

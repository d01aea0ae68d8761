"""Ten minutes of everything at once: does memory stay flat? HUMPTY_SOAK_SECONDS makes it shorter.

Eight clients chat and stream, four leave in the middle, and every minute the model is exchanged for
a copy of itself. Memory is what a process alone holds (USS): its share of pages that others use,
too, grows when those end. Flat: what the second half adds is less than a twentieth of the whole.
"""

import asyncio
import contextlib
import os
import shutil
import tempfile
import time
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from deploy.serve import Server
from deploy.service import ENGINE, ModelSource
from tests.bench.load import CONTEXT, LONG, TEXT
from tests.deploy.services import config, service, small_cluster
from tests.deploy.tiny import write_folder
from tests.load import Tally, chat, crowd, leave

SECONDS = float(os.environ.get("HUMPTY_SOAK_SECONDS", "600"))
SAMPLES = 20
PARTS = {
    "front": "ServeReplica:humpty:Front",
    "engine": "ServeReplica:humpty:Engines",
    "controller": "ServeController",
}


def main() -> None:
    """Run it, and print a table of memory."""
    with tempfile.TemporaryDirectory(prefix="humpty-soak-") as folder, small_cluster():
        first = write_folder(Path(folder) / "aaa", context=CONTEXT)
        other = Path(shutil.copytree(first, Path(folder) / "bbb"))
        sources = [ModelSource("humpty", str(path), 1) for path in (first, other)]
        with service(sources[:1], config(slots=16), engine=ENGINE) as server:
            samples, tally = asyncio.run(soak(server, sources))
    report(samples, tally)


async def soak(
    server: Server, sources: list[ModelSource]
) -> tuple[list[tuple[float, dict[str, float]]], Tally]:
    """Samples of memory in MB, and what the clients saw."""
    stop = asyncio.Event()
    crowds = [
        asyncio.create_task(crowd(server.url, clients=4, requests=10**9, body=body, stop=stop))
        for body in (TEXT, chat("humpty", 24))
    ]
    leaving = asyncio.create_task(keep_leaving(server, stop))
    samples, begin = [], time.monotonic()
    for number in range(SAMPLES + 1):
        wait = begin + number * SECONDS / SAMPLES - time.monotonic()
        await asyncio.sleep(max(0.0, wait))
        samples.append((time.monotonic() - begin, await asyncio.to_thread(memory)))
        if number % 2:
            await asyncio.to_thread(server.swap, [sources[(number // 2 + 1) % 2]])
    stop.set()
    await leaving
    tally, more = [await task for task in crowds]
    tally.statuses += more.statuses
    tally.broken += more.broken
    tally.tokens += more.tokens
    return samples, tally


async def keep_leaving(server: Server, stop: asyncio.Event) -> None:
    """Clients that go after the first piece."""
    while not stop.is_set():
        await leave(server.url, 4, LONG)


def memory() -> dict[str, float]:
    """MB of each part, all its processes together; those of other servers do not count."""
    found = dict.fromkeys(PARTS, 0.0)
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            line = " ".join(process.cmdline())
            for part, name in PARTS.items():
                if line.startswith("ray::") and name in line:
                    found[part] += process.memory_full_info().uss / 1e6
    return found


def report(samples: list[tuple[float, dict[str, float]]], tally: Tally) -> None:
    """A row a sample, and the verdict."""
    table = Table(title=f"memory in MB over {SECONDS:g} s")
    for column in ("seconds", *PARTS):
        table.add_column(column, justify="right")
    for seconds, found in samples:
        table.add_row(f"{seconds:.0f}", *(f"{found[part]:.0f}" for part in PARTS))
    Console().print(table)
    print(tally.line())
    for part in PARTS:
        middle, end = samples[len(samples) // 2][1][part], samples[-1][1][part]
        flat = "flat" if end - middle < 0.05 * middle else "GROWS"
        print(f"{part}: {end - middle:+.1f} MB in the second half: {flat}")


if __name__ == "__main__":
    main()

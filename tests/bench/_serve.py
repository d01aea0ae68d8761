"""One way of serving, measured: `python -m tests.bench._serve WAY FOLDER`, figures as JSON.

engine   the engine alone, in this process: no HTTP, no Ray
front    Front listens itself, as `jobs serve` does
proxy    behind Ray's proxy, as `serve deploy` does
haproxy  the same, with RAY_SERVE_ENABLE_HA_PROXY=1
"""

import asyncio
import json
import os
import statistics
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import psutil

from deploy.config import AutoscalingConfig, EngineConfig, LimitsConfig, ServeConfig
from deploy.protocol import Job, Piece, Sampling

BATCHES = (1, 8, 32)
TOKENS = 64
REQUESTS = 20
THREADS = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))
CONTEXT = 256
ENGINE = EngineConfig(slots=32, tokens=32 * CONTEXT, cpus=THREADS)


@dataclass
class Run:
    """What a crowd of one size saw."""

    rate: float
    """Tokens a second."""
    first: float
    """Seconds to the first token, the median."""
    work: float
    """Seconds of processors for a token, in all processes that serve."""


Crowd = Callable[[int, int, int], Awaitable[Run]]
"""Clients, requests, tokens each."""


async def measured(crowd: Crowd) -> dict[str, Any]:
    """All figures: best of two rates, and the time of a request that writes one token."""
    await crowd(8, 8, 16)
    seconds = []
    for _ in range(REQUESTS):
        start = perf_counter()
        await crowd(1, 1, 1)
        seconds.append(perf_counter() - start)
    figures: dict[str, Any] = {"request": statistics.median(seconds)}
    for batch in BATCHES:
        runs = [await crowd(batch, batch, TOKENS) for _ in range(2)]
        best = max(runs, key=lambda run: run.rate)
        figures[str(batch)] = [best.rate, best.first, min(run.work for run in runs)]
    return figures


def alone(folder: Path) -> dict[str, Any]:
    """The engine's own."""
    from deploy.engine import Engine

    async def run() -> dict[str, Any]:
        engine = Engine(folder, "bench", ENGINE, threads=THREADS)
        await engine.start()

        async def one(number: int, tokens: int) -> tuple[int, float]:
            job = Job(
                id=str(number),
                prompts=(prompt(number),),
                sampling=Sampling(max_tokens=tokens, ignore_end=True, seed=number),
            )
            begin, first, count = perf_counter(), 0.0, 0
            async for event in engine.generate(job):
                if isinstance(event, Piece):
                    first = first or perf_counter() - begin
                    count += event.tokens
            return count, first

        async def crowd(clients: int, requests: int, tokens: int) -> Run:
            begin, work = perf_counter(), process_time()
            done = await asyncio.gather(*(one(n, tokens) for n in range(requests)))
            count = sum(count for count, _ in done)
            return Run(
                count / (perf_counter() - begin),
                statistics.median(first for _, first in done),
                (process_time() - work) / count,
            )

        figures = await measured(crowd)
        await engine.stop(0)
        return figures

    return asyncio.run(run())


def prompt(number: int) -> str:
    """Sixteen words or so, none like another."""
    return f"{number} the king and all his men " * 2


def served(folder: Path, listens: bool) -> dict[str, Any]:
    """Through HTTP and Ray."""
    from deploy.serve import start
    from deploy.service import ModelSource
    from tests.deploy.services import small_cluster
    from tests.load import crowd as http

    config = ServeConfig(
        port=0,
        auth=False,
        engine=ENGINE,
        autoscaling=AutoscalingConfig(target=24.0),
        limits=LimitsConfig(concurrency=1000, requests_per_minute=1_000_000),
    )

    def body(tokens: int) -> Callable[[int], dict[str, Any]]:
        return lambda number: {
            "model": "bench",
            "prompt": prompt(number),
            "max_tokens": tokens,
            "ignore_eos": True,
            "seed": number,
            "stream_options": {"include_usage": True},
        }

    with small_cluster():
        source = ModelSource("bench", str(folder), 1)
        server = start([source], config, keys=None, feedback=None, listens=listens)

        async def crowd(clients: int, requests: int, tokens: int) -> Run:
            work = busy()
            tally = await http(server.url, clients=clients, requests=requests, body=body(tokens))
            assert tally.statuses == {200: requests} and not tally.broken, tally
            return Run(
                tally.tokens / tally.seconds,
                # A token without a character of its own gives no text.
                statistics.median(tally.first or [0.0]),
                (busy() - work) / tally.tokens,
            )

        try:
            return asyncio.run(measured(crowd))
        finally:
            server.stop()


def busy() -> float:
    """Seconds of processors that the service has used."""
    names = ("ray::ServeReplica:", "ray::ProxyActor", "haproxy")
    total = 0.0
    for process in psutil.process_iter(["cmdline", "cpu_times"]):
        line = " ".join(process.info["cmdline"] or [])
        if line.startswith(names) or "/haproxy " in line:
            total += process.info["cpu_times"].user + process.info["cpu_times"].system
    return total


def main(way: str, folder: str) -> None:
    """Print the figures of one way."""
    path = Path(folder)
    figures = alone(path) if way == "engine" else served(path, listens=way == "front")
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])

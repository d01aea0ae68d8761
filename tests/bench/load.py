"""Crowds at full size against a real engine: what must come out is that nothing is lost.

A chat model of a few thousand parameters, so that it is the service that has most to do: 64 clients
and 1,000 chats, 128 clients and 512 streams, four times as many as there is room for, 100 that
leave in the middle, two replicas of which one is killed under 16 streams, and one that comes and
goes with the load.
"""

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import ray

from deploy.config import ServeConfig
from deploy.serve import Server
from deploy.service import ENGINE, ModelSource
from tests.deploy.services import config, replicas, running, service, small_cluster, until
from tests.deploy.tiny import write_folder
from tests.load import Body, Tally, chat, completion, crowd, leave

CONTEXT = 512
COUNTED = {"ignore_eos": True, "stream_options": {"include_usage": True}}
TEXT = completion("humpty", 48, **COUNTED)
LONG = completion("humpty", 400, **COUNTED)


def main() -> None:
    """Run all of it, a line each."""
    with tempfile.TemporaryDirectory(prefix="humpty-load-") as folder, small_cluster():
        path = write_folder(Path(folder) / "abc", context=CONTEXT)
        source = ModelSource("humpty", str(path), 1)
        with at(source, slots=32, queue=512) as server:
            talk = chat("humpty", 32, ignore_eos=True)
            many = {"clients": 64, "requests": 1000, "stream": False}
            expect(server, "64 clients, 1,000 chats", {200}, talk, **many)
            expect(server, "128 clients, 512 streams", {200}, TEXT, clients=128, requests=512)
            asyncio.run(leave(server.url, 100, LONG))
            took = until(lambda: running() == 0, 10, "all slots are free")
            print(f"100 that leave: all slots free after {took:.2f} s", flush=True)
        with at(source, slots=8, queue=24) as server:
            expect(server, "four times too many", {200, 429}, TEXT, clients=128, requests=2000)
        with at(source, slots=16, replicas=(2, 2)) as server:
            print(f"a replica killed under 16 streams: {asyncio.run(killed(server)).line()}")
        with at(source, slots=8, replicas=(1, 2), target=4.0) as server:
            print(f"one replica, two, one: {asyncio.run(elastic(server)).line()}")


def at(source: ModelSource, **settings: Any) -> Any:
    """A service, as `tests.deploy.services.config` has it."""
    made: ServeConfig = config(**settings)
    return service([source], made, engine=ENGINE)


def expect(server: Server, what: str, allowed: set[int], body: Body, **size: Any) -> None:
    """A crowd, and a word if it saw anything else."""
    tally = asyncio.run(crowd(server.url, body=body, **size))
    wrong = "" if tally.statuses.keys() <= allowed and not tally.broken else "  WRONG"
    print(f"{what}: {tally.line()}{wrong}", flush=True)


async def killed(server: Server) -> Tally:
    """Some of the streams break, and say so; the others do not notice."""
    asking = asyncio.create_task(crowd(server.url, clients=16, requests=16, body=LONG))
    await asyncio.to_thread(until, lambda: running() == 16, 10, "all are being answered")
    ray.kill(next(iter(replicas().values())), no_restart=True)
    tally = await asking
    after = await crowd(server.url, clients=8, requests=64, body=TEXT)
    assert after.statuses == {200: 64} and not after.broken, after.line()
    return tally


async def elastic(server: Server) -> Tally:
    """Many ask until there are two replicas, then one does until there is one."""

    def count() -> int:
        return int(server.status()["replicas"].get("RUNNING", 0))

    tally = Tally()
    for clients, wanted in ((24, 2), (1, 1)):
        stop = asyncio.Event()
        asking = asyncio.create_task(
            crowd(server.url, clients=clients, requests=10**9, body=TEXT, stop=stop)
        )
        begin = time.monotonic()
        while count() != wanted and time.monotonic() - begin < 120:
            await asyncio.sleep(0.2)
        print(f"  {wanted} after {time.monotonic() - begin:.1f} s", flush=True)
        stop.set()
        part = await asking
        tally.statuses += part.statuses
        tally.broken += part.broken
        tally.tokens += part.tokens
        tally.seconds += part.seconds
    return tally


if __name__ == "__main__":
    main()

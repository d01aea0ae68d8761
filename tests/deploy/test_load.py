"""Crowds, in small; the whole is `python -m tests.bench load`."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import aiohttp
import pytest

ray = pytest.importorskip("ray")

from deploy.serve import Server  # noqa: E402
from deploy.service import ModelSource  # noqa: E402
from tests.deploy.services import (  # noqa: E402
    config,
    model,
    replicas,
    running,
    service,
    small_cluster,
    until,
)
from tests.load import Tally, chat, completion, crowd  # noqa: E402

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with small_cluster():
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    return model(tmp_path_factory.mktemp("models"), "aaa", pace=0.002)


class TestCrowds:
    @pytest.fixture(scope="class")
    def server(self, source: ModelSource) -> Iterator[Server]:
        with service([source], config(slots=32, queue=256)) as server:
            yield server

    def test_64_clients_chat_a_thousand_times(self, server: Server) -> None:
        body = chat("humpty", 8)
        tally = asyncio.run(crowd(server.url, clients=64, requests=1000, body=body, stream=False))
        print(tally.line())
        assert tally.statuses == {200: 1000} and not tally.broken
        assert tally.tokens == 8000

    def test_128_clients_read_512_streams(self, server: Server) -> None:
        body = completion("humpty", 50)
        tally = asyncio.run(crowd(server.url, clients=128, requests=512, body=body))
        print(tally.line())
        assert tally.statuses == {200: 512} and not tally.broken
        assert {len(text.split()) for text in tally.texts} == {50}
        until(lambda: running() == 0, 1.0, "all slots are free")


def test_four_times_too_many_get_an_answer_or_are_told_when_to_come_again(
    source: ModelSource,
) -> None:
    with service([source], config(slots=4, queue=8)) as server:
        body = completion("humpty", 50)
        tally = asyncio.run(crowd(server.url, clients=48, requests=400, body=body))
        print(tally.line())
        assert tally.statuses.keys() == {200, 429} and not tally.broken
        waits = asyncio.run(refusals(server.url, 48))
        assert waits and all(int(wait) > 0 for wait in waits)


async def refusals(url: str, count: int) -> list[str]:
    """Retry-After of those who were refused."""
    waits = []
    async with aiohttp.ClientSession() as session:

        async def ask() -> None:
            body = {"model": "humpty", "prompt": "a", "max_tokens": 50}
            async with session.post(f"{url}/v1/completions", json=body) as response:
                if response.status == 429:
                    waits.append(response.headers["Retry-After"])

        await asyncio.gather(*(ask() for _ in range(count)))
    return waits


def test_a_replica_comes_with_the_load_and_goes_without_an_error(source: ModelSource) -> None:
    elastic = config(slots=4, replicas=(1, 2), target=2.0)
    with service([source], elastic) as server:

        async def run() -> Tally:
            stop = asyncio.Event()
            body = completion("humpty", 100)
            many = asyncio.create_task(
                crowd(server.url, clients=12, requests=100_000, body=body, stop=stop)
            )
            await asyncio.to_thread(until, lambda: count(server) == 2, 60, "two replicas")
            stop.set()
            tally = await many
            stop.clear()
            few = asyncio.create_task(
                crowd(server.url, clients=1, requests=100_000, body=body, stop=stop)
            )
            await asyncio.to_thread(until, lambda: count(server) == 1, 60, "one replica")
            stop.set()
            last = await few
            tally.statuses += last.statuses
            tally.broken += last.broken
            return tally

        tally = asyncio.run(run())
        print(tally.line())
        assert tally.statuses.keys() == {200} and not tally.broken


def count(server: Server) -> int:
    return int(server.status()["replicas"].get("RUNNING", 0))


def test_nobody_asks_no_replica_is_there_and_the_first_request_waits_for_one(
    source: ModelSource,
) -> None:
    asleep = replace(config(slots=4), autoscaling=replace(config().autoscaling, min=0))
    with service([source], asleep) as server:
        until(lambda: not replicas(), 30, "no replica is left")
        tally = asyncio.run(crowd(server.url, clients=2, requests=2, body=completion("humpty", 5)))
        print(f"first answers after {max(tally.first):.1f} s")
        assert tally.statuses == {200: 2} and not tally.broken

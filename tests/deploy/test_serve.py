"""The service on Ray: what must not break when models change, replicas die and clients leave."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

ray = pytest.importorskip("ray")

from deploy.serve import Server, start  # noqa: E402
from deploy.service import ModelSource, ServeError  # noqa: E402
from llm.errors import SpecError  # noqa: E402
from tests.deploy.services import (  # noqa: E402
    config,
    model,
    replicas,
    running,
    service,
    small_cluster,
    until,
)
from tests.load import Tally, chat, completion, crowd, leave  # noqa: E402

pytestmark = [pytest.mark.ray, pytest.mark.slow]

OLD = "the old one says so "


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def old(folder: Path) -> ModelSource:
    return model(folder, "old", answer=OLD, pace=0.01)


@pytest.fixture(scope="module")
def server(old: ModelSource) -> Iterator[Server]:
    """Two replicas, 16 slots each."""
    with small_cluster(), service([old], config(replicas=(2, 2))) as server:
        yield server


def ask(server: Server, **crowd_size: int) -> Tally:
    size = {"clients": 1, "requests": 1, "tokens": 5, **crowd_size}
    body = completion("humpty", size.pop("tokens"))
    return asyncio.run(crowd(server.url, body=body, **size))  # type: ignore[arg-type]


def flawless(tally: Tally, requests: int) -> bool:
    return tally.statuses == {200: requests} and not tally.broken


def test_it_answers_at_the_address_that_it_gives(server: Server) -> None:
    tally = ask(server)
    assert flawless(tally, 1) and tally.texts == [OLD]
    assert server.status()["state"] == "RUNNING"
    assert server.status()["replicas"] == {"RUNNING": 2}


def test_a_second_service_on_the_same_port_is_refused_in_words(
    server: Server, old: ModelSource
) -> None:
    port = int(server.url.rsplit(":", 1)[1])
    with pytest.raises(SpecError, match=f"port {port}"):
        start([old], replace(config(), port=port), keys=None, feedback=None)


def test_a_hundred_clients_that_leave_free_their_slots_within_a_second(server: Server) -> None:
    asyncio.run(leave(server.url, 100, completion("humpty", 4000)))
    took = until(lambda: running() == 0, 1.0, "all slots are free")
    print(f"slots free after {took:.2f} s")
    assert flawless(ask(server), 1)


@asynccontextmanager
async def reading(
    session: aiohttp.ClientSession, url: str, tokens: int
) -> AsyncIterator[AsyncIterator[bytes]]:
    body = {"model": "humpty", "prompt": "a", "max_tokens": tokens, "stream": True}
    response = await session.post(f"{url}/v1/completions", json=body)
    assert response.status == 200
    try:
        yield aiter(response.content)
    finally:
        response.close()


def test_models_change_under_load_without_a_failed_request(
    server: Server, old: ModelSource, folder: Path
) -> None:
    new = model(folder, "new", answer="new", pace=0.01, load=0.5)

    async def run() -> tuple[Tally, Tally]:
        stop = asyncio.Event()
        asking = asyncio.create_task(
            crowd(server.url, clients=16, requests=10_000, body=chat("humpty", 20), stop=stop)
        )
        await asyncio.to_thread(server.swap, [new])
        after = await crowd(server.url, clients=4, requests=8, body=chat("humpty", 3))
        stop.set()
        return await asking, after

    before, after = asyncio.run(run())
    assert flawless(before, len(before.texts)) and flawless(after, 8)
    assert set(after.texts) == {"new new new "}
    assert {text.split()[0] for text in before.texts} == {"the", "new"}
    assert all(len(set(text.split()) & {"new", "old"}) == 1 for text in before.texts), "no mixture"
    server.swap([old])


def test_an_answer_in_the_making_ends_on_the_old_model(
    server: Server, old: ModelSource, folder: Path
) -> None:
    slow = model(folder, "newer", answer="newer")

    async def run() -> str:
        async with (
            aiohttp.ClientSession() as session,
            reading(session, server.url, tokens=300) as lines,
        ):
            text = await anext(lines)
            await asyncio.to_thread(server.swap, [slow])
            async for line in lines:
                text += line
        return text.decode()

    text = asyncio.run(run())
    assert "newer" not in text and text.rstrip().endswith("[DONE]")
    server.swap([old])


def test_models_that_cannot_be_loaded_change_nothing(
    server: Server, old: ModelSource, folder: Path
) -> None:
    with pytest.raises(ServeError, match="no room for it"):
        server.swap([model(folder, "broken", broken="no room for it")])
    assert ask(server).texts == [OLD]
    assert server.status()["models"] == {"humpty": "old"}
    server.swap([old])  # and the failure is not remembered


def test_further_models_come_and_go_by_name(server: Server, old: ModelSource, folder: Path) -> None:
    server.swap([old, model(folder, "second", id="second", answer="second")])
    second = asyncio.run(crowd(server.url, clients=2, requests=4, body=completion("second", 1)))
    assert flawless(second, 4) and set(second.texts) == {"second "}
    assert ask(server).texts == [OLD]
    server.swap([old])
    gone = asyncio.run(crowd(server.url, clients=1, requests=1, body=completion("second", 1)))
    assert gone.statuses == {404: 1}


def test_a_replica_that_is_killed_breaks_its_own_answers_only(server: Server) -> None:
    async def run() -> Tally:
        asking = asyncio.create_task(
            crowd(server.url, clients=16, requests=16, body=completion("humpty", 300))
        )
        await asyncio.to_thread(until, lambda: running() == 16, 10, "all are being answered")
        await asyncio.to_thread(kill_one)
        return await asking

    tally = asyncio.run(run())
    assert tally.statuses == {200: 16}
    assert 0 < len(tally.broken) < 16
    assert all("gone" in broken for broken in tally.broken), "each got an error event"
    assert len(tally.texts) == 16 - len(tally.broken)
    assert flawless(ask(server, clients=8, requests=40), 40)
    until(lambda: server.status()["replicas"] == {"RUNNING": 2}, 30, "another takes its place")


def kill_one() -> None:
    ray.kill(next(iter(replicas().values())), no_restart=True)


def test_a_front_that_is_killed_comes_back_at_the_same_address(
    server: Server, old: ModelSource
) -> None:
    (front,) = replicas("Front").values()
    ray.kill(front, no_restart=True)

    def answers() -> bool:
        tally = ask(server)
        return tally.statuses == {200: 1} and not tally.broken

    print(f"again after {until(answers, 30, 'it answers again'):.1f} s")
    assert ask(server).texts == [OLD]


def test_more_replicas_than_the_cluster_has_room_for_are_refused(
    server: Server, old: ModelSource
) -> None:
    with pytest.raises(SpecError, match="400 replicas with 1 CPUs each need 400, the cluster has"):
        start([old], config(replicas=(400, 400)), keys=None, feedback=None)


def test_the_front_is_light(server: Server) -> None:
    import psutil

    fronts = [p for p in psutil.process_iter(["cmdline"]) if "humpty:Front" in cmdline(p)]
    assert fronts
    for process in fronts:
        assert not any("libtorch" in each.path for each in process.memory_maps())


def cmdline(process: object) -> str:
    return " ".join(process.info["cmdline"] or [])  # type: ignore[attr-defined]


def test_stopping_lets_answers_end_and_takes_no_new_ones(folder: Path, server: Server) -> None:
    """The last test here: it ends the service."""

    async def run() -> tuple[Tally, float]:
        asking = asyncio.create_task(
            crowd(server.url, clients=4, requests=4, body=completion("humpty", 100))
        )
        await asyncio.to_thread(until, lambda: running() == 4, 10, "all are being answered")
        begin = time.monotonic()
        await asyncio.to_thread(server.stop)
        return await asking, time.monotonic() - begin

    tally, took = asyncio.run(run())
    assert flawless(tally, 4)
    assert took < 15

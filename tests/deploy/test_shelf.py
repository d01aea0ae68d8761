"""Models in a replica's memory: loaded once, never dropped under a job, never too many."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import pytest

from deploy.protocol import Event, Job
from deploy.service import ModelSource
from deploy.shelf import Shelf

A, B, C = (ModelSource(name, f"/runs/{name}", 1) for name in "abc")
A2 = ModelSource("a", "/runs/a2", 2)


class Fake:
    healthy = True
    load = None

    def __init__(self, source: ModelSource) -> None:
        self.source = source
        self.stopped = asyncio.Event()

    async def generate(self, job: Job) -> AsyncGenerator[Event, None]:
        return
        yield

    async def stop(self, drain: float) -> None:
        self.stopped.set()


class Loader:
    def __init__(self) -> None:
        self.made: list[Fake] = []
        self.may = asyncio.Event()
        self.may.set()
        self.error: Exception | None = None

    async def __call__(self, source: ModelSource) -> Fake:
        await self.may.wait()
        if self.error:
            raise self.error
        self.made.append(Fake(source))
        return self.made[-1]

    @property
    def held(self) -> list[str]:
        return [engine.source.folder for engine in self.made if not engine.stopped.is_set()]


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 10))


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_jobs_that_come_together_load_a_model_once() -> None:
    async def test() -> None:
        load = Loader()
        shelf = Shelf(load, resident=2)

        async def job() -> Any:
            async with shelf.borrow(A) as engine:
                return engine

        engines = await asyncio.gather(*(job() for _ in range(8)))
        assert len(load.made) == 1 and set(engines) == set(load.made)
        assert shelf.jobs() == 0

    run(test())


def test_the_longest_unused_makes_room() -> None:
    async def test() -> None:
        load = Loader()
        shelf = Shelf(load, resident=2)
        for source in (A, B, A, C):
            async with shelf.borrow(source):
                pass
        assert load.held == ["/runs/a", "/runs/c"]

    run(test())


def test_a_model_is_not_dropped_under_a_job_and_nobody_new_keeps_it() -> None:
    async def test() -> None:
        load = Loader()
        shelf = Shelf(load, resident=1)
        got = []

        async def job(source: ModelSource) -> None:
            async with shelf.borrow(source) as engine:
                got.append(engine)

        async with AsyncExitStack() as first:
            engine = await first.enter_async_context(shelf.borrow(A))
            other = asyncio.create_task(job(B))
            await settle()
            again = asyncio.create_task(job(A))  # stands in line behind B
            await settle()
            assert not got and load.held == ["/runs/a"] and not engine.stopped.is_set()  # type: ignore[attr-defined]
        await asyncio.gather(other, again)
        assert [engine.source.folder for engine in got] == ["/runs/b", "/runs/a"]  # type: ignore[attr-defined]
        assert load.held == ["/runs/a"]

    run(test())


def test_a_newer_artifact_is_loaded_beside_and_the_old_ends_with_its_last_job() -> None:
    async def test() -> None:
        load = Loader()
        shelf = Shelf(load, resident=1)
        async with shelf.borrow(A):
            await shelf.prepare(A2)
            assert load.held == ["/runs/a", "/runs/a2"]
            shelf.retire(A)
            await settle()
            assert load.held == ["/runs/a", "/runs/a2"]
            async with shelf.borrow(A2) as engine:
                assert engine is load.made[1]
        await load.made[0].stopped.wait()
        assert load.held == ["/runs/a2"]

    run(test())


def test_loading_holds_up_nobody_whose_model_is_there() -> None:
    async def test() -> None:
        load = Loader()
        shelf = Shelf(load, resident=2)
        await shelf.prepare(A)
        load.may.clear()
        loading = asyncio.create_task(shelf.prepare(B))
        await settle()
        async with shelf.borrow(A):
            assert not loading.done()
        load.may.set()
        await loading

    run(test())


def test_a_model_that_cannot_be_loaded_stands_in_nobodys_way() -> None:
    async def test() -> None:
        load = Loader()
        shelf = Shelf(load, resident=2)
        load.error = ValueError("damaged")
        with pytest.raises(ValueError, match="damaged"):
            await shelf.prepare(B)
        load.error = None
        async with shelf.borrow(A):
            assert load.held == ["/runs/a"]

    run(test())


def test_engines_that_broke_are_named() -> None:
    async def test() -> None:
        load = Loader()
        shelf = Shelf(load, resident=2)
        await shelf.prepare(A)
        await shelf.prepare(B)
        assert shelf.sick() == []
        load.made[1].healthy = False
        assert shelf.sick() == ["b"]

    run(test())

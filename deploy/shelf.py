"""The engines of a replica, one for each model that it holds in memory.

Jobs say which artifact they want, so an engine never changes what it is while it writes. A newer
artifact is loaded beside the old one (`prepare`); when the front has turned to it, the old one is
taken off (`retire`) and ends with its last job. Of more models than `resident` the one that was
longest unused makes room: nobody gets to it any more, and when its last job is done the new one
is loaded. Loading goes one after the other, and never holds up jobs of models that are there.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

from deploy.protocol import Event, Job
from deploy.service import ModelSource


class Engine(Protocol):
    """What is needed of `deploy.engine.Engine`."""

    @property
    def healthy(self) -> bool:
        """Whether it can go on."""

    @property
    def load(self) -> Any:
        """Jobs running and waiting, and the share of memory in use."""

    def generate(self, job: Job) -> AsyncGenerator[Event, None]:
        """The events of a job."""

    async def stop(self, drain: float) -> None:
        """End it; jobs in the making have `drain` seconds."""


class Place:
    """An engine and how many use it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.users = 0
        self.idle = asyncio.Event()
        self.idle.set()

    def enter(self) -> None:
        """One more."""
        self.users += 1
        self.idle.clear()

    def leave(self) -> None:
        """One less."""
        self.users -= 1
        if not self.users:
            self.idle.set()

    async def close(self) -> None:
        """Stop the engine after its last job."""
        await self.idle.wait()
        await self.engine.stop(0)


class Shelf:
    """Engines by artifact, the longest unused first."""

    def __init__(self, load: Callable[[ModelSource], Awaitable[Engine]], resident: int) -> None:
        self.load, self.resident = load, resident
        self.places: OrderedDict[tuple[str, str], Place] = OrderedDict()
        self.door = asyncio.Lock()
        self.leaving: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def borrow(self, source: ModelSource) -> AsyncIterator[Engine]:
        """The engine of a model, for one job."""
        key = (source.id, source.folder)
        place = self.places.get(key) or await self._fetch(source, self.resident - 1)
        place.enter()
        self.places.move_to_end(key)
        try:
            yield place.engine
        finally:
            place.leave()

    async def prepare(self, source: ModelSource) -> None:
        """Have a model at hand, beside those that are there."""
        if (source.id, source.folder) not in self.places:
            await self._fetch(source, self.resident)

    async def _fetch(self, source: ModelSource, others: int) -> Place:
        """Load a model, with so many others at most staying."""
        key = (source.id, source.folder)
        async with self.door:
            if key not in self.places:
                while len(self.places) > others:
                    await self.places.popitem(last=False)[1].close()
                self.places[key] = Place(await self.load(source))
            return self.places[key]

    def retire(self, source: ModelSource) -> None:
        """Take a model off; it ends with its last job."""
        if place := self.places.pop((source.id, source.folder), None):
            task = asyncio.create_task(place.close())
            self.leaving.add(task)
            task.add_done_callback(self.leaving.discard)

    def jobs(self) -> int:
        """Jobs that are being done."""
        return sum(place.users for place in self.places.values())

    def sick(self) -> list[str]:
        """Models whose engines cannot go on."""
        return [key[0] for key, place in self.places.items() if not place.engine.healthy]

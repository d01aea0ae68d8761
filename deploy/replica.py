"""A replica: engines that come when they are asked for, and events on their way to the front.

Ray Serve makes one for each of its replicas (`deploy.serve.app`); nothing here knows Ray.
"""

import asyncio
import importlib
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from deploy.bundles import bundles
from deploy.protocol import Event, Job
from deploy.service import ModelSource, read_models, read_service
from deploy.shelf import Engine, Shelf

ITEMS_PER_CORE = 60
"""Bundles of all its jobs that a replica sends in a second for each of its cores. One costs 0.85 ms
of its and the front's time together (stand-in engine, 2026), so sending takes a twentieth of the
time at most: 2 streams on 2 cores get a bundle every 17 ms, 32 streams one every 270 ms."""


class Engines:
    """A replica: loads models and writes."""

    def __init__(self, args: dict[str, Any]) -> None:
        service = read_service(args)
        self.config = service.config
        self.engine = service.engine
        self.shelf = Shelf(self._load, self.config.resident)
        self.fresh = True

    async def _load(self, source: ModelSource) -> Engine:
        module, name = self.engine.split(":")
        make = getattr(importlib.import_module(module), name)
        config = self.config.engine
        engine = await asyncio.to_thread(
            make, Path(source.folder), source.id, config, threads=config.cpus
        )
        await engine.start()
        loaded: Engine = engine
        return loaded

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Load the first models before the replica counts as running, later ones if asked."""
        if self.fresh:
            for source in read_models(user_config)[: self.config.resident]:
                await self.shelf.prepare(source)
        self.fresh = False

    async def generate(self, source: ModelSource, job: Job) -> AsyncIterator[list[Event]]:
        """The events of a job, in bundles."""
        async with (
            self.shelf.borrow(source) as engine,
            aclosing(bundles(engine.generate(job), self._pace)) as sent,
        ):
            async for bundle in sent:
                yield bundle

    def _pace(self) -> float:
        return self.shelf.jobs() / (ITEMS_PER_CORE * self.config.engine.cpus)

    async def prepare(self, sources: Sequence[ModelSource]) -> None:
        """Load models beside those that are there."""
        for source in sources:
            await self.shelf.prepare(source)

    async def retire(self, sources: Sequence[ModelSource]) -> None:
        """Drop models after their last job."""
        for source in sources:
            self.shelf.retire(source)

    async def load(self) -> dict[str, Any]:
        """What the engines are doing, by model."""
        return {key[0]: place.engine.load for key, place in self.shelf.places.items()}

    async def check_health(self) -> None:
        """Ray starts another replica in the place of one that raises."""
        if sick := self.shelf.sick():
            raise RuntimeError(f"the engines of {', '.join(sick)} broke")

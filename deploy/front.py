"""The front: the HTTP side in one process, without torch.

It holds what must be counted in one place: limits of keys, metrics, the one writer of the feedback
store; and says which models are served. Ray Serve makes one (`deploy.serve.app`); nothing here
knows Ray.
"""

import asyncio
import logging
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from deploy import access_log
from deploy.app import make_app
from deploy.feedback import FeedbackStore
from deploy.filters import Filters
from deploy.guard import Guard
from deploy.keys import KeyRing
from deploy.listener import Listener
from deploy.metrics import Metrics
from deploy.protocol import Backend
from deploy.service import KeySpec, ModelSource, Service, read_models

logger = logging.getLogger("humpty.serve")


class Engines(Backend, Protocol):
    """What the front needs of them beyond answers."""

    sources: dict[str, ModelSource]

    def turn_to(self, sources: Sequence[ModelSource]) -> None:
        """Serve these from now on."""

    async def follow(self, sources: Sequence[ModelSource]) -> None:
        """Turn to these when they are loaded."""

    async def drain(self, seconds: float) -> int:
        """Take no more jobs; how many were not done in time."""


class Front:
    """The HTTP side."""

    def __init__(self, service: Service, backend: Engines) -> None:
        self.service, self.backend = service, backend
        self.turning = asyncio.Lock()
        self.problem: str | None = None
        keep_log(service.log)
        self.following: asyncio.Task[None] | None = None
        self.asked: Sequence[ModelSource] = ()
        self.asgi = http_side(self.backend, self.service)
        self.listener = Listener(self.asgi, self.service.config) if self.service.listens else None

    def __serve_build_asgi_app__(self) -> Any:
        return self.asgi

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Serve these models; a change is made in the background, since Ray sends no requests here
        while this runs."""
        self.asked = sources = read_models(user_config)
        if not self.backend.sources:
            self.backend.turn_to(sources)
            if self.listener:
                self.listener.start()
        else:
            self.following = asyncio.create_task(self._follow(sources))

    async def _follow(self, sources: Sequence[ModelSource]) -> None:
        async with self.turning:
            self.problem = None
            try:
                await self.backend.follow(sources)
            except Exception as error:
                logger.exception("the models cannot be changed")
                self.problem = str(error) or type(error).__name__

    async def serving(self) -> tuple[dict[str, str], dict[str, str], str | None]:
        """Folders by model: what was asked for last and what is served; and why they differ."""
        if self.following:
            await asyncio.wait([self.following])
        return folders(self.asked), folders(self.backend.sources.values()), self.problem

    async def drain(self, seconds: float) -> int:
        """Take no more jobs; how many were not done in time."""
        return await self.backend.drain(seconds)


def keep_log(path: str | None) -> None:
    """Lines of requests, and what goes wrong, go to a file or to standard error."""
    stream = open(path, "a", encoding="utf-8", buffering=1) if path else sys.stderr  # noqa: SIM115
    access_log.show(stream)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.getLogger("humpty").addHandler(handler)


def folders(sources: Iterable[ModelSource]) -> dict[str, str]:
    """By model."""
    return {source.id: source.folder for source in sources}


def http_side(backend: Backend, service: Service) -> Guard:
    """The ASGI app with all that is counted and kept in one place."""
    return make_app(
        backend,
        service.config,
        keys=ring(service.keys),
        metrics=Metrics(),
        filters=Filters.load(service.config.filters),
        feedback=FeedbackStore(Path(service.feedback)) if service.feedback else None,
    )


def ring(spec: KeySpec | None) -> KeyRing | None:
    """The keys that open the door; None leaves it open."""
    if spec is None:
        return None
    if spec.file:
        return KeyRing.of_file(Path(spec.file))
    return KeyRing.of_environment(",".join(spec.hashes))

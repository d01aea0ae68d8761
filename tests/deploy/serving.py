"""Clients for applications: without a network, or a real server on a free port of this machine."""

import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from socket import socket
from typing import Any

import uvicorn
from starlette.testclient import TestClient

from deploy.app import make_app
from deploy.config import ServeConfig
from deploy.filters import Filters
from deploy.protocol import Backend

Step = Callable[[], Awaitable[None]]


async def nothing() -> None: ...


class Server(uvicorn.Server):
    """Tells when it listens; does something before and after, on its own event loop."""

    def __init__(self, app: Any, before: Step, after: Step) -> None:
        super().__init__(
            uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off")
        )
        self.before, self.after = before, after
        self.listens = threading.Event()

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await self.before()
        await super().startup(sockets)
        self.listens.set()

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        await super().shutdown(sockets)
        await self.after()


@contextmanager
def served(app: Any, before: Step = nothing, after: Step = nothing) -> Iterator[str]:
    """The server's URL; inside the block it answers."""
    server = Server(app, before, after)
    thread = threading.Thread(target=server.run)
    thread.start()
    assert server.listens.wait(60), "the server did not start"
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join(30)


def asking(backend: Backend, *, filters: Filters | None = None, **config: Any) -> TestClient:
    """A client without a network between it and the application, which asks for no key."""
    app = make_app(backend, ServeConfig(auth=False, **config), filters=filters)
    return TestClient(app, "http://127.0.0.1", raise_server_exceptions=False)


def chunks_of(response: Any) -> list[dict[str, Any]]:
    """The objects of a stream that ended as it should."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    *events, rest = response.text.split("\n\n")
    assert not rest
    assert events[-1] == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in events[:-1]]

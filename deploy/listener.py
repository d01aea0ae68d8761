"""An HTTP server in the loop that runs already, in a process whose signals are another's."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from socket import create_server
from typing import Any

import uvicorn

from deploy.config import ServeConfig
from deploy.service import family


class Listener(uvicorn.Server):
    """`start` and it listens, until its process ends."""

    def __init__(self, asgi: Any, config: ServeConfig) -> None:
        self.address = (config.host, config.port)
        super().__init__(
            uvicorn.Config(
                asgi,
                lifespan="off",  # Ray runs it
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=75,  # longer than clients keep idle connections
                h11_max_incomplete_event_size=config.limits.header_bytes + 4096,
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield

    def start(self) -> None:
        """Listen from now on."""
        listening = create_server(self.address, family=family(self.address[0]), backlog=2048)
        self.task = asyncio.create_task(self.serve(sockets=[listening]))

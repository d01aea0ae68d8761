"""How an answer gets to its client: as a whole, or event by event while it is written.

    backend.generate -> events() -> Reply -> JSON, or server-sent events and [DONE]

One place opens the engine's iterator and closes it, whatever happens: the client goes away, time is
up, a filter blocks all choices, the engine breaks. Nothing is sent before the engine's first event,
so what it refuses gets a status of its own; what breaks later is told in the stream.
"""

import asyncio
import logging
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from deploy.access_log import Access
from deploy.errors import ApiError, json_response, refused
from deploy.metrics import Meter, Metrics
from deploy.protocol import Backend, Ended, Event, Failed, Job, Refused
from deploy.reply import Reply
from deploy.screen import Screen

logger = logging.getLogger("humpty.delivery")

STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # nginx would collect tokens
}


@dataclass(kw_only=True, eq=False)
class Delivery(Response):
    """An ASGI response that asks the engine when it is sent."""

    backend: Backend
    job: Job
    reply: Reply
    streams: bool
    timeout: float
    """Seconds."""
    screen: Screen | None
    metrics: Metrics | None
    access: Access
    started: bool = False
    """Whether the client has got a status."""
    meter: Meter | None = None
    background: None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.meter = self.metrics.meter(self.reply.card.id) if self.metrics else None
        try:
            await unless_gone(receive, self.deliver(scope, receive, send))
        finally:
            if self.meter:
                self.meter.close()
            self.access.prompt_tokens = self.reply.begun.prompt_tokens
            self.access.generated_tokens = self.reply.written

    async def deliver(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The answer, or the error that ended it."""
        try:
            async with within(self.timeout), aclosing(self.events()) as events:
                if self.streams:
                    await self.stream(events, send)
                else:
                    response = await self.whole(events)
                    await response(scope, receive, send)
        except ApiError as error:
            await self.tell(error, scope, receive, send)
        except Exception as error:
            if not self.started:
                raise
            log_fault(error)
            await self.tell(broken("the server made a mistake"), scope, receive, send)

    async def events(self) -> AsyncGenerator[Event, None]:
        """Begun, pieces and ends, as they may be shown; or an ApiError that says why not."""
        open = self.job.n * len(self.job.prompts)
        source = cast(Any, self.backend.generate(self.reply.card.id, self.job))
        async with aclosing(source):
            async for event in source:
                for shown in await self.screen.look(event) if self.screen else (event,):
                    if self.meter:
                        self.meter.event(shown)
                    yield checked(shown)
                    open -= isinstance(shown, Ended)
                if self.screen and not open:
                    return  # what goes on behind it is not shown
        if open:
            raise broken("the answer broke off")

    async def whole(self, events: AsyncIterator[Event]) -> Response:
        """Everything at once."""
        async for event in events:
            self.reply.take(event)
        return json_response(self.reply.whole(), headers=self.reply.headers)

    async def stream(self, events: AsyncIterator[Event], send: Send) -> None:
        """Server-sent events; the first token is not held back for a second one."""
        async for event in events:
            chunks = [to_json(chunk) for chunk in self.reply.chunks(event)]
            if not self.started:
                await self.start(send)
            for chunk in chunks:
                await send_event(send, chunk)
        if self.reply.include_usage:
            await send_event(send, to_json(self.reply.last_chunk()))
        await send_event(send, b"[DONE]", last=True)

    async def start(self, send: Send) -> None:
        """Status and headers, from which on errors have to be told in the stream."""
        self.started = True
        headers = STREAM_HEADERS | self.reply.headers
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})

    async def tell(self, error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
        """An error, as far as the answer has got."""
        if self.started:
            await send_event(send, to_json(error.body), last=True)
        else:
            await error.response()(scope, receive, send)


async def send_event(send: Send, data: bytes, *, last: bool = False) -> None:
    body = b"data: " + data + b"\n\n"
    await send({"type": "http.response.body", "body": body, "more_body": not last})


def checked(event: Event) -> Event:
    """The event, unless it says that there will be no answer."""
    if isinstance(event, Refused):
        raise refused(event)
    if isinstance(event, Failed):
        raise broken(event.message)
    return event


def broken(what: str) -> ApiError:
    return ApiError(500, "engine_failed", f"{what}; ask again")


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """Time for an answer. Clients that try again by themselves are asked not to: it would take as
    long again."""
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise ApiError(
            504,
            "timeout",
            f"the answer took longer than {seconds:g} s; ask for fewer tokens (max_tokens)",
            headers={"x-should-retry": "false"},
        ) from None


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Do the work as long as somebody waits for it; when the client leaves, it is cancelled."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(disconnected(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
    if not working.cancelled():
        working.result()


async def disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def log_fault(error: Exception) -> None:
    """Where it happened; not its message, which may hold the text of a request."""
    places = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s in an answer\n%s", type(error).__name__, places)

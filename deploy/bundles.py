"""Events on their way between processes: the first at once, later ones in bundles.

Each item that Ray carries costs both processes some work, on cores that should multiply matrices.
So a stream sends what it has at most every `pace` seconds; the first piece of text, refusals and
ends do not wait. At 30 ms and less nobody sees it.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from time import monotonic

from deploy.protocol import Event, Piece


async def bundles(
    events: AsyncGenerator[Event, None], pace: Callable[[], float]
) -> AsyncGenerator[list[Event], None]:
    """Events in lists; closing this closes `events`, whatever it waits for."""
    box = Box()
    reader = asyncio.create_task(box.fill(events))
    last = -float("inf")
    try:
        while bundle := await box.take(last + pace()):
            if any(isinstance(event, Piece) for event in bundle):
                last = monotonic()
            yield bundle
        await reader
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


class Box:
    """What was written and not yet sent."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.some, self.ended = asyncio.Event(), asyncio.Event()

    async def fill(self, events: AsyncGenerator[Event, None]) -> None:
        """Put all events in."""
        try:
            async with aclosing(events):
                async for event in events:
                    self.events.append(event)
                    self.some.set()
        finally:
            self.some.set()
            self.ended.set()

    async def take(self, due: float) -> list[Event]:
        """All there is, at `due` or once it is complete; at the end nothing."""
        await self.some.wait()
        if (rest := due - monotonic()) > 0 and not self.ended.is_set():
            with_limit = asyncio.wait_for(self.ended.wait(), rest)
            await asyncio.gather(with_limit, return_exceptions=True)
        taken, self.events = self.events, []
        if not self.ended.is_set():
            self.some.clear()
        return taken

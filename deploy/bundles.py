"""Events on their way between processes: the first at once, later ones in bundles.

Each item that Ray carries costs both processes some work, on cores that should multiply matrices.
So a stream sends what it has at most every `pace` seconds; the first piece of text, refusals and
ends do not wait. At 30 ms and less nobody sees it. What a choice got in the meantime goes as one
piece, which spares the HTTP side as much again.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from time import monotonic
from typing import cast

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
            yield joined(bundle)
        await reader
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


def joined(events: list[Event]) -> list[Event]:
    """The same with one piece for each choice, up to its end. A prompt given back (no tokens that
    were written) stays by itself."""
    result: list[Event] = []
    open: dict[int, int] = {}  # where a choice's piece lies
    for event in events:
        if isinstance(event, Piece) and event.tokens:
            if event.index in open:
                at = open[event.index]
                result[at] = join(cast(Piece, result[at]), event)
                continue
            open[event.index] = len(result)
        result.append(event)
    return result


def join(first: Piece, second: Piece) -> Piece:
    """One piece of two that follow each other."""
    told = None
    if first.logprobs is not None and second.logprobs is not None:
        told = first.logprobs + second.logprobs
    return Piece(first.index, first.text + second.text, first.tokens + second.tokens, told)


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

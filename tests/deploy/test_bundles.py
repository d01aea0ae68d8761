"""Events in bundles: nothing lost, the first at once, closed with who listens."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from deploy.bundles import bundles, joined
from deploy.protocol import Begun, Ended, Event, Piece, TokenLogprob

NEVER = 1e6
"""Seconds that no test waits for."""


class Source:
    """Events when the test lets them out."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self.closed = asyncio.Event()

    async def events(self) -> AsyncGenerator[Event, None]:
        try:
            while (event := await self.queue.get()) is not None:
                yield event
        finally:
            self.closed.set()


def piece(n: int) -> Piece:
    return Piece(0, str(n), 1)


def test_the_first_piece_comes_at_once_and_the_end_does_not_wait() -> None:
    async def run() -> None:
        source = Source()
        sent = bundles(source.events(), lambda: NEVER)
        source.queue.put_nowait(Begun(3))
        assert await anext(sent) == [Begun(3)]
        source.queue.put_nowait(piece(0))
        assert await anext(sent) == [piece(0)]
        for n in range(1, 5):
            source.queue.put_nowait(piece(n))
        source.queue.put_nowait(Ended(0, "stop"))
        source.queue.put_nowait(None)
        rest = [event async for bundle in sent for event in bundle]
        assert rest == [Piece(0, "1234", 4), Ended(0, "stop")]

    asyncio.run(asyncio.wait_for(run(), 10))


def test_what_comes_within_the_pace_is_one_bundle() -> None:
    async def run() -> None:
        source = Source()
        sent = bundles(source.events(), lambda: 0.05)
        source.queue.put_nowait(piece(0))
        await anext(sent)
        for n in range(1, 5):
            source.queue.put_nowait(piece(n))
        assert await anext(sent) == [Piece(0, "1234", 4)]

    asyncio.run(asyncio.wait_for(run(), 10))


def test_without_a_pace_everything_passes_in_order() -> None:
    async def run() -> None:
        source = Source()
        for n in range(100):
            source.queue.put_nowait(piece(n))
        source.queue.put_nowait(None)
        sent = [event async for bundle in bundles(source.events(), lambda: 0) for event in bundle]
        assert "".join(event.text for event in sent) == "".join(map(str, range(100)))  # type: ignore[union-attr]
        assert source.closed.is_set()

    asyncio.run(asyncio.wait_for(run(), 10))


@pytest.mark.parametrize("seen", [0, 1])
def test_whoever_stops_listening_closes_the_source(seen: int) -> None:
    async def run() -> None:
        source = Source()
        for n in range(seen):
            source.queue.put_nowait(piece(n))
        sent = bundles(source.events(), lambda: NEVER)
        async with aclosing(sent):  # type: ignore[type-var]
            for _ in range(seen):
                await anext(sent)
            waiting = asyncio.ensure_future(anext(sent))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        await source.closed.wait()

    asyncio.run(asyncio.wait_for(run(), 10))


def test_an_error_of_the_source_comes_out_after_what_it_wrote() -> None:
    async def broken() -> AsyncGenerator[Event, None]:
        yield piece(0)
        raise ZeroDivisionError

    async def run() -> None:
        seen = []
        with pytest.raises(ZeroDivisionError):
            async for bundle in bundles(broken(), lambda: 0):
                seen += bundle
        assert seen == [piece(0)]

    asyncio.run(asyncio.wait_for(run(), 10))


def test_pieces_of_a_choice_are_joined_and_those_of_others_left_alone() -> None:
    def told(text: str) -> tuple[TokenLogprob, ...]:
        return (TokenLogprob(text, text.encode(), -1.0),)

    echo = Piece(0, "prompt", 0, told("prompt"))
    events: list[Event] = [
        Begun(3),
        echo,
        Piece(0, "a", 1, told("a")),
        Piece(1, "x", 1),
        Piece(0, "b", 1, told("b")),
        Piece(1, "y", 1),
        Ended(1, "stop"),
        Piece(0, "c", 1, told("c")),
    ]
    assert joined(events) == [
        Begun(3),
        echo,
        Piece(0, "abc", 3, told("a") + told("b") + told("c")),
        Piece(1, "xy", 2),
        Ended(1, "stop"),
    ]

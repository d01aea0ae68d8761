"""Answers as the filters let them through, choice by choice."""

from collections.abc import Iterator

from deploy.filters import Filters
from deploy.protocol import Ended, Event, Piece


class Screen:
    """Passes the events of a job on; a choice that is blocked ends there."""

    def __init__(self, filters: Filters, choices: int) -> None:
        self.filters = filters
        self.watched = [filters.stream() for _ in range(choices)]
        self.open = set(range(choices))

    async def look(self, event: Event) -> list[Event]:
        """`passed`, while other answers go on."""
        return await self.filters.aside(lambda _: list(self.passed(event)))

    def passed(self, event: Event) -> Iterator[Event]:
        """What may be shown once that has happened. Tokens count even where nothing is shown."""
        if isinstance(event, Piece):
            if event.index in self.open:
                yield from self.piece(event)
        elif isinstance(event, Ended):
            if event.index in self.open:
                yield from self.end(event)
        else:
            yield event

    def piece(self, piece: Piece) -> Iterator[Event]:
        watched = self.watched[piece.index]
        yield Piece(piece.index, watched.feed(piece.text), piece.tokens)
        if watched.blocked:
            self.open.discard(piece.index)
            yield Ended(piece.index, "content_filter")

    def end(self, ended: Ended) -> Iterator[Event]:
        watched = self.watched[ended.index]
        if rest := watched.finish():
            yield Piece(ended.index, rest, 0)
        self.open.discard(ended.index)
        yield Ended(ended.index, "content_filter" if watched.blocked else ended.reason)

"""How much one key may ask for, and how many requests may wait, so that a server goes on answering.

A request enters and gets a ticket, which it hands back when its answer has ended, however it ended;
or it is refused, and told when to come again. Requests per minute are a bucket of tokens for each
key: full at first, filled up evenly, one taken by each request; so after a pause a key may spend a
whole minute's requests at once. All in one process and on one thread: the ingress is one replica.
"""

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from deploy.config import ServeConfig

QUEUE_PAUSE = 1.0
"""Seconds after which somebody who found the queue full should come again: answers take about that
long, so places become free."""


@dataclass(frozen=True)
class Refusal:
    """Why a request may not enter, and in how many seconds it may."""

    code: str
    message: str
    retry_after: float


class Ticket:
    """A place that is taken, handed back once at the end of a `with`."""

    def __init__(self, limiter: "Limiter", key: str | None, queued: bool) -> None:
        self.limiter, self.key, self.queued = limiter, key, queued
        self.held = True

    def release(self) -> None:
        """Hand the place back; further calls do nothing."""
        if self.held:
            self.held = False
            self.limiter.leave(self)

    def __enter__(self) -> "Ticket":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


class Limiter:
    """Counts who is inside. `places`: requests that are answered or wait, of all keys."""

    def __init__(
        self,
        places: int,
        concurrency: int,
        requests_per_minute: int,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.places = places
        self.concurrency = concurrency
        self.requests_per_minute = requests_per_minute
        self.clock = clock
        self.inside: Counter[str | None] = Counter()
        self.queued = 0
        self.buckets: dict[str | None, tuple[float, float]] = {}
        """Requests left to a key, and when that was counted."""

    @classmethod
    def of(cls, config: ServeConfig) -> "Limiter":
        """The bounds of a server: every slot of every replica, and the queue behind them."""
        slots = config.engine.slots * config.autoscaling.max
        limits = config.limits
        return cls(slots + limits.queue, limits.concurrency, limits.requests_per_minute)

    def enter(self, key: str | None, *, queued: bool = True) -> Ticket | Refusal:
        """A place for a request of a key. `queued`: whether it needs an engine."""
        if self.inside[key] >= self.concurrency:
            return self.refused(
                f"{self.concurrency} requests of this key are being answered; wait for one of them",
                QUEUE_PAUSE,
            )
        if queued and self.queued >= self.places:
            return Refusal(
                "queue_full",
                f"{self.queued} requests are being answered or wait; come again later",
                QUEUE_PAUSE,
            )
        if (missing := self.take(key)) > 0:
            return self.refused(
                f"more than {self.requests_per_minute} requests of this key in a minute", missing
            )
        self.inside[key] += 1
        self.queued += queued
        return Ticket(self, key, queued)

    def refused(self, why: str, seconds: float) -> Refusal:
        """A refusal that is the key's own doing."""
        return Refusal(
            "rate_limit_exceeded",
            f"{why}; come again in {math.ceil(seconds)} s",
            seconds,
        )

    def take(self, key: str | None) -> float:
        """Take a request from a key's bucket; seconds until there will be one, 0 if there was."""
        rate = self.requests_per_minute / 60
        now = self.clock()
        left, then = self.buckets.get(key, (float(self.requests_per_minute), now))
        left = min(float(self.requests_per_minute), left + (now - then) * rate)
        taken = left >= 1
        self.buckets[key] = (left - taken, now)
        return 0.0 if taken else (1 - left) / rate

    def leave(self, ticket: Ticket) -> None:
        """A request has ended; keys without any are forgotten here."""
        self.queued -= ticket.queued
        self.inside[ticket.key] -= 1
        if not self.inside[ticket.key]:
            del self.inside[ticket.key]

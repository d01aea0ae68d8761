"""Where a training's driver and its workers meet: events and signs of life up, wishes down.

One actor, beside the driver, asked by both: a worker's call waits a second for a wish, so that it
paces the worker's signs and brings a wish at once. Should the actor fall, Ray starts it again, and
the next calls fill it again; only events on their way to the terminal are lost.
"""

import asyncio
import time
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from llm.metrics import Event
from llm.outside import Wish

BEAT_S = 1.0
"""Seconds between two signs of a worker."""

NEWS_S = 0.25
"""Seconds the driver waits for news at most."""

MOST_CALLS = 100_000
"""That wait at the same time: one for each worker."""


@dataclass(frozen=True)
class Sign:
    """What a worker says of itself."""

    group: int
    """Which of the groups that the driver has started it belongs to."""
    rank: int
    host: str
    doing: str
    """What it got on with last."""
    step: int
    idle: float
    """Seconds since then."""
    begun: bool
    """Whether it has done a step."""
    reclaimed: bool
    """Whether a machine of its group will be reclaimed, as its cloud says."""
    actor: Any = None
    """Its handle."""
    node: str = ""
    """Ray's name for its machine."""


@dataclass(frozen=True)
class Orders:
    """What a worker is told."""

    wish: Wish
    leave: bool = False
    """Save, and wait to be ended: a group of another size takes over."""
    replaced: bool = False
    """Another group works in its place: it must be gone at once."""


class Told(NamedTuple):
    """An error that ended a worker: what `llm.fell` knows of it (and would import torch here)."""

    rank: int
    step: int | None
    cause: str
    trace: str


@dataclass(frozen=True)
class News:
    """What the driver is told."""

    events: list[Event]
    signs: list[Sign]
    """The last sign of every worker of this group, idle until now."""
    ages: list[float]
    """Seconds since each of them came."""
    fallen: list[Told]
    """Errors that have ended workers of this group, the first of them first."""
    left: bool
    """The workers have saved, and wait to be ended."""
    placement: Any = None
    """What holds the group's room, once it has any."""


class Exchange:
    """The actor; all its methods run in one event loop."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.orders = Orders(Wish.NOTHING)
        self.changed = asyncio.Condition()
        self.begin(0)

    def begin(self, group: int) -> None:
        """A new group is about to start; nothing of the one before counts any more."""
        self.group = group
        self.signs: dict[int, tuple[Sign, float]] = {}
        self.fallen: list[Told] = []
        self.left = False
        self.controller: Any = None
        self.placement: Any = None
        self.orders = replace(self.orders, leave=False)

    # -- asked by workers and the controller --

    async def put(self, event: Event) -> None:
        """An event of the training's log."""
        self.events.append(event)
        await self._tell()

    async def beat(self, sign: Sign) -> Orders:
        """A sign of life, answered with orders as soon as there are any."""
        if sign.group != self.group:
            return replace(self.orders, replaced=sign.group < self.group)
        self.signs[sign.rank] = sign, time.monotonic()
        if self.orders == Orders(Wish.NOTHING):
            await self._wait(BEAT_S)
        else:
            await asyncio.sleep(BEAT_S / 4)
        return self.orders

    async def fell(self, group: int, fall: Told) -> None:
        """An error ends a worker."""
        if group == self.group:
            self.fallen.append(fall)

    async def gone(self, group: int, rank: int) -> None:
        """A worker's training is over, one way or the other: no sign will come any more."""
        if group == self.group:
            self.signs.pop(rank, None)

    async def parked(self, group: int) -> None:
        """The group has saved, as it was to leave."""
        self.left = self.left or group == self.group

    async def controlled_by(self, controller: Any) -> None:
        """The group's controller."""
        self.controller = controller

    async def placed(self, placement: Any) -> None:
        """The group has room: its placement group."""
        self.placement = placement

    # -- asked by the driver --

    async def give(self, orders: Orders) -> None:
        """Tell all workers."""
        self.orders = orders
        await self._tell()

    async def news(self) -> News:
        """What has come in; waits a little for it."""
        if not self.events:
            await self._wait(NEWS_S)
        events, self.events = self.events, []
        now = time.monotonic()
        ages = [now - at for _, at in self.signs.values()]
        signs = [sign for sign, _ in self.signs.values()]
        return News(events, signs, ages, self.fallen, self.left, self.placement)

    async def control(self) -> Any:
        """The controller's handle, once there is one."""
        return self.controller

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def _wait(self, seconds: float) -> None:
        try:
            async with self.changed:
                await asyncio.wait_for(self.changed.wait(), seconds)
        except TimeoutError:
            pass


def open_exchange() -> Any:
    """A new exchange on this node."""
    here = ray.get_runtime_context().get_node_id()
    return (
        ray.remote(Exchange)
        .options(
            num_cpus=0,
            max_concurrency=MOST_CALLS,
            max_restarts=-1,
            max_task_retries=-1,
            scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False),
        )
        .remote()
    )

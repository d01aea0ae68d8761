"""A worker's line to its driver: a thread that says how it gets on and hears what it is to do.

Whoever has not been heard for `SILENT_S` may have been replaced. So a worker that was stopped or
cut off for so long commits nothing before it gets through again; if it then learns that another
group works in its place, it ends at once.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.exceptions import RayError
from ray.train.v2._internal.execution.context import get_train_context

from cluster.exchange import Orders, Sign, Told
from cluster.watchdog import SILENT_S
from llm.fell import Fell, telling_where
from llm.metrics import Event
from llm.outside import Wish, Wishes

STEP = "step"
"""What `beat` is told at the end of a step, behind its save."""


class Line(Wishes):
    """One worker's end; also the place where its training looks for wishes."""

    def __init__(
        self,
        exchange: Any,
        group: int,
        rank: int,
        actor: Any,
        node: str,
        fence: Callable[[], bool],
    ) -> None:
        super().__init__()
        self.exchange, self.group, self.rank = exchange, group, rank
        self.actor, self.node, self.fence = actor, node, fence
        self.host = socket.gethostname()
        self.doing, self.step, self.since = "start", 0, time.monotonic()
        self.answered = time.monotonic()
        self.begun = self.leaving = self.granted = self.asked = self.closed = False
        self.committed = self.parked_at = -1
        self.saves_after = 0.0

    # -- called by the training --------------------------------------------------------------------

    def emit(self, event: Event) -> None:
        """An event of the log, on its way to the driver."""
        if event["event"] == "checkpoint":
            self.asked, self.committed = False, event["step"]
            self.saves_after = time.monotonic() + event["seconds"]
            self._park()
        self.exchange.put.remote(event)

    def take(self) -> Wish:
        """The wish that waits."""
        wish = super().take()
        self.granted = self.granted or bool(wish)
        return wish

    def beat(self, doing: str, step: int) -> None:
        """The training gets on."""
        self.doing, self.step, self.since = doing, step, time.monotonic()
        if doing != STEP:
            return
        self.begun = True
        if self.granted:
            self.granted = False
            if self.leaving:
                self.parked_at = step
                self._park()
                threading.Event().wait()  # what was trained from here on would be lost

    def may_write(self) -> bool:
        """Whether this run still owns its folder; waits while the worker may have been replaced."""
        while time.monotonic() - self.answered > SILENT_S:
            time.sleep(0.1)
        return self.fence()

    def _park(self) -> None:
        if 0 <= self.parked_at <= self.committed:
            self.exchange.parked.remote(self.group)

    # -- the thread --------------------------------------------------------------------------------

    def talk(self) -> None:
        """Say how it gets on, and hear; until closed."""
        while not self.closed:
            try:
                self.hear(ray.get(self.exchange.beat.remote(self.sign())))
            except RayError:  # the exchange is being started again, or the driver is gone
                time.sleep(1)

    def sign(self) -> Sign:
        """How it gets on."""
        idle = time.monotonic() - self.since
        return Sign(
            self.group,
            self.rank,
            self.host,
            self.doing,
            self.step,
            idle,
            self.begun,
            is_preempted(),
            self.actor,
            self.node,
        )

    def hear(self, orders: Orders) -> None:
        """Pass wishes on to the training."""
        if orders.replaced:
            os._exit(1)
        self.answered = time.monotonic()
        if orders.leave and not self.leaving:
            self.leaving = True
            self.ask(Wish.SAVE)
        self.ask(orders.wish)
        due = not self.asked and time.monotonic() >= self.saves_after
        if self.rank == 0 and due and is_preempted():
            # A node will be gone, nobody knows exactly when: save again and again, but no more than
            # half of the time.
            self.asked = True
            self.ask(Wish.SAVE)


def is_preempted() -> bool:
    """Whether a node of this group has been told that it will be reclaimed."""
    return get_train_context().preemption_context.preemption_info is not None


@contextmanager
def line_to(exchange: Any, group: int, fence: Callable[[], bool], folder: Path) -> Iterator[Line]:
    """A line that is open inside the block, and tells of an error that ends it."""
    rank = ray.train.get_context().get_world_rank()
    here = ray.get_runtime_context()
    line = Line(exchange, group, rank, here.current_actor, here.get_node_id(), fence)
    threading.Thread(target=line.talk, daemon=True).start()
    try:
        with telling_where(line.rank, lambda: line.step, folder):
            yield line
    except Fell as fall:
        told = Told(fall.rank, fall.step, fall.cause, fall.trace)
        ray.get(exchange.fell.remote(group, told))
        raise
    finally:
        line.closed = True
        exchange.gone.remote(group, line.rank)

"""Groups of workers, one after another, until a training is done.

Ray Train starts a group and ends it when a worker falls; then we look why, say it, and begin the
next one from the newest checkpoint, with as many workers as there is room for. We do not leave the
repetition to Ray Train: it counts falls over a whole run, however well the run gets on between
them, dies with its controller, and knows nothing of a training that is to go back or to stop.

Errors that a user can mend end the run at once; others only after `max_failures` falls in a row
between which no checkpoint was made.
"""

import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import ray
from ray.data import DataIterator
from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.util.placement_group import remove_placement_group

from cluster.config import ClusterConfig
from cluster.exchange import News, Orders, open_exchange
from cluster.falls import RECLAIMED, Fall, fall_at_start, fall_of, with_node
from cluster.ingest import dismiss
from cluster.interface import group_config
from cluster.introduced import Introduced
from cluster.patience import Patience
from cluster.place import Loop, Place, Task, work
from cluster.room import Demand, alive_nodes, ask_for, room_in, usable_nodes
from cluster.stop import Stop, asked_to_stop
from cluster.trainer import Trainer
from cluster.watchdog import LATE_S, awaited, hung
from llm import checkpoint, events
from llm.errors import Stopped, TrainingError, stopped_at
from llm.files import write_atomic
from llm.metrics import Emit, Event
from llm.outside import Wish, always
from llm.settle import settle

COLLECTIVE_TIMEOUT_S = 300
"""Seconds a worker waits for the others, at least."""

RESIZE_AFTER_S = 60.0
"""Seconds a group works before it makes room for a larger one."""

LOOK_S = 2.0
"""Seconds between two looks at the nodes."""

ABORT_S = 15.0
"""Seconds that a controller may take to end its workers."""

FAIL_AT_ONCE = FailureConfig(
    max_failures=0,
    controller_failure_limit=0,  # type: ignore[call-arg]
    max_preemption_failures=0,
)

Deal = Callable[[int], list[DataIterator]]
"""A stream that goes on where the newest checkpoint is: the shares of so many workers."""


def nothing(_: int) -> list[DataIterator]:
    """For workers that find their data themselves."""
    return []


@dataclass(frozen=True)
class Job:
    """What all groups of a training have in common."""

    loop: Loop
    task: Task
    cluster: ClusterConfig
    demand: Demand
    mirror: str | None
    """Where copies of the checkpoints are."""
    fence: Callable[[], bool] = always
    deal: Deal = nothing

    @property
    def folder(self) -> Path:
        """The artifact."""
        return Path(self.task.folder)


def on_workers(job: Job, emit: Emit) -> Event:
    """Run the job's loop in every worker; returns what the first worker's does."""
    with asked_to_stop() as stop, groups(job, emit, stop) as training:
        return training.run()


class Fit(threading.Thread):
    """A group's life, beside the driver's main thread, which hears signals."""

    def __init__(self, trainer: Trainer) -> None:
        super().__init__(daemon=True)
        self.trainer = trainer
        self.value: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """Until the group ends."""
        try:
            self.value = self.trainer.fit().return_value  # type: ignore[attr-defined]
        except BaseException as error:
            self.error = error


@contextmanager
def groups(job: Job, emit: Emit, stop: Stop) -> Iterator["Groups"]:
    """A training's groups; whatever happens, none outlives the block."""
    records = job.folder / "ray"
    shutil.rmtree(records, ignore_errors=True)  # of an attempt that was broken off
    training = Groups(job, emit, stop, open_exchange())
    try:
        yield training
    finally:
        training.close()
        shutil.rmtree(records, ignore_errors=True)


class Groups:
    """One training: `run` it once."""

    def __init__(self, job: Job, emit: Emit, stop: Stop, exchange: Any) -> None:
        self.job, self.emit, self.stop, self.exchange = job, emit, stop, exchange
        self.patience = Patience()
        self.number = self.workers = 0
        self.stopping = False
        self.most = job.demand.most
        self.step = 0
        """The last step that was heard of."""
        self.ending: Fall | None = None
        """Why we ended the group ourselves."""
        self.reclaimed = False
        """Whether one of its nodes will be taken away."""
        self.looked = self.told = 0.0
        self.hosts: dict[int, str] = {}
        """Where the ranks of this group are."""
        self.placement: Any = None
        """What holds the group's room."""

    def run(self) -> Event:
        """Train to the end."""
        while True:
            outcome = self.live(self.wait_for_room())
            if not isinstance(outcome, Fall):
                break
            self.recover(outcome)
        if isinstance(outcome, Stopped):
            raise outcome
        return outcome

    def close(self) -> None:
        """End what still runs."""
        self.abort(at_once=True)
        ask_for(self.job.demand, 0)
        ray.kill(self.exchange)

    # -- a group's beginning --

    def wait_for_room(self) -> int:
        """How many workers to begin with; says so if there is no room yet."""
        demand, waiting = self.job.demand, False
        while (room := min(room_in(usable_nodes(demand), demand), self.most)) < demand.least:
            self.leave_if_asked()
            if not waiting:
                ask_for(demand, demand.most)
                self.say("waiting", room=room, workers=demand.least, each=demand.worker)
            waiting = True
            time.sleep(0.5)
        return room

    def live(self, workers: int) -> Event | Stopped | Fall:
        """A group, from its beginning to its end."""
        if self.workers not in (0, workers):
            self.note("resized", workers_from=self.workers, workers_to=workers)
            self.say("resized", workers_from=self.workers, workers_to=workers)
        self.number, self.workers = self.number + 1, workers
        self.ending, self.reclaimed, self.hosts = None, False, {}
        settle(self.job.task.checkpoints, self.job.mirror, may_write=self.job.fence, say=self.emit)
        ray.get(self.exchange.begin.remote(self.number))
        try:
            shares = self.job.deal(workers)
        except Exception as error:  # of a storage, perhaps, that will be there in a moment
            return fall_at_start(error)
        try:
            return self.outlive(Fit(self.trainer(shares)))
        finally:
            dismiss(shares)
            self.free_room()

    def free_room(self) -> None:
        """Its controller has done so, unless it died."""
        if self.placement is not None:
            remove_placement_group(self.placement)
            self.placement = None

    def outlive(self, fit: Fit) -> Event | Stopped | Fall:
        """Attend to a group until it ends."""
        fit.start()
        begun = time.monotonic()
        while fit.is_alive():
            news = self.listen()
            self.attend(news, time.monotonic() - begun)
        news = self.listen()
        if fit.error is None:
            return fit.value
        if self.ending:
            return self.ending
        fall = fall_of(fit.error, news.fallen, range(self.workers))
        fall = with_node(fall, news.signs, alive_nodes())
        if fall.rank is not None and len(set(self.hosts.values())) > 1:
            fall = replace(fall, host=self.hosts.get(fall.rank))
        # A node may be gone sooner than announced.
        taken = self.reclaimed and fall.kind == "fall" and not fall.trace
        return replace(fall, kind="preemption", cause=RECLAIMED) if taken else fall

    def trainer(self, shares: list[DataIterator]) -> Trainer:
        """Ray Train's description of the next group."""
        job, cluster = self.job, self.job.cluster
        place = Place(
            job.loop,
            job.task,
            self.exchange,
            self.number,
            cluster.cpus_per_worker,
            job.fence,
            cluster.strategy,
            shares,
        )
        return Trainer(
            partial(work, place),  # as a config it would be loaded by the controller, too
            scaling_config=ScalingConfig(
                num_workers=self.workers,
                use_gpu=cluster.gpus_per_worker > 0,
                resources_per_worker=job.demand.worker,
                label_selector=job.demand.labels or None,  # type: ignore[call-arg]
            ),
            run_config=RunConfig(
                # Ray Train would resume a run of the same name from its own records.
                name=str(time.time_ns()),
                storage_path=str(job.folder / "ray"),
                failure_config=FAIL_AT_ONCE,
                callbacks=[Introduced(self.exchange)],  # type: ignore[list-item]
            ),
            backend_config=group_config(
                cluster.gpus_per_worker > 0, max(COLLECTIVE_TIMEOUT_S, ceil(cluster.hang_timeout))
            ),
        )

    # -- while it works --

    def listen(self) -> News:
        """What has come in; events are passed on."""
        news: News = ray.get(self.exchange.news.remote())
        for event in news.events:
            self.emit(event)
        self.placement = news.placement or self.placement
        self.step = max([self.step, *(sign.step for sign in news.signs)])
        self.reclaimed = self.reclaimed or any(sign.reclaimed for sign in news.signs)
        return news

    def attend(self, news: News, age: float) -> None:
        """Pass on a wish to stop, end what hangs, make room for a larger group."""
        if self.ending:
            return
        self.tell_of_hosts(news)
        if self.stop.asked:
            self.ask_to_stop(news)
        elif news.left:
            self.ending = Fall("makes room for a larger group", "leaving")
            self.abort()
        elif self.job.demand.most > self.workers and age > RESIZE_AFTER_S:
            self.look_for_room()
        if found := hung(news, self.job.cluster.hang_timeout):
            first = found.signs[0]
            self.ending = Fall(found.why, rank=first.rank, step=first.step)
            for sign in found.signs:
                ray.kill(sign.actor)

    def tell_of_hosts(self, news: News) -> None:
        """Say where the workers are, and for whom all wait, if they are on several hosts."""
        placed = len(self.hosts) == self.workers
        self.hosts |= {sign.rank: sign.host for sign in news.signs}
        if len(set(self.hosts.values())) < 2 or len(self.hosts) < self.workers:
            return
        if not placed:
            self.say("placed", hosts=dict(Counter(self.hosts[rank] for rank in sorted(self.hosts))))
        now = time.monotonic()
        if (late := awaited(news)) and now - self.told > LATE_S:
            self.told = now
            ranks = [sign.rank for sign in late]
            hosts = list(dict.fromkeys(sign.host for sign in late))
            self.say("awaited", hosts=hosts, ranks=ranks, doing=late[0].doing)

    def ask_to_stop(self, news: News) -> None:
        """Have the workers save and end; those that have not begun yet are just ended."""
        begun = any(sign.begun for sign in news.signs)
        if not self.stopping:
            self.stopping = True
            self.say("stopping", saves=begun)
        if begun:
            self.exchange.give.remote(Orders(Wish.STOP))
        else:
            self.ending = Fall("stopped", "leaving")
            self.abort()

    def look_for_room(self) -> None:
        """Ask the group to leave if a larger one would fit."""
        if time.monotonic() - self.looked < LOOK_S:
            return
        self.looked = time.monotonic()
        if room_in(usable_nodes(self.job.demand), self.job.demand) > self.workers:
            self.exchange.give.remote(Orders(Wish.NOTHING, leave=True))

    def abort(self, at_once: bool = False) -> None:
        """End the group from outside."""
        with suppress(RayError):
            controller = ray.get(self.exchange.control.remote(), timeout=ABORT_S)
            if controller is None:
                return
            if not at_once:
                ray.wait([controller.abort.remote()], timeout=ABORT_S)
            ray.kill(controller)

    # -- when it has fallen --

    def recover(self, fall: Fall) -> None:
        """Say what happened; raises if another group would not help."""
        step = fall.step if fall.step is not None else self.step
        if fall.kind in ("fall", "preemption"):
            self.note("fall", cause=fall.cause, rank=fall.rank, step=step)
            self.say("fall", cause=str(fall))
        demand = self.job.demand
        if fall.kind == "no room" and room_in(usable_nodes(demand), demand) >= self.workers:
            self.say("crowded", workers=self.workers)
        trace = self.job.folder / "error.txt"
        if fall.trace:
            write_atomic(trace, fall.trace)
        self.leave_if_asked()
        self.most = self.workers - 1 if fall.kind == "no room" else demand.most
        self.most = max(self.most, demand.least)
        self.patience = self.patience.after(fall.kind, self.saved())
        if spent := self.patience.spent(self.job.cluster, fall):
            where = f"; the whole traceback: {trace}" if fall.trace else ""
            raise TrainingError(f"{fall}; {spent}{where}")

    def leave_if_asked(self) -> None:
        """Stop between two groups."""
        if self.stop.asked:
            saved = self.saved()
            raise Stopped(stopped_at(saved) if saved else "stopped before anything was saved")

    def saved(self) -> int:
        """Step of the newest checkpoint."""
        steps = map(checkpoint.step_of, checkpoint.steps(self.job.task.checkpoints))
        return max(steps, default=0)

    def note(self, event: str, **values: Any) -> None:
        """Put on record, if the record is still ours."""
        if self.job.fence():
            events.note(self.job.folder, event, **values)

    def say(self, event: str, **values: Any) -> None:
        """Tell who watches."""
        self.emit({"event": event, "step": self.step, **values})

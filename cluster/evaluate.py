"""Models asked by actors, as many as the cluster has workers: `llm.examinee.Ask` on a cluster.

Items are dealt out in portions of like length, the longest first, to whoever is free. Every actor
keeps the model that it was asked about last. One that dies is started again by Ray, and what it was
asked is asked again; that loses nothing, since no call relies on an earlier one.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import torch

from cluster.config import ClusterConfig
from cluster.ppo import fetched
from cluster.room import demand_of, room_in, usable_nodes
from llm.errors import TrainingError, UserError
from llm.examinee import Desk
from llm.outside import always

PORTIONS = {"likelihoods": 512, "texts": 8, "write": 64, "recall": 64, "rewards": 128}
"""Items of a call: enough to sort by length and to be worth a call, few enough to be dealt out."""

Say = Callable[[str], None]


class RemoteDesk:
    """Answers in a process of its own; a user's mistake comes back as a value."""

    def __init__(self, precision: str, cpus: int) -> None:
        torch.set_num_threads(cpus)
        self.desk = Desk(precision)

    def ask(self, verb: str, folder: Path, items: Sequence[Any], how: Any) -> Any:
        """See `llm.examinee.Ask`."""
        return self.desk.ask(verb, folder, items, how)


class Desks:
    """Several of them."""

    def __init__(self, actors: Sequence[Any], say: Say, fence: Callable[[], bool] = always) -> None:
        self.actors, self.say, self.fence = actors, say, fence

    def ask(self, verb: str, folder: Path, items: Sequence[Any], how: Any = None) -> list[Any]:
        """See `llm.examinee.Ask`."""
        portions = dealt(items, PORTIONS[verb], len(self.actors))
        found: list[Any] = [None] * len(items)
        idle, waiting, done = list(self.actors), list(portions), 0
        busy: dict[ray.ObjectRef, tuple[Any, list[int]]] = {}
        while waiting or busy:
            while waiting and idle:
                actor, numbers = idle.pop(), waiting.pop(0)
                asked = actor.ask.remote(verb, folder, [items[i] for i in numbers], how)
                busy[asked] = actor, numbers
            (ready,), _ = ray.wait(list(busy))
            if not self.fence():
                raise TrainingError("another run has taken the folder over; this one ends")
            actor, numbers = busy.pop(ready)
            (answers,) = fetched([ready])
            for number, answer in zip(numbers, answers, strict=True):
                found[number] = answer
            idle.append(actor)
            done += len(numbers)
            self.say(f"{done:,}/{len(items):,}")
        return found


def dealt(items: Sequence[Any], size: int, actors: int) -> list[list[int]]:
    """Numbers of items in portions of like length, the longest first; neighbours that are equally
    long stay together, as the choices of a question are."""
    size = max(1, min(size, -(-len(items) // actors)))
    order = sorted(range(len(items)), key=lambda number: -length(items[number]))
    return [order[start : start + size] for start in range(0, len(order), size)]


def length(item: Any) -> int:
    """Characters of what is read, of whatever is asked."""
    first = item if isinstance(item, str) else item[0]
    return len(first) if isinstance(first, str) else sum(len(turn.text) for turn in first)


@contextmanager
def desks(
    cluster: ClusterConfig, precision: str, say: Say, fence: Callable[[], bool] = always
) -> Iterator[Desks]:
    """Actors of a worker's size, as many as there is room for, inside the block."""
    demand = demand_of(cluster)
    count = room_in(usable_nodes(demand), demand)
    if not count:
        raise UserError(
            f"evaluate: no node has room for a worker ({demand.worker}); lower "
            "cluster.cpus_per_worker or gpus_per_worker, or add nodes"
        )
    actor: Any = ray.remote(
        num_cpus=cluster.cpus_per_worker,
        num_gpus=cluster.gpus_per_worker,
        resources=dict(cluster.train.resources),
        scheduling_strategy="SPREAD",
        label_selector=cluster.train.labels,
        max_restarts=-1,
        max_task_retries=-1,
    )(RemoteDesk)
    made = [actor.remote(precision, cluster.cpus_per_worker) for _ in range(count)]
    try:
        yield Desks(made, say, fence)
    finally:
        for one in made:
            ray.kill(one)

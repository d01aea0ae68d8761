"""PPO on the cluster: workers of Ray Train learn; if so declared, actors write and judge for them.

Writers hold a copy of the policy, judges the reference and the reward model; they are spread over
the nodes. The trainer asks them what it would ask itself (`llm.roles`), micro batch by micro batch,
so a training takes the same steps either way.

An actor that dies is started again by Ray, and its call repeated. That loses nothing, since no call
relies on an earlier one: each says in which weights, lying in the object store, it is to be done.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray import ObjectRef
from ray.exceptions import RayTaskError

from cluster.config import ClusterConfig
from cluster.room import demand_of
from cluster.workers import Job, on_workers
from llm.align_config import ActorsConfig
from llm.artifact import read_model
from llm.errors import SpecError, UserError
from llm.examples import Prompt
from llm.experience import Texts
from llm.metrics import Emit, Event
from llm.model import Transformer
from llm.outside import Outside, always
from llm.ppo_memory import WRITTEN_TOGETHER
from llm.ppo_models import read_judge
from llm.ppo_run import PpoRun
from llm.ppo_run import ppo as ppo_here
from llm.ppo_task import PpoTask
from llm.roles import Later, Manner, write_all
from llm.rollout import Answers, Key
from llm.rules import load_rule
from llm.run import Setting
from llm.world import World
from llm.writer import Writer


def ppo(
    task: PpoTask, cluster: ClusterConfig, emit: Emit, fence: Callable[[], bool] = always
) -> Event:
    """Train a task on the connected cluster; returns its final figures."""
    if task.config.rule and not task.reward:
        load_rule(task.config.rule)  # a rule that is not there is said before anything starts
    actors = task.config.actors
    count = actors.writers + actors.judges if actors else 0
    job = Job(
        ppo_here,
        task,
        cluster,
        demand_of(cluster, spare_cpus=count * cluster.cpus_per_worker),
        task.config.checkpoint.mirror,
        fence,
    )
    if actors is None:
        return on_workers(job, emit)
    require_room(actors, cluster)
    crew = hire(task, actors, cluster)
    try:
        return on_workers(replace(job, loop=partial(learn_apart, crew)), emit)
    finally:
        for actor in (*crew.writers, *crew.judges):
            ray.kill(actor)


def require_room(actors: ActorsConfig, cluster: ClusterConfig) -> None:
    """Refuse actors that would wait forever for a place in the cluster."""
    count = actors.writers + actors.judges
    for resource, wanted in (
        ("CPU", (count + cluster.least_workers) * cluster.cpus_per_worker),
        ("GPU", count * actors.gpus + cluster.least_workers * cluster.gpus_per_worker),
    ):
        there = ray.cluster_resources().get(resource, 0)
        if wanted > there:
            raise SpecError(
                f"actors: {actors.writers} writers and {actors.judges} judges besides "
                f"{cluster.least_workers} workers need {wanted:g} {resource}s, the cluster has "
                f"{there:g}; ask for fewer, lower cluster.cpus_per_worker or gpus, or add nodes"
            )


@dataclass(frozen=True)
class Crew:
    """Handles of all actors."""

    writers: list[Any]
    judges: list[Any]


def hire(task: PpoTask, actors: ActorsConfig, cluster: ClusterConfig) -> Crew:
    """Start the actors, spread over the nodes."""
    cpus = cluster.cpus_per_worker
    spread = ray.remote(
        num_cpus=cpus,
        num_gpus=actors.gpus,
        scheduling_strategy="SPREAD",
        label_selector=cluster.train.labels,
        max_restarts=-1,  # one that never comes back shows as workers that hang
        max_task_retries=-1,
    )
    writer, judge = spread(RemoteWriter), spread(RemoteJudge)
    return Crew(
        [writer.remote(task, cpus) for _ in range(actors.writers)],
        [judge.remote(task, cpus) for _ in range(actors.judges)],
    )


def learn_apart(crew: Crew, task: PpoTask, outside: Outside) -> Event:
    """What every worker runs if others write and judge."""
    return PpoRun(task, outside, partial(remote_roles, crew)).run()


def remote_roles(
    crew: Crew, task: PpoTask, on: Setting, policy: Transformer, beat: Callable[[], None]
) -> "Remote":
    """This worker's share of the actors."""
    writers, judges = own_share(crew.writers, on.world), own_share(crew.judges, on.world)
    return Remote(writers, judges, policy, beat)


def own_share(actors: list[Any], world: World) -> list[Any]:
    """Every W-th actor; if there are fewer than workers, one that is shared."""
    return actors[world.rank :: world.size] or [actors[world.rank % len(actors)]]


class Remote:
    """Roles (`llm.roles`) that actors play; every part of what they do is a sign of life here."""

    def __init__(
        self, writers: list[Any], judges: list[Any], policy: Transformer, beat: Callable[[], None]
    ) -> None:
        self.writers, self.judges, self.beat = writers, judges, beat
        self.follow(policy)

    def follow(self, policy: Transformer) -> None:
        """Put the policy's weights where writers find them."""
        arrays = {name: p.detach().cpu().numpy() for name, p in policy.named_parameters()}
        self.weights = ray.put(arrays)

    def write(self, prompts: list[list[int]], keys: list[Key], manner: Manner) -> list[Answers]:
        """Each writer takes consecutive prompts, and answers as many at a time as it would write
        together anyway.
        """
        share = -(-len(prompts) // len(self.writers))
        asked = [
            # In a list the reference is passed as it is, and fetched only by who needs it.
            writer.write.remote([self.weights], prompts[part], keys[part], manner)
            for number, writer in enumerate(self.writers)
            for part in slices(number * share, min((number + 1) * share, len(prompts)))
        ]
        return [answers for part in self._fetch(asked) for answers in part]

    def reference(self, parts: list[Texts]) -> Later:
        """Micro batches go to the judges in turn."""
        asked = [self._judge(i).reference.remote(part) for i, part in enumerate(parts)]
        return partial(self._fetch, asked)

    def rewards(self, parts: list[Texts], prompts: list[list[Prompt]]) -> Later:
        """Micro batches go to the judges in turn."""
        pairs = enumerate(zip(parts, prompts, strict=True))
        asked = [self._judge(i).rewards.remote(*pair) for i, pair in pairs]
        return partial(self._fetch, asked)

    def _judge(self, number: int) -> Any:
        return self.judges[number % len(self.judges)]

    def _fetch(self, asked: list[ObjectRef]) -> list[Any]:
        waiting = asked
        while waiting:
            _, waiting = ray.wait(waiting)
            self.beat()
        return fetched(asked)


def slices(start: int, stop: int) -> list[slice]:
    """Of what is written together."""
    starts = range(start, stop, WRITTEN_TOGETHER)
    return [slice(one, min(one + WRITTEN_TOGETHER, stop)) for one in starts]


def fetched(asked: list[ObjectRef]) -> list[Any]:
    """Results of calls; a user's mistake comes as it was raised there."""
    try:
        return ray.get(asked)
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise


class RemoteWriter:
    """Writes answers with a copy of the policy."""

    def __init__(self, task: PpoTask, cpus: int) -> None:
        torch.set_num_threads(cpus)
        on = Setting.current(task.config)
        self.policy = read_model(Path(task.policy))[0].to(on.world.device)
        self.writer = Writer(self.policy, on.precision)
        self.held: ObjectRef | None = None

    def write(
        self, weights: list[ObjectRef], prompts: list[list[int]], keys: list[Key], manner: Manner
    ) -> list[Answers]:
        """Answers of the policy with those weights."""
        (wanted,) = weights
        if wanted != self.held:
            self._load(ray.get(wanted))
            self.held = wanted
        return write_all(self.writer, prompts, keys, manner)

    @torch.no_grad()
    def _load(self, arrays: dict[str, np.ndarray]) -> None:
        for name, parameter in self.policy.named_parameters():
            parameter.copy_(torch.from_numpy(arrays[name].copy()))  # the store's are read-only
        self.writer.refresh(self.policy)


class RemoteJudge:
    """The reference and the reward model."""

    def __init__(self, task: PpoTask, cpus: int) -> None:
        torch.set_num_threads(cpus)
        self.judge = read_judge(task, Setting.current(task.config))

    def reference(self, texts: Texts) -> torch.Tensor:
        """Log-probabilities of the answers' tokens."""
        return self.judge.reference(texts)

    def rewards(self, texts: Texts, prompts: list[Prompt]) -> torch.Tensor:
        """What each answer is worth."""
        return self.judge.rewards(texts, prompts)

"""How many trials run at the same time, and what machines they need together."""

import os
from dataclasses import replace
from typing import TypeVar

from cluster.config import ClusterConfig
from jobs.auto import searched
from jobs.planned import Plan, StagePlan
from jobs.stages import SearchStage
from llm.config import auto
from tune.config import ResourcesConfig

C = TypeVar("C", bound=ClusterConfig)


def on_machines(cluster: C, each: ResourcesConfig) -> C:
    """A cluster config for one trial."""
    return replace(
        cluster,
        workers=each.workers,
        cpus_per_worker=each.cpus_per_worker,
        gpus_per_worker=each.gpus_per_worker,
    )


def machines_of(plan: Plan, stage: SearchStage) -> ClusterConfig:
    """The machines of one trial."""
    return on_machines(plan.cluster, stage.each)


def side_by_side(plan: Plan, stage: SearchStage) -> int:
    """Trials at the same time on this machine: its cores are shared out, never shared."""
    if stage.concurrent != auto:
        return stage.concurrent
    each = machines_of(plan, stage)
    return max(1, (os.cpu_count() or 1) // (each.most_workers * each.cpus_per_worker))


def cpus_side_by_side(plan: Plan, search: StagePlan) -> int:
    """Logical CPUs of a cluster of our own on which so many trials run."""
    from cluster.session import cpus_of

    assert isinstance(search.written, SearchStage)
    stage = searched(search.written, plan.spec.cluster)  # also while it waits for another stage
    return side_by_side(plan, stage) * cpus_of(machines_of(plan, stage))

"""Alignment in Ray Train's workers: the same run as anywhere (`llm.align`)."""

from collections.abc import Callable

from cluster.config import ClusterConfig
from cluster.room import demand_of
from cluster.workers import Job, on_workers
from llm.align import align as align_here
from llm.align_task import AlignTask
from llm.metrics import Emit, Event
from llm.outside import always


def align(
    task: AlignTask, cluster: ClusterConfig, emit: Emit, fence: Callable[[], bool] = always
) -> Event:
    """Train a task on the connected cluster; returns its final figures."""
    mirror = task.train.checkpoint.mirror
    return on_workers(Job(align_here, task, cluster, demand_of(cluster), mirror, fence), emit)

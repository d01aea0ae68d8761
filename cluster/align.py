"""Alignment in Ray Train's workers: the same run as anywhere (`llm.align`)."""

from collections.abc import Callable

from cluster.config import ClusterConfig
from cluster.train import on_workers
from llm.align import align as align_here
from llm.align_task import AlignTask
from llm.metrics import Emit, Event
from llm.outside import always


def align(
    task: AlignTask, cluster: ClusterConfig, emit: Emit, fence: Callable[[], bool] = always
) -> Event:
    """Train a task on the connected cluster; returns its final figures."""
    return on_workers(align_here, task, cluster, emit, fence)

"""What Ray Train runs in the controller above a group's workers. It loads no torch."""

from typing import Any

import ray
from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerGroupCallback


class Introduced(ControllerCallback, WorkerGroupCallback):
    """Tells the exchange who the controller is, and what holds the room of its workers."""

    def __init__(self, exchange: Any) -> None:
        self.exchange = exchange

    def after_controller_start(self, train_run_context: Any) -> None:
        """Runs in the controller."""
        self.exchange.controlled_by.remote(ray.get_runtime_context().current_actor)

    def after_worker_group_start(self, worker_group: Any) -> None:
        """Runs in the controller, when the workers are there."""
        held = worker_group.get_worker_group_state().placement_group_handle
        self.exchange.placed.remote(held.placement_group)

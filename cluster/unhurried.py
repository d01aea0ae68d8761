"""Ray Data's executor looks fifty times a second, not as often as it can.

Its loop waits for tasks, but not for those that have something ready which there is no room for:
while the trainings lag behind their stream, which is how it should be, it turns without a pause and
takes half a core from them (Ray 2.60, `process_completed_tasks`).
"""

import time

from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data._internal.execution.streaming_executor import StreamingExecutor

TURN_S = 0.02
"""Of a loop, at least; a block is several megabytes, so this is no limit to a stream."""


class Unhurried(ExecutionCallback):
    """Stretches short turns of the loop."""

    def __init__(self) -> None:
        self.turned = 0.0

    def on_execution_step(self, executor: StreamingExecutor) -> None:
        """At the end of a turn."""
        time.sleep(max(0.0, self.turned + TURN_S - time.monotonic()))
        self.turned = time.monotonic()

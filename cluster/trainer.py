"""Ray Train's trainer without what a training of ours does not use."""

from typing import Any

from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import (
    PlacementGroupCleanerCallback,
)
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

LEFT_OUT = (DatasetsCallback, PlacementGroupCleanerCallback)


class Trainer(DataParallelTrainer):
    """Each process costs two seconds of a core before a group begins, which is felt in falls and in
    the trials of a sweep. So there is

    - no actor that deals the data: workers bring their own shares along;
    - no actor that frees the room of a controller which has died: the driver does
      (`cluster.workers`), or, if it has died as well, Ray;
    - no torch in the controller: see `cluster.interface.Backend`.
    """

    def _create_default_callbacks(self) -> list[Any]:
        every = super()._create_default_callbacks()
        return [one for one in every if not isinstance(one, LEFT_OUT)]

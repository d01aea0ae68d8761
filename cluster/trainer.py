"""Ray Train's trainer without what a training of ours does not use."""

from typing import Any

from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback


class Trainer(TorchTrainer):
    """Workers bring their own shares of the data along, so no actor has to deal any.

    One process less to start in every group, two seconds of a core: it matters where trials of a
    sweep, or falls, start many.
    """

    def _create_default_callbacks(self) -> list[Any]:
        every = super()._create_default_callbacks()  # type: ignore[misc]
        return [one for one in every if not isinstance(one, DatasetsCallback)]

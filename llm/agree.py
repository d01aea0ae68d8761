"""An error in one process of many that is raised in all of them, so that none waits for it."""

import torch.distributed as dist

from llm.errors import ArtifactError
from llm.world import World


def raise_together(world: World, error: BaseException | None) -> None:
    """Raise this process's error, or another's with the same words; called in all processes."""
    if world.max(float(error is not None)) == [0.0]:
        return
    said: list[str | None] = [str(error) if error else None]
    if world.size > 1:
        said = [None] * world.size
        dist.all_gather_object(said, str(error) if error else None)
    raise error or ArtifactError(next(text for text in said if text is not None))

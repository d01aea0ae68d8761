"""Whether what a process plans to hold fits into its machine, asked before anything is read."""

import os
from collections.abc import Mapping
from pathlib import Path

import torch

from llm.errors import TrainingError
from llm.metrics import size_of

CGROUP = Path("/sys/fs/cgroup/memory.max")
"""The limit of a container; "max" if it has none."""


def memory_of(device: torch.device) -> int:
    """Bytes of a GPU, or this process's share of the machine's memory."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if CGROUP.exists() and (limit := CGROUP.read_text().strip()).isdigit():
        total = min(total, int(limit))
    return total // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def require_room(planned: Mapping[str, int], there: int) -> None:
    """Refuse to start what cannot end well; TrainingError names the parts, the largest first."""
    wanted = sum(planned.values())
    if wanted <= there:
        return
    parts = sorted(planned.items(), key=lambda part: -part[1])
    listed = ", ".join(f"{name} {size_of(size)}" for name, size in parts)
    raise TrainingError(
        f"a worker needs about {size_of(wanted)} of memory ({listed}) and has {size_of(there)}; "
        "lower micro_batch, answer_tokens or batch, spread the roles with actors, or take a "
        "smaller model"
    )

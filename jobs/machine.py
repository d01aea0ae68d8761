"""What this machine is, for who plans a training on it."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cluster.examine import free, memory
from jobs.estimate import ASSUMED_FLOPS_PER_CORE, ASSUMED_FLOPS_PER_GPU
from jobs.facts import speed_in
from llm.metrics import size_of
from llm.processor import instructions

CORES_PER_WORKER = 8
"""More threads than that wait for each other in models of this size."""


@dataclass(frozen=True)
class Machine:
    """Cores, memory, GPUs, disk; bytes, and FLOPs a second that a training reaches."""

    cores: int
    memory: int
    """Of the machine; with GPUs of all of them together."""
    gpus: int
    disk: int
    flops: float
    measured: bool
    """Whether an earlier run told the speed."""
    instructions: frozenset[str] = frozenset()

    @property
    def workers(self) -> int:
        """One a GPU; without, two share the cores, more if there are many."""
        if self.gpus:
            return self.gpus
        return 1 if self.cores == 1 else max(2, self.cores // CORES_PER_WORKER)

    @property
    def words(self) -> str:
        """`2 cores, 23 GB of memory, no GPU, 310 GB of disk`"""
        cores = f"{self.cores} core{'s' if self.cores > 1 else ''}"
        if not self.gpus:
            return (
                f"{cores}, {size_of(self.memory)} of memory, no GPU, {size_of(self.disk)} of disk"
            )
        gpus = f"{self.gpus} GPU{'s' if self.gpus > 1 else ''} with {size_of(self.memory)}"
        return f"{cores}, {gpus}, {size_of(self.disk)} of disk"


def this_machine(storage: str) -> Machine:
    """The one where this runs; `storage` is where runs are kept."""
    cores, gpus = os.cpu_count() or 1, gpu_memories()
    known = speed_in(Path(storage))
    assumed = ASSUMED_FLOPS_PER_GPU * len(gpus) if gpus else ASSUMED_FLOPS_PER_CORE * cores
    return Machine(
        cores=cores,
        memory=sum(gpus) if gpus else memory()["total"],
        gpus=len(gpus),
        disk=free(storage)["free"],
        flops=known or assumed,
        measured=known is not None,
        instructions=instructions(),
    )


def gpu_memories() -> list[int]:
    """Bytes of each GPU that NVIDIA's driver shows."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        shown = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [int(line) << 20 for line in shown.split() if line.isdecimal()]

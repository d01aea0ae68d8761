"""The processes that train together, and the machine each of them runs on.

`World.current()` reads whatever process group exists (none, torchrun's or Ray Train's), so that
the code above it is the same for one process and for many.
"""

import time
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class World:
    """This process's place: `rank` of `size`, computing on `device`."""

    rank: int
    size: int
    device: torch.device

    @classmethod
    def current(cls) -> "World":
        """The place in the process group that is up, or alone."""
        device = torch.device("cuda", torch.cuda.current_device()) if use_gpu() else CPU
        if not dist.is_initialized():
            return cls(0, 1, device)
        return cls(dist.get_rank(), dist.get_world_size(), device)

    def sum(self, *values: float) -> list[float]:
        """Each value added up over all processes, in double precision."""
        return self._reduce(values, dist.ReduceOp.SUM)

    def max(self, *values: float) -> list[float]:
        """The largest of each value over all processes."""
        return self._reduce(values, dist.ReduceOp.MAX)

    def _reduce(self, values: tuple[float, ...], operation: dist.ReduceOp.RedOpType) -> list[float]:
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor, operation)
        return tensor.tolist()


CPU = torch.device("cpu")


def use_gpu() -> bool:
    """Whether this process was given a GPU (Ray hides the others by CUDA_VISIBLE_DEVICES)."""
    return torch.cuda.is_available()


def fastest_precision(device: torch.device) -> Precision:
    """bf16 where the processor multiplies it in hardware, else fp32."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if fast else "fp32"


def peak_flops(device: torch.device, precision: Precision, seconds: float = 0.1) -> float:
    """Matrix-product FLOP/s this process reaches on 1024 x 1024 operands: the limit for `mfu`."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    size = 1024 if device.type == "cpu" else 8192
    a, b = (torch.ones(size, size, dtype=dtype, device=device) for _ in range(2))
    torch.mm(a, b)  # the first product sets up its kernels
    best = 0.0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        torch.mm(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best

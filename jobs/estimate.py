"""What a training costs, from the model's size and the speed of an earlier one."""

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.config import ClusterConfig
from jobs.facts import Facts
from jobs.stages import AnyStage, PretrainStage
from llm.config import LoopConfig, ModelConfig
from llm.gpus import GPUS_PER_NODE
from llm.memory import Kernels, Layout, memory, processor_kernels, saved
from llm.processor import has_tiles, multiplies_bf16
from llm.size import flops_per_token, kept_by, like_decoder, parameters

ASSUMED_FLOPS_PER_CORE = 40e9
"""Training speed of one CPU core where no earlier run tells (4M parameters, bf16, EPYC: 78e9)."""

ASSUMED_FLOPS_PER_GPU = 50e12
"""The same of a GPU, as llm/passes.py reckons."""


@dataclass(frozen=True)
class Estimate:
    """What a training costs."""

    parameters: Mapping[str, int]
    """Exact, by part of the model."""
    bytes_per_worker: Mapping[str, int]
    flops: int
    seconds: float
    speed: str
    """What `seconds` goes by."""


def estimate(
    stage: AnyStage, vocab: int | None, cluster: ClusterConfig, facts: Facts
) -> Estimate | None:
    """The cost of a resolved training; None for other stages."""
    if not isinstance(stage, PretrainStage):
        return None
    assert vocab is not None
    flops = flops_per_token(stage.model, vocab) * stage.tokens
    usual, assumed = assumed_speed(cluster, facts)
    speed = facts.flops_per_second or usual
    return Estimate(
        parameters=parameters(stage.model, vocab),
        bytes_per_worker=worker_memory(
            stage, like_decoder(stage.model), vocab, cluster, facts.instructions
        ),
        flops=flops,
        seconds=flops / speed,
        speed="as fast as the last run here" if facts.flops_per_second else assumed,
    )


def assumed_speed(cluster: ClusterConfig, facts: Facts) -> tuple[float, str]:
    """FLOPs a second where no earlier run tells, in words as well."""
    if cluster.gpus_per_worker:
        gpus = cluster.most_workers * cluster.gpus_per_worker
        return ASSUMED_FLOPS_PER_GPU * gpus, "if a GPU does 50 TFLOP/s"
    cores = min(facts.cores, cluster.most_workers * cluster.cpus_per_worker)
    does = "core does" if cores == 1 else "cores do"
    return ASSUMED_FLOPS_PER_CORE * cores, f"if {cores} {does} 40 GFLOP/s each"


def shards_of(cluster: ClusterConfig, workers: int) -> int:
    """Workers that share one copy of the model; nodes are taken to have eight at most."""
    return {"ddp": 1, "fsdp": workers, "hsdp": min(workers, GPUS_PER_NODE)}[cluster.strategy]


def worker_memory(
    loop: LoopConfig,
    model: ModelConfig,
    vocab: int,
    cluster: ClusterConfig,
    instructions: frozenset[str],
    sequences: int = 1,
) -> dict[str, int]:
    """Bytes of a worker, or of its GPU, at the peak, by class; what is nothing is left out.

    sequences: that a row of the batch stands for (two answers are compared).
    """
    workers = cluster.most_workers
    layout = Layout(
        micro_batch=sequences * loop.micro_batch,
        rounds=-(-loop.batch // (loop.micro_batch * workers)),
        workers=workers,
        shards=shards_of(cluster, workers),
        moments=kept_by(loop.optim, model, vocab),
        recompute="full" if loop.recompute == "layers" else "none",
    )
    if cluster.gpus_per_worker:
        parts = memory(model, vocab, layout, Kernels(compute=4 if loop.precision == "fp32" else 2))
    else:
        automatic = loop.precision == "auto" and multiplies_bf16(instructions)
        bf16 = loop.precision == "bf16" or automatic
        kernels = processor_kernels(model, bf16, has_tiles(instructions))
        parts = memory(model, vocab, layout, kernels)
        parts["saving"] = saved(model, vocab, layout)  # on a GPU's machine that is host memory
    return {name: size for name, size in parts.items() if size}

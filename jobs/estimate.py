"""What a training costs, from the model's size and the speed of an earlier one."""

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.config import ClusterConfig
from jobs.facts import Facts
from jobs.spec import AnyStage, PretrainStage
from llm.size import bytes_per_worker, flops_per_token, parameters

ASSUMED_FLOPS_PER_CORE = 40e9
"""Training speed of one CPU core where no earlier run tells (4M parameters, bf16, EPYC: 78e9)."""


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
    cores = min(facts.cores, cluster.most_workers * cluster.cpus_per_worker)
    speed = facts.flops_per_second or ASSUMED_FLOPS_PER_CORE * cores
    assumed = f"if {cores} {'core does' if cores == 1 else 'cores do'} 40 GFLOP/s each"
    bf16 = stage.precision == "bf16"
    return Estimate(
        parameters=parameters(stage.model, vocab),
        bytes_per_worker=bytes_per_worker(
            stage.model, vocab, stage.micro_batch, bf16, gpu=cluster.gpus_per_worker > 0
        ),
        flops=flops,
        seconds=flops / speed,
        speed="as fast as the last run here" if facts.flops_per_second else assumed,
    )

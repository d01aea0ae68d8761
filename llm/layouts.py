"""How a training could lie on so many GPUs: every way that fits, with its memory and its time.

Three ways to share a model out: each GPU holds all of it (ddp), all share one copy (fsdp: ZeRO-3,
Rajbhandari et al. 2020), or each node does (hsdp: gathering stays inside a node, gradients alone
travel between them). Each with all activations kept, half or none of a layer's, and with micro
batches of 1, 2, 4, ... sequences. What fits and takes the least time is best.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from llm.config import ModelConfig
from llm.gpus import GPUS_PER_NODE, Gpu
from llm.memory import Kernels, Layout, Recompute, memory
from llm.network import Traffic, traffic
from llm.seconds import compute_seconds, machine_of
from llm.size import flops_per_token

Way = Literal["ddp", "fsdp", "hsdp"]

USABLE = 0.92
"""Share of a GPU's memory that is planned with."""

WORTH_SHARING = 1.02
"""A model is shared out if that fits only, or wins more than this: it is one more thing to wait
for."""

RECOMPUTES: tuple[Recompute, ...] = ("none", "selective", "full")


@dataclass(frozen=True)
class Proposal:
    """One way, worked out."""

    way: Way
    layout: Layout
    memory: Mapping[str, int]
    """Bytes of a GPU at the peak, by class."""
    computing: Mapping[str, float]
    """Seconds of a step by part, without the network."""
    traffic: Traffic
    tokens: int
    """Of a step, all GPUs together."""
    flops: int
    """Of a token."""
    gpu: Gpu

    @property
    def bytes(self) -> int:
        """Of memory."""
        return sum(self.memory.values())

    @property
    def fits(self) -> bool:
        """Whether the GPU has so much."""
        return self.bytes <= USABLE * self.gpu.memory

    @property
    def seconds(self) -> float:
        """Of a step."""
        return sum(self.computing.values()) + self.traffic.exposed

    @property
    def tokens_per_second(self) -> float:
        """Of one GPU."""
        return self.tokens / self.layout.workers / self.seconds

    @property
    def mfu(self) -> float:
        """Share of the data sheet's FLOP/s that the model's arithmetic takes."""
        return self.tokens_per_second * self.flops / self.gpu.peak

    @property
    def runs_today(self) -> bool:
        """Whether a spec can ask for it."""
        return self.layout.recompute != "selective"


def proposals(
    model: ModelConfig, vocab: int, batch: int, workers: int, gpu: Gpu, moments: float = 2.0
) -> list[Proposal]:
    """Every way to train on batches of so many sequences, the fastest that fit first."""
    tokens = batch * model.context
    found = [
        worked_out(model, vocab, tokens, way, layout, gpu)
        for way, layout in layouts(batch, workers, moments)
    ]
    return sorted(found, key=rank)


def rank(one: Proposal) -> tuple[bool, float]:
    """What fits by time, then the rest by memory."""
    if not one.fits:
        return True, one.bytes
    return False, one.seconds * (1 if one.way == "ddp" else WORTH_SHARING)


def layouts(batch: int, workers: int, moments: float = 2.0) -> Iterator[tuple[Way, Layout]]:
    """All of them; where a batch leaves workers unequal shares, the rounds are the busiest's."""
    ways: dict[Way, int] = {"ddp": 1}
    if workers > 1:
        ways["fsdp"] = workers
    if workers > GPUS_PER_NODE and workers % GPUS_PER_NODE == 0:
        ways["hsdp"] = GPUS_PER_NODE
    for way, shards in ways.items():
        for recompute in RECOMPUTES:
            micro_batch = 1
            while micro_batch * workers <= batch and batch % micro_batch == 0:
                yield (
                    way,
                    Layout(
                        micro_batch=micro_batch,
                        rounds=-(-batch // (micro_batch * workers)),
                        workers=workers,
                        shards=shards,
                        recompute=recompute,
                        moments=moments,
                    ),
                )
                micro_batch *= 2


def worked_out(
    model: ModelConfig, vocab: int, tokens: int, way: Way, layout: Layout, gpu: Gpu
) -> Proposal:
    """A layout with its costs."""
    kernels = Kernels()
    computing = compute_seconds(model, vocab, layout, kernels, machine_of(gpu))
    return Proposal(
        way=way,
        layout=layout,
        memory=memory(model, vocab, layout, kernels),
        computing=computing,
        traffic=traffic(model, vocab, layout, gpu, sum(computing.values())),
        tokens=tokens,
        flops=flops_per_token(model, vocab),
        gpu=gpu,
    )

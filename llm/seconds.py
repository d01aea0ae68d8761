"""How long a step takes, by arithmetic from what a machine can do: products, bytes, and the rest.

A roofline of four parts. Products: PaLM's count (Chowdhery et al. 2022, appendix B: 6 FLOPs a
weight and token, of which the forward pass has 2), each at the rate that products of its size
reach. Attention: its two products, of which a fused kernel does the half below the diagonal. Bytes:
what goes through memory between products, counted line by line in llm/model.py; a compiler leaves
of it what is kept for the backward pass. Operations: a processor needs some microseconds to hand
each out; a GPU works meanwhile.

c bytes of a number in products, D width, F hidden features, H heads, T context, V vocabulary.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

from llm.config import GATED, ModelConfig
from llm.gpus import Gpu
from llm.memory import Kernels, Layout, Recompute, each_token, kept_per_token
from llm.size import keys_seen, parameters, qkv_rows

Curve = tuple[tuple[float, float], ...]
"""(size, speed), sizes ascending; straight lines between logarithms, level outside."""

IN_TRAINING = 0.75
"""Of the fastest product alone, what those of a training reach on average: other shapes, power
limits, weights that do not lie in cache."""

FUSED_ATTENTION = 0.5
"""Its rate as a share of that of products: FlashAttention-2 forward and backward on A100 (Dao
2023)."""

OF_BANDWIDTH = 0.8
"""Share of a GPU's memory bandwidth that passes over large tensors reach."""

HANDING_OUT = 6e-6
"""Seconds of a processor for one operation on a GPU: Python, autograd, launch."""

OPERATIONS_PER_LAYER = 220
OPERATIONS_PER_MICRO_BATCH = 200
"""Forward and backward; with the optimizer's (counted by torch's profiler, 1M and 10M
parameters)."""

EXTRA_PRODUCTS: dict[Recompute, float] = {"none": 0.0, "selective": 1 / 6, "full": 1 / 3}
"""Of a layer's products, what is computed again: half of a forward pass, all of it."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What one process's device can do."""

    products: Curve
    """FLOP/s by the geometric mean of a product's two inner sizes."""
    bandwidth: float
    """Bytes a second of passes over tensors."""
    attention: float = FUSED_ATTENTION
    """Rate of the fused kernel for attention as a share of that of products."""
    exponentials: float = math.inf
    """A second; what softmax, SiLU and the loss wait for on a CPU."""
    handing_out: float = HANDING_OUT
    """Seconds for an operation besides its work."""
    meanwhile: bool = True
    """Operations are handed out while others run."""
    compiled: bool = False
    """torch.compile or kernels by hand do in one pass what can be done in one."""


def machine_of(gpu: Gpu, compiled: bool = False) -> Machine:
    """A GPU as its data sheet and the experience with its like describe it."""
    return Machine(
        products=((1.0, gpu.best * IN_TRAINING),),
        bandwidth=gpu.bandwidth * OF_BANDWIDTH,
        compiled=compiled,
    )


def rate(curve: Curve, size: float) -> float:
    """The speed at a size."""
    sizes = [point[0] for point in curve]
    if size <= sizes[0]:
        return curve[0][1]
    for (left, slow), (right, fast) in pairwise(curve):
        if size <= right:
            share = math.log(size / left) / math.log(right / left)
            return slow * (fast / slow) ** share
    return curve[-1][1]


def products(model: ModelConfig) -> list[tuple[int, int]]:
    """(in, out) of the linear maps that a token goes through in a layer."""
    width, hidden = model.width, model.hidden
    up = [(width, hidden)] * (2 if model.mlp in GATED else 1)
    mlp = [*up, (hidden, width)] * each_token(model)
    router = [(width, model.experts)] if model.experts else []
    return [(width, qkv_rows(model)), (width, width), *router, *mlp]


def compute_seconds(
    model: ModelConfig, vocab: int, layout: Layout, kernels: Kernels, machine: Machine
) -> dict[str, float]:
    """Seconds of a step of one process without the network, by part."""
    tokens = layout.micro_batch * model.context
    layers = layout.rounds * model.depth
    extra = 1 + EXTRA_PRODUCTS[layout.recompute]

    def linear(inner: int, outer: int) -> float:
        return 6 * tokens * inner * outer / rate(machine.products, math.sqrt(inner * outer))

    share = 1.0 if kernels.scores else machine.attention
    size = math.sqrt(model.context * model.width / model.heads)
    attention_rate = share * rate(machine.products, size)
    seen = 12 * (model.context if kernels.scores else keys_seen(model))
    parts = {
        "products": layers * extra * sum(linear(*shape) for shape in products(model))
        + layout.rounds * linear(model.width, vocab),
        "attention": layers * extra * seen * tokens * model.width / attention_rate,
        "memory": layout.rounds
        * tokens
        * passing_per_token(model, vocab, layout, kernels, machine.compiled)
        / machine.bandwidth
        + layout.rounds * tokens * exponentials(model, vocab, kernels) / machine.exponentials,
        "optimizer": optimizer_bytes(model, vocab, layout, kernels) / machine.bandwidth,
    }
    again = 1 if layout.recompute == "none" else 4 / 3
    operations = model.depth * OPERATIONS_PER_LAYER * again + OPERATIONS_PER_MICRO_BATCH
    handing = layout.rounds * operations * machine.handing_out
    if machine.meanwhile:
        handing = max(0.0, handing - sum(parts.values()))
    return {**parts, "operations": handing}


def passing_per_token(
    model: ModelConfig, vocab: int, layout: Layout, kernels: Kernels, compiled: bool
) -> float:
    """Bytes that one token moves through memory between products, there and back."""
    if compiled:  # written once, read by what follows and by the backward pass
        return 3 * kept_per_token(model, layout, kernels) + 3 * 4 * vocab
    width, c = model.width, kernels.compute
    cast = (4 + c) * width if c < 4 else 0
    entering = 3 if model.mlp in GATED else 2
    norms = 2 * (96 if kernels.normed else 20) * width
    casts = (2 * entering + 2) * cast
    adding = 2 * (8 + c) * width + 3 * 12 * width  # to the residual stream, and its gradients
    turning = 44 * c * width if model.positions == "rotary" else 0
    parting = 6 * c * qkv_rows(model)  # query, key and value out of one product
    scores = (19 * width + 7 * model.heads * model.context) * c if kernels.scores else 0
    inner = (14 if model.mlp in GATED else 5) * c * model.hidden * each_token(model)
    sorting = 4 * 3 * c * width * model.experts_per_token if model.experts else 0  # read, written
    layer = norms + casts + adding + turning + parting + scores + inner + sorting
    again = 1 if layout.recompute == "none" else 4 / 3
    return model.depth * layer * again + (28 + 4 * c) * vocab


def exponentials(model: ModelConfig, vocab: int, kernels: Kernels) -> int:
    """Of one token, there and back."""
    scores = model.heads * model.context if kernels.scores else 0
    return model.depth * (2 * scores + 2 * model.hidden * each_token(model)) + 2 * vocab


def optimizer_bytes(model: ModelConfig, vocab: int, layout: Layout, kernels: Kernels) -> float:
    """Bytes that weights and gradients move in a step.

    AdamW reads four numbers of each and writes three, clipping reads two and writes one. Every
    micro batch casts weights and gradients and adds gradients up.
    """
    count = sum(parameters(model, vocab).values())
    casts = 2 * (4 + kernels.compute) if kernels.compute < 4 else 0
    summing = 12 if layout.rounds > 1 else 0
    return count * (layout.rounds * (casts + summing) + 40 / layout.shards)

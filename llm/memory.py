"""How much memory training takes, by arithmetic alone: no model is built, torch not loaded.

What autograd keeps is read off llm/model.py line by line, as Korthikanti et al. (Reducing
Activation Recomputation in Large Transformer Models, 2022, section 4) do it for theirs; tests hold
it against what autograd really keeps and against the peak of processes that train. The peak is
either the end of the last micro batch's forward pass, when all activations are there and nobody has
given any back, or the end of its backward pass, when all gradients are; in between one falls while
the other grows.

B sequences of a micro batch, T context, D width, F hidden features, H heads, V vocabulary, P
numbers of the model, c bytes of a number in products (bf16: 2), S processes that share one copy
(fsdp).
"""

from dataclasses import dataclass
from typing import Literal

from llm.config import GATED, ModelConfig
from llm.size import matrices_per_layer, parameters, qkv_rows

Recompute = Literal["none", "selective", "full"]
"""Which activations are not kept but computed again in the backward pass: none; half of the
products' results and all that is cheap (torchtitan's selective checkpointing by operation); all of
a layer but what goes in (Chen et al. 2016)."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a training lies on its processes."""

    micro_batch: int
    """Sequences of a forward pass."""
    rounds: int = 1
    """Micro batches of a process and step."""
    workers: int = 1
    shards: int = 1
    """Processes that share one copy of the weights; 1: each holds all (ddp)."""
    recompute: Recompute = "none"
    moments: float = 2.0
    """Numbers that the optimizer keeps of a parameter."""


@dataclass(frozen=True, kw_only=True)
class Kernels:
    """What differs between devices in what is kept."""

    compute: int = 2
    """Bytes of a number in products."""
    scores: bool = False
    """Attention is done by plain products and keeps its T x T scores."""
    normed: bool = False
    """A norm keeps its result besides what went in."""
    gaps: float = 0.05
    """What the allocator cannot use, as a share of what comes and goes."""
    process: int = 1_500_000_000
    """Bytes that are gone before a model is there: CUDA's context and kernels, NCCL's buffers."""


LONGEST_BY_PRODUCTS = 512
"""As in llm/attention.py, which loads torch."""

MOST_FEATURES = 256
"""Of a head; as in llm/causal.py, which does, too."""

SHORTEST_IN_C = 48
"""As in llm/attention.py."""

ROWS_OF_LOSS = 256
"""As in llm/loss.py, which does, too."""

GLIBC_GAPS = 0.4
"""Of activations, logits and gradients: glibc's allocator leaves holes between tensors that stay
and those that went. Measured with mallinfo2: 39%, 38% and 32% for 10M and 100M parameters with one
micro batch, and 100M with two."""

PROCESS = 330_000_000
"""Bytes of a process with torch and what its first step loads (torch 2.13)."""


def processor_kernels(
    model: ModelConfig, bf16: bool, tiles: bool, process: int = PROCESS
) -> Kernels:
    """Those of a CPU; `tiles`: it has AMX."""
    return Kernels(
        compute=2 if bf16 else 4,
        scores=bf16 and not tiles and model.context <= LONGEST_BY_PRODUCTS and not in_c(model),
        normed=model.norm == "rmsnorm",
        gaps=GLIBC_GAPS,
        process=process,
    )


def in_c(model: ModelConfig) -> bool:
    """Whether attention is that of llm/causal.py, which keeps no scores, if there is a compiler."""
    features = model.width // model.heads
    plain = model.family == "decoder" and model.positions != "alibi" and not model.dropout
    long = model.context >= SHORTEST_IN_C
    return plain and long and features % 16 == 0 and features <= MOST_FEATURES


def memory(model: ModelConfig, vocab: int, layout: Layout, kernels: Kernels) -> dict[str, int]:
    """Bytes of a process at the peak, by class."""
    held = sum(parameters(model, vocab).values()) / layout.shards
    tokens = layout.micro_batch * model.context
    coming = {
        "activations": tokens * kept_per_token(model, layout, kernels),
        "logits": head_bytes(model, vocab, tokens, kernels),
    }
    gradients = 4 * held
    if layout.rounds == 1 and layout.workers == 1:  # else they are there all the time
        if sum(coming.values()) > gradients:
            gradients = 0
        else:
            coming = dict.fromkeys(coming, 0)
    buffers = gathered(model, vocab, layout, kernels)
    moving = gradients + buffers + sum(coming.values())
    parts = {
        "weights": 4 * held,
        "gradients": gradients,
        "optimizer": 4 * layout.moments * held,
        **coming,
        "buffers": buffers,
        "cache": kernels.gaps * moving,
        "process": kernels.process,
    }
    return {name: round(size) for name, size in parts.items()}


def head_bytes(model: ModelConfig, vocab: int, tokens: int, kernels: Kernels) -> int:
    """What the loss (llm/loss.py) adds to the activations: logits of a few rows, their log
    probabilities and slopes, fp32 on the way; the gradient of the head's weights."""
    rows = min(tokens, ROWS_OF_LOSS)
    return rows * vocab * (4 + 2 * kernels.compute) + 4 * vocab * model.width


def gathered(model: ModelConfig, vocab: int, layout: Layout, kernels: Kernels) -> int:
    """Bytes of weights in the form in which they are multiplied.

    Alone and with ddp autocast's copies of all matrices, until they were used backwards. With fsdp
    two layers, of which one travels while the other computes, the gradient of one, fp32, and
    embedding, norms and head with their gradient, whole (llm/parallel.py).
    """
    layer, rest = layer_and_rest(model, vocab)
    if layout.shards > 1:
        return (2 * kernels.compute + 4) * layer + 8 * rest
    copied = model.depth * layer + vocab * model.width
    return kernels.compute * copied if kernels.compute < 4 else 0


def layer_and_rest(model: ModelConfig, vocab: int) -> tuple[int, int]:
    """Numbers of the matrices of a layer, and of all that belongs to none."""
    layer = sum(matrices_per_layer(model).values())
    return layer, sum(parameters(model, vocab).values()) - model.depth * layer


def kept_per_token(model: ModelConfig, layout: Layout, kernels: Kernels) -> int:
    """Bytes of a token in all layers and the last norm, at the end of the forward pass."""
    width, compute = model.width, kernels.compute
    layer = layer_bytes_per_token(model, kernels)
    end = (8 if kernels.normed else 4) * width + (compute * width if compute < 4 else 0)
    end += compute * mask_size(model) // layout.micro_batch
    match layout.recompute:
        case "none":
            return model.depth * layer + end
        case "full":  # of the layer that is computed again everything is there for a moment
            return model.depth * 4 * width + layer + end
        case "selective":
            inner = (2 if model.mlp in GATED else 1) * model.hidden * each_token(model)
            results = qkv_rows(model) + 2 * width + inner  # of the products of a layer
            half = compute * results // 2
            return model.depth * (4 * width + compute * width + half) + layer + end


def mask_size(model: ModelConfig) -> int:
    """Of a token, numbers that are added to its scores, in all layers the same."""
    if model.positions == "alibi":
        return model.heads * model.context
    return model.context if model.window else 0


def layer_bytes_per_token(model: ModelConfig, kernels: Kernels) -> int:
    """What one layer keeps of a token for the backward pass.

    The residual stream and norms are fp32. Under autocast what enters query, key and value, the
    gate and the values of the MLP is cast once for each of them.
    """
    width, compute = model.width, kernels.compute
    norms = 2 * (8 if kernels.normed else 4) * width
    compared = qkv_rows(model) * (model.heads + model.kv_heads)
    compared //= model.heads + 2 * model.kv_heads  # features of queries and keys
    mixing = qkv_rows(model) + width  # query, key, value as they are multiplied; mixed values
    if not kernels.scores and (model.positions == "rotary" or model.qk_norm):
        # the fused kernel's values are a view that keeps query and key from before the rotation
        mixing += compared
    scores = model.heads * model.context if kernels.scores else 0
    dropped = 2 * width if model.dropout else 0
    fp32 = 8 if compute < 4 else 4  # bytes of a feature after the norm, and before it if cast
    normal = fp32 * compared if model.qk_norm else 0
    return (
        norms + normal + compute * (width + mixing + scores + dropped) + mlp_bytes(model, compute)
    )


def mlp_bytes(model: ModelConfig, compute: int) -> int:
    """Of these what the MLP keeps of a token."""
    gated = model.mlp in GATED
    inner = KEPT_INSIDE[model.mlp] * model.hidden
    if not model.experts:
        entering = 2 if gated and compute < 4 else 1
        return compute * (entering * model.width + inner)
    each = model.experts_per_token
    rows = 1 + 2 * each  # what the router reads, what experts read and make
    routing = 4 * model.experts + ROUTE * each
    return compute * (rows * model.width + each * inner) + routing


def each_token(model: ModelConfig) -> int:
    """MLPs that a token goes through in a layer."""
    return model.experts_per_token if model.experts else 1


KEPT_INSIDE = {"swiglu": 4, "geglu": 4, "gelu": 2, "gelu_tanh": 2, "relu2": 2, "relu": 1}
"""Tensors of hidden features that an MLP keeps: before and after its non-linearity, the values, and
what goes out; relu needs its result alone."""

ROUTE = 40
"""Bytes that tell where a token's expert is: its number, order and way back, and its share."""


def saved(model: ModelConfig, vocab: int, layout: Layout) -> int:
    """Bytes of host memory that a process's copy for a checkpoint takes, from the first save on."""
    count = sum(parameters(model, vocab).values())
    return round(4 * (1 + layout.moments) * count) // layout.shards

"""Which tensor of ours is which of transformers', family by family.

Queries, keys and values are one matrix here, one below the other; GPT-2 also has them in one, but
every matrix of its layers stands on its side. Both ways take tensors one at a time.

D width, E features of a head, H heads, K heads of keys and values.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from llm.config import ModelConfig
from llm.hf_shape import Family

LLAMA_LAYER = {
    "attention_norm": ("input_layernorm",),
    "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention.out": ("self_attn.o_proj",),
    "attention.query_norm": ("self_attn.q_norm",),
    "attention.key_norm": ("self_attn.k_norm",),
    "mlp_norm": ("post_attention_layernorm",),
    "mlp.gate": ("mlp.gate_proj",),
    "mlp.up": ("mlp.up_proj",),
    "mlp.out": ("mlp.down_proj",),
}

GPT2_LAYER = {
    "attention_norm": ("ln_1",),
    "attention.qkv": ("attn.c_attn",),
    "attention.out": ("attn.c_proj",),
    "mlp_norm": ("ln_2",),
    "mlp.up": ("mlp.c_fc",),
    "mlp.out": ("mlp.c_proj",),
}

ON_ITS_SIDE = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
"""Matrices of GPT-2 are (in, out)."""

IGNORED = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")
"""Tables that older versions of transformers saved with the weights."""


@dataclass(frozen=True)
class Entry:
    """A tensor of ours, and those of theirs that make it, one below the other."""

    ours: str
    theirs: tuple[str, ...]
    shape: tuple[int, ...]
    """Of ours."""
    rows: tuple[int, ...]
    """Of each of theirs, before it is laid on its side."""
    stacked: bool = False
    """Whether ours has a dimension more, in which theirs lie behind one another: experts."""

    def join(self, read: Callable[[str], Tensor]) -> Tensor:
        """Ours, of theirs."""
        parts = [upright(name, read(name)) for name in self.theirs]
        if self.stacked:
            return torch.stack(parts)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def part(self, ours: Tensor | None, number: int) -> Tensor:
        """One of theirs, of ours; zeros where we have none."""
        if ours is None:
            return torch.zeros(self.shape_of(number))
        if self.stacked:
            return ours[number].contiguous()
        start = sum(self.rows[:number])
        return upright(self.theirs[number], ours[start : start + self.rows[number]]).contiguous()

    def shape_of(self, number: int) -> tuple[int, ...]:
        """The shape of one of theirs."""
        if self.stacked:
            return self.shape[1:]
        shape = (self.rows[number], *self.shape[1:])
        return shape[::-1] if self.theirs[number].endswith(ON_ITS_SIDE) else shape


def upright(name: str, tensor: Tensor) -> Tensor:
    """A matrix as (out, in), or back on its side, which is the same."""
    return tensor.T if name.endswith(ON_ITS_SIDE) else tensor


def entries(model: ModelConfig, family: Family, vocab: int) -> Iterator[Entry]:
    """Every tensor of a model, in the order of the layers."""
    width, gpt2 = model.width, family == "gpt2"
    base, blocks, norm = ("transformer", "h", "ln_f") if gpt2 else ("model", "layers", "norm")
    embedding = "wte" if gpt2 else "embed_tokens"
    yield plain("embedding.weight", f"{base}.{embedding}.weight", (vocab, width))
    if gpt2:
        yield plain("positions.weight", f"{base}.wpe.weight", (model.context, width))
    for number in range(model.depth):
        yield from layer(model, family, f"blocks.{number}", f"{base}.{blocks}.{number}")
    yield from linear("norm", (f"{base}.{norm}",), (width,), (width,), gpt2)
    if not model.tied:
        yield plain("head.weight", "lm_head.weight", (vocab, width))


def plain(ours: str, theirs: str, shape: tuple[int, ...]) -> Entry:
    """A tensor that is one there, too."""
    return Entry(ours, (theirs,), shape, shape[:1])


def linear(
    ours: str,
    theirs: tuple[str, ...],
    shape: tuple[int, ...],
    rows: tuple[int, ...],
    bias: bool,
) -> Iterator[Entry]:
    """A map or a norm, and its additive term."""
    yield Entry(f"{ours}.weight", tuple(f"{one}.weight" for one in theirs), shape, rows)
    if bias:
        yield Entry(f"{ours}.bias", tuple(f"{one}.bias" for one in theirs), shape[:1], rows)


def layer(model: ModelConfig, family: Family, ours: str, theirs: str) -> Iterator[Entry]:
    """The tensors of one layer."""
    width, hidden, gpt2 = model.width, model.hidden, family == "gpt2"
    features = width // model.heads
    groups = (width, model.kv_heads * features, model.kv_heads * features)
    shapes: dict[str, tuple[int, ...]] = {
        "attention_norm": (width,),
        "attention.qkv": (sum(groups), width),
        "attention.out": (width, width),
        "attention.query_norm": (features,),
        "attention.key_norm": (features,),
        "mlp_norm": (width,),
        "mlp.gate": (hidden, width),
        "mlp.up": (hidden, width),
        "mlp.out": (width, hidden),
    }
    for name, parts in (GPT2_LAYER if gpt2 else LLAMA_LAYER).items():
        if name in ("attention.query_norm", "attention.key_norm") and not model.qk_norm:
            continue
        if model.experts and name.startswith("mlp."):
            continue
        shape = shapes[name]
        rows = groups if len(parts) > 1 else shape[:1]
        norm = len(shape) == 1
        bias = gpt2 or (not norm and (model.qkv_bias if name == "attention.qkv" else model.bias))
        names = tuple(f"{theirs}.{part}" for part in parts)
        yield from linear(f"{ours}.{name}", names, shape, rows, bias)
    if model.experts:
        yield from experts(model, f"{ours}.mlp", f"{theirs}.block_sparse_moe")


def experts(model: ModelConfig, ours: str, theirs: str) -> Iterator[Entry]:
    """The MLPs of one layer of Mixtral, and who sends tokens to them."""
    width, hidden, count = model.width, model.hidden, model.experts
    yield plain(f"{ours}.router.weight", f"{theirs}.gate.weight", (count, width))
    for name, part, rows, columns in (
        ("gate", "w1", hidden, width),
        ("up", "w3", hidden, width),
        ("out", "w2", width, hidden),
    ):
        names = tuple(f"{theirs}.experts.{number}.{part}.weight" for number in range(count))
        shape = (count, rows, columns)
        yield Entry(f"{ours}.{name}.weight", names, shape, (rows,) * count, stacked=True)

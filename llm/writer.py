"""A copy of a model made for writing: it reads prompts, then goes on by a token per row and step.

The same mathematics as `Transformer.features` with less around it. Weights are cast once, joined
where they read the same input, and laid out once in the way they are multiplied (llm/products.py);
what stands between products takes a pass each (llm/between.py). The two features that a rotation
turns lie side by side here, so that it is one complex product. Precisions are those of training
under autocast, but for attention, which is no worse: see llm/slots.py. int8 is for serving alone.

N tokens of any rows, B rows, D width, H heads, K heads of keys and values, E = D / H, V vocabulary.
"""

from typing import Literal, NamedTuple, Protocol, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from llm.attention import Attention
from llm.between import Norm, make_norm
from llm.experts import Experts
from llm.feed_forward import lay_out_mlp
from llm.mlp import GatedMlp, Mlp
from llm.model import Block, Transformer
from llm.native_pool import NativePool, attention
from llm.pool import Pool
from llm.positions import Rotary
from llm.products import NativeProduct, Product, lay_out
from llm.slots import Slots
from llm.world import Precision

Kinds = Mlp | GatedMlp | Experts


class Past(Protocol):
    """Keys and values of earlier tokens, which knows whose and which the next ones are."""

    memory: Tensor

    def attend(self, layer: int, qkv: Tensor) -> Tensor:
        """Stores new tokens' keys and values; what their queries find.

        (N, H + 2 K, E) -> (N, H, E)
        """
        ...


class Layer(NamedTuple):
    """A block as it is computed here."""

    attention_norm: Norm
    qkv: Product
    norms: Tensor | None
    """Weights that normed queries and keys are multiplied by, (2, E) fp32."""
    out: Product
    mlp_norm: Norm
    mlp: Product


class Writer:
    """Writes as its model did when it was last refreshed; shares with it what is not multiplied."""

    def __init__(self, model: Transformer, precision: Precision | Literal["int8"]) -> None:
        self.kind = precision
        self.precision = torch.float32 if precision == "fp32" else torch.bfloat16
        self.refresh(model)

    @torch.inference_mode()
    def refresh(self, model: Transformer) -> None:
        """Take over the weights that the model has now."""
        self.model, self.config = model, model.config
        self.least = 1
        """Rows that are multiplied at once at least: oneDNN rounds one row differently from more,
        and a text is not to depend on whether it is alone."""
        self.device = model.embedding.weight.device
        self.past = torch.float32 if self.device.type == "cpu" else self.precision
        self.layers = [self._layer(cast(Block, block)) for block in model.blocks]
        self.head = self._product((model.head or model.embedding).weight)
        self.turns = turns(model.positions) if isinstance(model.positions, Rotary) else None

    def slots(self, rows: int, room: int) -> Slots:
        """Empty memory for so many texts of so many tokens."""
        return Slots(self.config, rows, room, device=self.device, dtype=self.past)

    def pool(self, count: int) -> Pool | NativePool:
        """Empty memory for so many texts that come and go."""
        if self.device.type == "cpu":
            attend = attention(self.precision, self.config.width // self.config.heads)
            if attend is not None:
                return NativePool(attend, self.config, count, self.precision, self.turns)
        return Pool(self.config, count, device=self.device, dtype=self.past)

    def read(self, prompts: Tensor, lengths: Tensor, slots: Slots) -> Tensor:
        """Prompts (B, T), padded behind, take the slots; logits (B, V) after their last tokens."""
        places = slots.join(lengths)
        x = self.features(prompts[slots.rows, places], places, slots)  # (N, D)
        return self.logits(x[lengths.cumsum(0) - 1])

    def write(self, ids: Tensor, slots: Slots) -> Tensor:
        """A next token for each row, (B,); logits (B, V) after it."""
        return self.logits(self.features(ids, slots.grow(), slots))

    def features(self, ids: Tensor, places: Tensor, past: Past | NativePool) -> Tensor:
        """New tokens, (N,), at their places in their texts; the residual stream (N, D)."""
        count = len(ids)
        if count < self.least:
            ids, places = ids.repeat(self.least), places.repeat(self.least)
        x, _ = self.model.positions(self.model.embedding(ids), 0, 0, places)
        turn = None if self.turns is None else self.turns[places[:count]]  # (N, 1, E / 2)
        added = None
        for index, layer in enumerate(self.layers):
            x, normal = layer.attention_norm(x, added)
            qkv = layer.qkv(normal)[:count]  # (N, (H + 2 K) E)
            if isinstance(past, NativePool):
                mixed = past.attend(index, qkv, layer.norms)
            else:
                mixed = self._mix(index, qkv, turn, past)
            out = layer.out(mixed if count == len(x) else mixed.repeat(len(x), 1))
            x, normal = layer.mlp_norm(x, out)
            added = layer.mlp(normal)
        return (x if added is None else x + added)[:count]

    def _mix(self, index: int, qkv: Tensor, turn: Tensor | None, past: Past) -> Tensor:
        """Attention in steps of torch: (N, (H + 2 K) E) -> (N, D)."""
        heads, shared = self.config.heads, self.config.kv_heads
        qkv = qkv.to(torch.float32).unflatten(-1, (heads + 2 * shared, -1))  # (N, H + 2 K, E)
        compared, norms = qkv[:, : heads + shared], self.layers[index].norms
        if norms is not None:
            weights = norms.repeat_interleave(torch.tensor([heads, shared]).to(norms.device), 0)
            compared.copy_(F.rms_norm(compared, norms.shape[1:], eps=self.config.norm_eps))
            compared.mul_(weights)
        if turn is not None:
            torch.view_as_complex(compared.unflatten(-1, (-1, 2))).mul_(turn)
        mixed = past.attend(index, qkv.to(past.memory.dtype))  # (N, H, E)
        return mixed.flatten(1).to(self.precision)

    def logits(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, V) in the precision of products."""
        normal = self.model.norm(x).to(self.precision)
        if len(x) < self.least:
            return self.head(normal.repeat(self.least, 1))[: len(x)]
        return self.head(normal)

    def _layer(self, block: Block) -> Layer:
        attention, order = block.attention, pairs(block.attention, self.device)
        bias = attention.qkv.bias
        return Layer(
            attention_norm=make_norm(block.attention_norm, self.precision),
            qkv=self._product(attention.qkv.weight[order], None if bias is None else bias[order]),
            norms=norms(attention, order),
            out=self._product(attention.out.weight, attention.out.bias),
            mlp_norm=make_norm(block.mlp_norm, self.precision),
            mlp=lay_out_mlp(cast(Kinds, block.mlp), self._product, self.precision),
        )

    def _product(
        self, weight: Tensor, bias: Tensor | None = None, *, exact: bool = False
    ) -> Product:
        kind = "bf16" if exact and self.kind == "int8" else self.kind
        product = lay_out(weight, bias, kind)
        if not isinstance(product, NativeProduct):
            self.least = 2
        return product


def pairs(attention: Attention, device: torch.device) -> Tensor:
    """The rows of queries and keys in the order of `turns`, then those of values."""
    rows = torch.arange(len(attention.qkv.weight), device=device)
    compared, shared = attention.heads + attention.kv_heads, attention.kv_heads
    heads = rows.unflatten(0, (compared + shared, -1))
    if heads.size(1) % 2:  # nothing turns them
        return rows
    turned = heads[:compared].unflatten(1, (2, -1)).transpose(1, 2)
    return torch.cat((turned.flatten(), heads[compared:].flatten()))


def norms(attention: Attention, order: Tensor) -> Tensor | None:
    """Weights for normed queries and keys, (2, E), if they are normed; order: see `pairs`."""
    query, key = attention.query_norm, attention.key_norm
    if query is None or key is None:
        return None
    both = torch.stack((query.weight, key.weight)).detach().float()
    return both[:, order[: both.size(1)]].contiguous()


def turns(positions: Rotary) -> Tensor:
    """The rotation as complex numbers, for pairs of features side by side: (context, 1, E / 2).

    The model's table has cosines twice, and sines behind their negatives.
    """
    cosine, sine = positions.table.chunk(2, -1)[1].unbind(0)
    return torch.complex(cosine, sine)

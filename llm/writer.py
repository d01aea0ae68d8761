"""A copy of a model made for writing: it reads prompts, then goes on by a token per row and step.

The same mathematics as `Transformer.features` with less around it. A step of a few rows spends its
time on fetching weights, so these are cast once, joined where they read the same input, and laid
out once as oneDNN multiplies them, which `F.linear` does anew at every call (bf16, 16 rows, one
thread: 1.2-1.5x for the layers, 2-4x for the head). Precisions are those of training under
autocast: products in bf16, residual stream and norms in fp32.

B rows, T tokens of a prompt, D width, F hidden features, H heads, E = D / H, V vocabulary.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm.attention import attend, rotate
from llm.model import Block, Gelu, Rotary, Swiglu, Transformer
from llm.slots import Slots
from llm.world import Precision

Product = Callable[[Tensor], Tensor]
"""A linear layer whose weights have been laid out."""


class Layer(NamedTuple):
    """A block as it is computed here."""

    attention_norm: nn.Module
    qkv: Product
    out: Product
    mlp_norm: nn.Module
    mlp: Product


class Writer:
    """Writes as its model did when it was last refreshed; shares with it what is not multiplied."""

    def __init__(self, model: Transformer, precision: Precision) -> None:
        self.precision = torch.bfloat16 if precision == "bf16" else torch.float32
        self.refresh(model)

    def refresh(self, model: Transformer) -> None:
        """Take over the weights that the model has now."""
        with torch.inference_mode():
            self.model, self.config = model, model.config
            self.device = model.embedding.weight.device
            self.layers = [self._layer(cast(Block, block)) for block in model.blocks]
            self.head = self._product((model.head or model.embedding).weight, None)
            self.table = None
            if isinstance(model.positions, Rotary):
                self.table = model.positions.table[:, :, 0].to(self.precision)  # (2, context, 1, E)

    def slots(self, rows: int, room: int) -> Slots:
        """Empty memory for so many texts of so many tokens."""
        dtype = torch.float32 if self.device.type == "cpu" else self.precision
        return Slots(self.config, rows, room, device=self.device, dtype=dtype)

    def read(self, ids: Tensor, lengths: Tensor, slots: Slots) -> Tensor:
        """Prompts (B, T), padded behind, take the slots; logits (B, V) after their last tokens."""
        slots.join(lengths)
        places = torch.arange(ids.size(1), device=self.device).expand_as(ids)
        x, rotation = self._placed(ids, places)  # (B, T, D)
        for index, layer in enumerate(self.layers):
            qkv = self._qkv(layer, x, rotation)  # (B, T, 3, H, E)
            slots.fill(index, qkv[:, :, 1:])
            mixed = attend(*qkv.to(slots.memory.dtype).transpose(1, 3).unbind(2))  # (B, H, T, E)
            x = self._finish(layer, x, mixed.transpose(1, 2))
        rows = torch.arange(len(ids), device=self.device)
        return self._logits(x[rows, lengths - 1])

    def write(self, ids: Tensor, slots: Slots) -> Tensor:
        """A next token for each row, (B,); logits (B, V) after it."""
        x, rotation = self._placed(ids, slots.lengths)  # (B, D)
        slots.grow()
        for index, layer in enumerate(self.layers):
            qkv = self._qkv(layer, x, rotation)  # (B, 3, H, E)
            keys, values = slots.add(index, qkv[:, 1:])
            query = qkv[:, 0, :, None].to(keys.dtype)  # (B, H, 1, E)
            mixed = attend(query, keys, values, mask=slots.mask)
            x = self._finish(layer, x, mixed[:, :, 0])
        return self._logits(x)

    def _placed(self, ids: Tensor, places: Tensor) -> tuple[Tensor, Tensor | None]:
        """Embeddings (..., D) in fp32, and the rotation of these places (2, ..., 1, 1, E)."""
        x, _ = self.model.positions(self.model.embedding(ids), 0, 0, places)
        return x, None if self.table is None else self.table[:, places, None]

    def _qkv(self, layer: Layer, x: Tensor, rotation: Tensor | None) -> Tensor:
        """(..., D) -> queries, keys and values (..., 3, H, E), the first two turned."""
        normed = layer.attention_norm(x).to(self.precision)
        qkv = layer.qkv(normed).unflatten(-1, (3, self.config.heads, -1))
        if rotation is not None:
            qkv[..., :2, :, :] = rotate(qkv[..., :2, :, :], rotation)
        return qkv

    def _finish(self, layer: Layer, x: Tensor, mixed: Tensor) -> Tensor:
        """What attention found, (..., H, E), and the MLP are added to x (..., D)."""
        x = x + layer.out(mixed.flatten(-2).to(self.precision))
        return x + layer.mlp(layer.mlp_norm(x).to(self.precision))

    def _logits(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, V) in the precision of products."""
        return self.head(self.model.norm(x).to(self.precision))

    def _layer(self, block: Block) -> Layer:
        attention, mlp = block.attention, MLPS[self.config.mlp]
        return Layer(
            block.attention_norm,
            self._linear(attention.qkv),
            self._linear(attention.out),
            block.mlp_norm,
            mlp(self, block.mlp),
        )

    def _gelu(self, mlp: Gelu) -> Product:
        up, out = self._linear(mlp.up), self._linear(mlp.out)
        return lambda x: out(F.gelu(up(x)))

    def _swiglu(self, mlp: Swiglu) -> Product:
        both, out = self._linear(mlp.gate, mlp.up), self._linear(mlp.out)

        def product(x: Tensor) -> Tensor:
            gate, up = both(x).chunk(2, -1)
            return out(F.silu(gate) * up)

        return product

    def _linear(self, *linears: nn.Linear) -> Product:
        """Layers that read the same input, as one."""
        biases = [linear.bias for linear in linears]
        bias = None if biases[0] is None else torch.cat(biases)
        return self._product(torch.cat([linear.weight for linear in linears]), bias)

    def _product(self, weight: Tensor, bias: Tensor | None) -> Product:
        """Weights in the precision of products, laid out once for all calls."""
        weight = weight.detach().to(self.precision)
        bias = None if bias is None else bias.detach().to(self.precision)
        if self.device.type != "cpu" or self.precision != torch.bfloat16:
            return partial(F.linear, weight=weight, bias=bias)
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        multiply = torch.ops.mkldnn._linear_pointwise.default
        return lambda x: multiply(x, packed, bias, "none", [], "")


MLPS = {"gelu": Writer._gelu, "swiglu": Writer._swiglu}

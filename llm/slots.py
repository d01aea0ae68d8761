"""Keys and values of many texts at once, each of its own length: rows that join, grow and leave.

Every text holds a row of each layer's memory, and `lengths` says how much of it has been filled.
New tokens are computed as one list, whichever texts they are of, so nothing is spent on padding;
only attention lines them up. Where a text has left the last one takes its row: the rows in use are
always the first ones, a step costs what those cost, and leaving costs one copied row.

On a processor keys and values are fp32, and a step multiplies them as they lie: that takes half the
time of torch's fused kernel, which in bf16 takes four times as long again (64 rows, 5 heads of 64,
112 keys, one thread with AVX512: 0.94, 1.94 and 4.4 ms).

B rows in use, N new tokens, T of them in the longest text, P tokens of room, S tokens of the
longest text, H heads, K heads of keys and values, E features of a head.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from llm.config import ModelConfig
from llm.sight import Sight, look


class Slots:
    """A key-value cache with a length per row, and attention to it."""

    def __init__(
        self, config: ModelConfig, rows: int, room: int, *, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.heads, self.features = config.heads, config.width // config.heads
        self.sight, shared = Sight(config, device), config.kv_heads
        shape = (config.depth, 2, rows, shared, room, self.features)
        self.memory = torch.zeros(shape, device=device, dtype=dtype)
        self.lengths = torch.zeros(rows, dtype=torch.int64, device=device)  # (B,)
        lines = torch.arange(2 * rows * shared, device=device) * room
        lines = lines.view(2, rows, shared).transpose(0, 1)
        self.lines = lines.flatten(1)  # (rows, 2 K): where keys and values of each head begin
        self.added: Tensor | None = None

    def join(self, lengths: Tensor) -> Tensor:
        """Texts of so many tokens take all rows; the places of their tokens, text after text."""
        self.lengths = lengths.clone()
        every = torch.arange(int(lengths.max()), device=lengths.device).expand(len(lengths), -1)
        rows, places = (every < lengths[:, None]).nonzero().unbind(1)  # (N,)
        self._expect(rows, places)
        self.added = None
        return places

    def grow(self) -> Tensor:
        """Each text has one token more; their places."""
        places = self.lengths
        rows = torch.arange(len(places), device=places.device)
        self.lengths = places + 1
        self._expect(rows, places)
        self.added = self.sight.of_texts(places, self.longest, self.memory.dtype)
        return places

    def _expect(self, rows: Tensor, places: Tensor) -> None:
        """The next keys and values are of these rows and places."""
        self.rows, self.places = rows, places
        self.longest = int(self.lengths.max())
        self.ends = (self.lines[rows] + places[:, None]).flatten()

    def attend(self, layer: int, qkv: Tensor) -> Tensor:
        """Stores keys and values of the new tokens, lets their queries look: -> (N, H, E)."""
        query, fresh = qkv[:, : self.heads], qkv[:, self.heads :].reshape(-1, self.features)
        self.memory[layer].view(-1, self.features).index_copy_(0, self.ends, fresh)
        memory = self.memory[layer, :, : len(self.lengths)]  # (2, B, K, P, E)
        keys, values = memory[..., : self.longest, :].unbind(0)  # (B, K, S, E)
        if self.added is None:
            return self._read(query, keys, values)
        return look(query[:, :, None], keys, values, self.added)[:, :, 0]

    def _read(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """All tokens of all texts look at those before them."""
        lined_up = query.new_zeros(len(keys), self.longest, *query.shape[1:])  # (B, T, H, E)
        lined_up[self.rows, self.places] = query
        lined_up = lined_up.transpose(1, 2)
        mask = None
        if self.sight.limits(self.longest):
            every = torch.arange(self.longest, device=query.device)
            mask = self.sight.added(every, self.longest, query.dtype)
        mixed = F.scaled_dot_product_attention(
            lined_up,
            keys,
            values,
            attn_mask=mask,
            is_causal=mask is None,
            enable_gqa=self.heads != keys.size(1),
        )
        return mixed.transpose(1, 2)[self.rows, self.places]

    def leave(self, staying: Tensor) -> Tensor:
        """Only the marked rows, (B,) bool, go on; returns which of them each row now holds."""
        count = int(staying.sum())
        order = torch.arange(count, device=staying.device)
        holes = order[~staying[:count]]
        movers = count + staying[count:].nonzero()[:, 0]
        if len(holes):
            grown = slice(self.longest)
            self.memory[:, :, holes, :, grown] = self.memory[:, :, movers, :, grown]
        order[holes] = movers
        self.lengths = self.lengths[order]
        return order

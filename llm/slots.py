"""Keys and values of many texts at once, each of its own length: rows that join, grow and leave.

Every text holds a row of each layer's memory, and `lengths` says how much of it has been filled.
A step writes one token's keys and values behind those of each row and looks at all of the row.
Where a row has left the last one takes its place, so the rows in use are always the first ones,
a step costs what those cost, and leaving costs one copied row.

Keys and values stay fp32 on a processor: torch's attention of a single query is 4 to 11 times
slower there in bf16 (16 rows, 6 heads of 64, 128 keys, 1 thread: 2.7 against 0.23 ms, AVX512).

B rows in use, P tokens of room, S tokens of the longest text, H heads, E features of a head.
"""

import torch
from torch import Tensor

from llm.config import ModelConfig


class Slots:
    """A key-value cache with a length per row."""

    def __init__(
        self, config: ModelConfig, rows: int, room: int, *, device: torch.device, dtype: torch.dtype
    ) -> None:
        features = config.width // config.heads
        shape = (config.depth, rows, 2, config.heads, room, features)
        self.memory = torch.zeros(shape, device=device, dtype=dtype)
        self.lengths = torch.zeros(rows, dtype=torch.int64, device=device)  # (B,)
        lines = torch.arange(rows * 2 * config.heads, device=device) * room
        self.lines = lines.view(rows, 2 * config.heads)  # where each row's heads begin

    def join(self, lengths: Tensor) -> None:
        """Texts of so many tokens take the place of all that were there."""
        self.lengths = lengths.clone()

    def fill(self, layer: int, key_value: Tensor) -> None:
        """Keys and values of all tokens of texts that have just joined: (B, T, 2, H, E)."""
        rows, tokens = key_value.shape[:2]
        self.memory[layer, :rows, :, :, :tokens] = key_value.permute(0, 2, 3, 1, 4)

    def grow(self) -> None:
        """Each text has one token more, whose keys and values will be added to every layer."""
        self.ends = (self.lines[: len(self.lengths)] + self.lengths[:, None]).flatten()
        self.lengths += 1
        self.longest = int(self.lengths.max())
        behind = torch.arange(self.longest, device=self.lengths.device) >= self.lengths[:, None]
        unseen = torch.zeros(behind.shape, device=behind.device, dtype=self.memory.dtype)
        self.mask = unseen.masked_fill_(behind, -torch.inf)[:, None, None]  # (B, 1, 1, S)

    def add(self, layer: int, key_value: Tensor) -> tuple[Tensor, Tensor]:
        """The new token's, (B, 2, H, E); returns keys and values of all tokens: (B, H, S, E)."""
        memory = self.memory[layer]
        features = memory.size(-1)
        new = key_value.reshape(-1, features).to(memory.dtype)
        memory.view(-1, features).index_copy_(0, self.ends, new)
        keys, values = memory[: len(self.lengths), :, :, : self.longest].unbind(1)
        return keys, values

    def leave(self, staying: Tensor) -> Tensor:
        """Only the marked rows, (B,) bool, go on; returns which of them each row now holds."""
        count = int(staying.sum())
        rows = torch.arange(len(staying), device=staying.device)
        holes, movers = rows[:count][~staying[:count]], rows[count:][staying[count:]]
        if len(holes):
            longest = int(self.lengths.max())
            for memory in self.memory:
                memory[holes, :, :, :longest] = memory[movers, :, :, :longest]
        order = rows[:count].clone()
        order[holes] = movers
        self.lengths = self.lengths[order]
        return order

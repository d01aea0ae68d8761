"""From logits to next tokens, for all rows of a step at once, each in the manner of its request.

Penalties and bias first, then temperature, top-k, top-p and min-p in the order and with the meaning
of llm/sampling.py. A row's uniform numbers come from its seed, its index and the position alone
(llm/rollout.py), and rows do not see each other. Ties go to the smaller id: bf16 logits have many,
and torch's topk breaks them differently for other row counts.

Rows are sorted into those that take the most probable token, those that draw from all tokens (one
pass over the distribution function) and those whose candidates are filtered first (the best `FEW`
are enough for nearly all; a row for which they are not is sorted whole).

R rows, V vocabulary, C candidates.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from deploy.protocol import Sampling
from llm.rollout import draw, pick
from llm.sampling import heated

Best = list[tuple[int, float]]
"""Tokens and their log-probabilities, best first."""

FEW = 256
"""Candidates that are looked at first."""


@dataclass(eq=False)
class Manner:
    """How one text's tokens are chosen."""

    sampling: Sampling
    never: tuple[int, ...]
    """Tokens that are not written."""
    index: int
    """Of the choice in its request; other choices draw other numbers."""
    limit: int
    """Tokens that are written at most."""
    counts: dict[int, int] = field(default_factory=dict)
    """How often each token was written, for penalties."""

    def __post_init__(self) -> None:
        if not self.greedy:
            self.uniforms = draw((self.sampling.seed % 2**64, self.index), self.limit)

    @property
    def greedy(self) -> bool:
        """Whether nothing is left to chance."""
        return self.sampling.temperature == 0

    @property
    def way(self) -> "Way":
        """How a token is found."""
        s = self.sampling
        if self.greedy:
            return Greedy
        return Filtered if s.top_k > 0 or s.top_p < 1 or s.min_p > 0 else Plain

    @property
    def penalised(self) -> bool:
        """Whether what has been written changes what may follow."""
        return self.sampling.presence_penalty != 0 or self.sampling.frequency_penalty != 0

    def shift(self, size: int) -> Tensor:
        """What is added to logits: (V,) fp32."""
        s = self.sampling
        shift = torch.zeros(size)
        if s.logit_bias:
            shift[list(s.logit_bias)] = torch.tensor(list(s.logit_bias.values()))
        for token, count in self.counts.items():
            shift[token] -= s.presence_penalty + count * s.frequency_penalty
        shift[list(self.never)] = -torch.inf
        return shift

    def wrote(self, token: int) -> float:
        """Counts a token; how much less its logit is from now on."""
        before = self.counts.get(token, 0)
        self.counts[token] = before + 1
        s = self.sampling
        return s.frequency_penalty + (0.0 if before else s.presence_penalty)


class Chooser:
    """Chooses a step's tokens; what stays the same from step to step is worked out once."""

    def __init__(self) -> None:
        self.manners: list[Manner] = []

    def choose(
        self, logits: Tensor, manners: Sequence[Manner], written: Sequence[int]
    ) -> list[int]:
        """Next tokens for logits (R, V); `written`: how many tokens each row has."""
        if len(manners) != len(self.manners) or any(
            a is not b for a, b in zip(manners, self.manners, strict=True)
        ):
            self._arrange(manners, logits)
        shifted = torch.add(self.shift, logits)  # (R, V) fp32
        uniforms = self._uniforms(written)
        tokens = torch.empty(len(manners), dtype=torch.int64, device=logits.device)
        for rows, way in self.ways:
            tokens[rows] = way(shifted[rows], uniforms[rows])
        chosen: list[int] = tokens.tolist()
        assert max(chosen) < logits.size(-1), "the model's logits are not finite"
        self._count(chosen)
        return chosen

    def _arrange(self, manners: Sequence[Manner], logits: Tensor) -> None:
        """Other rows than last time."""
        self.manners, device = list(manners), logits.device
        groups: dict[Way, list[int]] = {}
        for row, manner in enumerate(manners):
            groups.setdefault(manner.way, []).append(row)
        self.ways = [
            (
                slice(None) if len(rows) == len(manners) else torch.tensor(rows, device=device),
                way(device, [manners[row].sampling for row in rows]),
            )
            for way, rows in groups.items()
        ]
        size = logits.size(-1)
        kinds: dict[tuple[int, ...], Tensor] = {}
        shifts = [
            m.shift(size)
            if m.penalised or m.sampling.logit_bias
            else kinds.setdefault(m.never, m.shift(size))
            for m in manners
        ]
        alike = all(shift is shifts[0] for shift in shifts)
        self.shift = (shifts[0] if alike else torch.stack(shifts)).to(device)
        self.penalised = [(row, m) for row, m in enumerate(manners) if m.penalised]

    def _uniforms(self, written: Sequence[int]) -> Tensor:
        """Each row's number for this position: (R,) fp32."""
        pairs = zip(self.manners, written, strict=True)
        numbers = [0.0 if m.greedy else m.uniforms[position] for m, position in pairs]
        return torch.tensor(numbers, dtype=torch.float32).to(self.shift.device)

    def _count(self, chosen: Sequence[int]) -> None:
        """Penalties grow with every token."""
        if not self.penalised:
            return
        rows = [row for row, _ in self.penalised]
        less = torch.tensor([m.wrote(chosen[row]) for row, m in self.penalised])
        shift = self.shift if self.shift.dim() == 2 else self.shift[None]
        shift[rows, [chosen[row] for row in rows]] -= less.to(shift.device)


class Greedy:
    """The most probable token."""

    def __init__(self, device: torch.device, samplings: Sequence[Sampling]) -> None:
        pass

    def __call__(self, logits: Tensor, uniforms: Tensor) -> Tensor:
        return logits.argmax(-1)


class Plain:
    """Any token, as probable as it is."""

    def __init__(self, device: torch.device, samplings: Sequence[Sampling]) -> None:
        heats = [[s.temperature] for s in samplings]
        self.temperature = torch.tensor(heats, device=device)  # (R, 1)
        self.tempered = any(s.temperature != 1 for s in samplings)

    def heated(self, logits: Tensor) -> Tensor:
        """Logits with maximum 0, so that tiny temperatures do not overflow."""
        logits = heated(logits, 1.0)
        return logits.div_(self.temperature) if self.tempered else logits

    def __call__(self, logits: Tensor, uniforms: Tensor) -> Tensor:
        return pick(self.heated(logits).softmax(-1), uniforms)


class Filtered(Plain):
    """One of those that pass the filters."""

    def __init__(self, device: torch.device, samplings: Sequence[Sampling]) -> None:
        super().__init__(device, samplings)
        every = torch.iinfo(torch.int64).max
        self.filters = Filters(
            torch.tensor([[s.top_k or every] for s in samplings], device=device),
            torch.tensor([[s.top_p] for s in samplings], device=device),
            torch.tensor([[s.min_p] for s in samplings], device=device),
        )

    def __call__(self, logits: Tensor, uniforms: Tensor) -> Tensor:
        return pick_filtered(self.heated(logits), self.filters, uniforms)


Way = type[Greedy] | type[Plain] | type[Filtered]


class Filters(NamedTuple):
    """Filters of rows, each (R, 1)."""

    top_k: Tensor
    top_p: Tensor
    min_p: Tensor

    def rows(self, chosen: Tensor) -> "Filters":
        """Those of some rows."""
        return Filters(*(column[chosen] for column in self))


def pick_filtered(logits: Tensor, filters: Filters, uniforms: Tensor) -> Tensor:
    """A token for each row of logits with maximum 0, (R, V), from what its filters leave: (R,)."""
    sums = logits.exp().sum(-1, keepdim=True)
    count = min(FEW, logits.size(-1))
    tokens, enough = _pick_among(count, logits, sums, filters, uniforms)
    if not enough.all():
        rest = (~enough).nonzero()[:, 0]
        whole = (logits[rest], sums[rest], filters.rows(rest), uniforms[rest])
        tokens[rest] = _pick_among(logits.size(-1), *whole)[0]
    return tokens


def _pick_among(
    count: int, logits: Tensor, sums: Tensor, filters: Filters, uniforms: Tensor
) -> tuple[Tensor, Tensor]:
    """The same among the `count` best tokens; and whether these were enough, (R,) bool.

    sums: (R, 1), of the weights of all tokens.
    """
    tokens = best(logits, count)  # (R, C)
    weights = logits.gather(1, tokens).exp()
    rank = torch.arange(count, device=logits.device)
    among_k = rank < filters.top_k
    weights = weights.where(among_k, 0.0)
    heights = weights.cumsum(-1)
    size = logits.size(-1)
    all_of_k = filters.top_k.clamp(max=size) <= count
    total = heights[:, -1:].where(all_of_k, sums)  # what top-p is a share of
    before = heights - weights
    kept = among_k & ((before < filters.top_p * total) | (filters.top_p >= 1))
    kept &= weights >= filters.min_p  # the best has the weight 1
    kept[:, 0] = True
    enough = (all_of_k | ((filters.top_k >= size) & ~kept[:, -1:]))[:, 0]
    chosen = pick(weights.where(kept, 0.0), uniforms)
    return tokens.gather(1, chosen[:, None])[:, 0], enough


def best(logits: Tensor, count: int) -> Tensor:
    """The ids of the `count` greatest logits of each row, best first, equals by id: (R, C)."""
    bits = logits.contiguous().view(torch.int32).long()
    order = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)  # integers that compare as floats do
    size = logits.size(-1)
    keys = order * 2**31 + torch.arange(size - 1, -1, -1, device=logits.device)
    top = keys.topk(count).values
    return size - 1 - (top & (2**31 - 1))


def logprobs(logits: Tensor, tokens: Sequence[int], count: int) -> list[tuple[float, Best]]:
    """log p of each row's token at temperature 1, and the `count` most probable ones."""
    every = logits.float().log_softmax(-1)  # (R, V)
    index = torch.tensor(tokens, device=logits.device)
    own = every.gather(1, index[:, None])[:, 0].tolist()
    if not count:
        return [(value, []) for value in own]
    ids = best(every, count)
    values = every.gather(1, ids).tolist()
    tops = [list(zip(*row, strict=True)) for row in zip(ids.tolist(), values, strict=True)]
    return list(zip(own, tops, strict=True))

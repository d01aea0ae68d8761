"""How likely a model finds texts behind other texts, many at once: what evaluations are made of.

A row of the batch is a beginning with all that is asked behind it: branches see the beginning and
themselves, and count their positions from it. So the four choices of a question cost one reading of
the question, and choices of one token nothing more. Rows are sorted by length, so that little is
padding, and each batch has about as many tokens. Of what is longer than the context the oldest
tokens are left out, as lm-eval does.

B rows, T tokens of the longest, N predictions, D width, V vocabulary.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from llm.attention import added
from llm.evaluate import evaluating
from llm.model import Transformer
from llm.packing import rounded
from llm.positions import Distances, Rotary
from llm.train import autocast
from llm.world import Precision

BATCH_TOKENS = 4096
"""Tokens of a batch, padding included. One thread with AVX512, 4M parameters: more is no faster."""

HEAD_ROWS = 512
"""Predictions whose logits are held at once."""


class Asked(NamedTuple):
    """How likely are `ids[start:]` behind `ids[:start]`? Both hold a token at least."""

    ids: tuple[int, ...]
    start: int


class Likelihood(NamedTuple):
    """What was found."""

    logprob: float
    """Sum over the tokens, in nats."""
    greedy: bool
    """Whether each of them is the likeliest one."""
    tokens: int


class Row(NamedTuple):
    """A beginning and its branches, each with its place among what was asked."""

    beginning: tuple[int, ...]
    branches: tuple[tuple[int, tuple[int, ...]], ...]

    @property
    def length(self) -> int:
        """Tokens that are read: the last of a branch is only predicted."""
        return len(self.beginning) + sum(len(ids) - 1 for _, ids in self.branches)


@torch.no_grad()
def likelihoods(
    model: Transformer, asked: Sequence[Asked], precision: Precision
) -> list[Likelihood]:
    """The likelihood of each, in their order."""
    found = torch.zeros(3, len(asked), dtype=torch.float64)  # sums, misses, tokens
    device = model.embedding.weight.device
    with evaluating(model), autocast(device, precision):
        for rows in batches(rows_of(asked, model)):
            score(model, rows, found)
    sums, misses, tokens = found.tolist()
    return [
        Likelihood(total, not missed, int(count))
        for total, missed, count in zip(sums, misses, tokens, strict=True)
    ]


def rows_of(asked: Sequence[Asked], model: Transformer) -> list[Row]:
    """What is read together: neighbours with one beginning, if they all fit into the context."""
    context = model.config.context
    cut = [last(one, context) for one in asked]
    rows: list[Row] = []
    for beginning, group in groupby(enumerate(cut), lambda one: one[1].ids[: one[1].start]):
        branches = tuple((number, one.ids[one.start :]) for number, one in group)
        together = Row(beginning, branches)
        alone = isinstance(model.positions, Distances)  # which go by the place in the row
        if together.length <= context and not alone:
            rows.append(together)
        else:
            rows += (Row(beginning, (branch,)) for branch in branches)
    return rows


def last(asked: Asked, context: int) -> Asked:
    """The newest tokens that a context holds, and what is predicted last behind them."""
    ids, start = asked
    lost = max(0, len(ids) - context - 1)
    return Asked(ids[lost:], max(1, start - lost))


def batches(rows: list[Row]) -> Iterator[list[Row]]:
    """The longest rows first."""
    batch: list[Row] = []
    for row in sorted(rows, key=lambda one: -one.length):
        if batch and (len(batch) + 1) * batch[0].length > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


class Sheet(NamedTuple):
    """A batch as tensors.

    ids, places: (B, T); parts: (B, T), 0 in the beginning, then a number per branch, -1 behind the
    row. rows, columns, targets, owners: (N,), where a token is predicted, which, and for whom.
    """

    ids: Tensor
    places: Tensor
    parts: Tensor
    rows: Tensor
    columns: Tensor
    targets: Tensor
    owners: Tensor


def laid_out(rows: list[Row], context: int) -> Sheet:
    """Rows side by side, padded behind."""
    width = min(context, rounded(max(row.length for row in rows)))
    ids, places = (torch.zeros(len(rows), width, dtype=torch.int64) for _ in range(2))
    parts = torch.full((len(rows), width), -1)
    predicted: list[tuple[int, int, int, int]] = []
    for number, (beginning, branches) in enumerate(rows):
        at = len(beginning)
        fill(ids, places, parts, number, 0, beginning, 0, 0)
        for part, (owner, branch) in enumerate(branches, start=1):
            columns = [len(beginning) - 1, *range(at, at + len(branch) - 1)]
            predicted += ((number, c, t, owner) for c, t in zip(columns, branch, strict=True))
            fill(ids, places, parts, number, at, branch[:-1], len(beginning), part)
            at += len(branch) - 1
    return Sheet(ids, places, parts, *torch.tensor(predicted).T)


def fill(
    ids: Tensor,
    places: Tensor,
    parts: Tensor,
    row: int,
    at: int,
    tokens: Iterable[int],
    place: int,
    part: int,
) -> None:
    """Write tokens of a part into a row from `at` on; their places count from `place`."""
    new = torch.tensor(tuple(tokens), dtype=torch.int64)
    here = slice(at, at + len(new))
    ids[row, here] = new
    places[row, here] = torch.arange(place, place + len(new))
    parts[row, here] = part


def score(model: Transformer, rows: list[Row], found: Tensor) -> None:
    """Add a batch's predictions to what was found of each: (3, asked)."""
    device = model.embedding.weight.device
    sheet = Sheet(*(tensor.to(device) for tensor in laid_out(rows, model.config.context)))
    branched = any(len(ids) > 1 for row in rows for _, ids in row.branches[1:])
    features = branched_features(model, sheet) if branched else model.features(sheet.ids)
    read = features[sheet.rows, sheet.columns]  # (N, D)
    for part in range(0, len(read), HEAD_ROWS):
        here = slice(part, part + HEAD_ROWS)
        logits, targets = model.logits(read[here]).float(), sheet.targets[here]
        logprobs = logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]
        missed = logits.argmax(-1) != targets
        figures = torch.stack((logprobs, missed, torch.ones_like(logprobs))).double().cpu()
        found.index_add_(1, sheet.owners[here].cpu(), figures)


def branched_features(model: Transformer, sheet: Sheet) -> Tensor:
    """`Transformer.features` of rows whose branches do not see each other: (B, T, D)."""
    embedded, width = model.embedding(sheet.ids), sheet.ids.size(1)
    x, rotation = model.positions(embedded, 0, width, sheet.places)
    if isinstance(model.positions, Rotary):  # which goes by the place in the row otherwise
        rotation = model.positions.table[:, sheet.places]  # (2, B, T, 1, E)
    mask = added(seen(sheet, model.config.window)).to(model.precision)
    for block in model.blocks:
        x = block(x, rotation, None, mask)
    return model.norm(x)


def seen(sheet: Sheet, window: int) -> Tensor:
    """Which tokens each one sees: earlier ones of its own part and of the beginning, the last
    `window` of them if that is not 0; behind a row everybody sees something. (B, 1, T, T)"""
    own, other = sheet.parts[:, :, None], sheet.parts[:, None, :]
    near = sheet.places[:, :, None] - sheet.places[:, None, :]
    mask = ((own == other) | ((other == 0) & (own > 0))).tril()
    return (mask & (near < window) if window else mask)[:, None]

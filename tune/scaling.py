"""The scaling law of a ladder of trainings (Hoffmann et al. 2022): which size, how many tokens.

    L(N, D) = E + A / N^alpha + B / D^beta

N parameters, D tokens, L loss in nats a token. Two of the paper's ways, which check each other:
`valleys` (approach 2) fits a parabola over log N on every rung of equal FLOPs and a power law
through their lowest points; `fit_law` (approach 3) fits all trainings at once, in logarithms, with
Huber's loss, from several starts; 95% intervals come from fits to resampled trainings. Where to
spend C FLOPs follows from the law by equation 4. All pure numpy: five parameters and some twenty
trainings need no optimizer from elsewhere; a test holds the fit against scipy's L-BFGS.

A training costs C = c N D, c being 6 in the paper. Small models spend much of theirs in the head
and in attention, so c is measured on the trainings of the ladder and not assumed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from llm.errors import TrainingError

HUBER = 1e-3
"""Log-loss from which on an error counts linearly (the paper's delta)."""

STARTS = tuple(product((0.2, 0.5, 0.8), (0.2, 0.5, 0.8), (0.3, 0.9)))
"""alpha, beta and E as a share of the least loss, from which fits set out."""

ROUNDS = 200
LEAST = 6
"""Trainings of which a law of five parameters can be made."""


@dataclass(frozen=True)
class Training:
    """One training of a ladder."""

    parameters: float
    tokens: float
    flops: float
    """What its rung allows: equal for all trainings that are compared."""
    loss: float
    """Nats a token, on held-out text."""


@dataclass(frozen=True)
class Law:
    """L(N, D) = E + A / N^alpha + B / D^beta, and C = cost x N x D."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    cost: float = 6.0

    def loss(self, parameters: np.ndarray | float, tokens: np.ndarray | float) -> np.ndarray:
        """Nats a token."""
        return np.asarray(self.E + self.A / parameters**self.alpha + self.B / tokens**self.beta)

    def best(self, flops: float) -> "Best":
        """The size and tokens of least loss at a cost (the paper's equation 4)."""
        balance = (self.alpha * self.A / (self.beta * self.B)) ** (1 / (self.alpha + self.beta))
        parameters = balance * (flops / self.cost) ** (self.beta / (self.alpha + self.beta))
        tokens = flops / self.cost / parameters
        return Best(flops, parameters, tokens, float(self.loss(parameters, tokens)))


@dataclass(frozen=True)
class Best:
    """What to do with so many FLOPs."""

    flops: float
    parameters: float
    tokens: float
    loss: float


@dataclass(frozen=True)
class Interval:
    """Where a value lies with 95% of resampled trainings."""

    low: float
    high: float


# -- approach 3: the parametric law ----------------------------------------------------------------


def fit_law(trainings: Sequence[Training]) -> Law:
    """The law that the trainings follow."""
    return laws_of(trainings, np.ones((1, len(trainings))))[0]


def resampled(trainings: Sequence[Training], times: int, seed: int = 0) -> list[Law]:
    """Laws of trainings drawn with replacement, all fitted side by side."""
    draws = np.random.default_rng(seed).integers(len(trainings), size=(times, len(trainings)))
    weights = np.stack([np.bincount(draw, minlength=len(trainings)) for draw in draws])
    kinds = (weights > 0).sum(1)
    return laws_of(trainings, weights[kinds >= LEAST].astype(float))


def laws_of(trainings: Sequence[Training], weights: np.ndarray) -> list[Law]:
    """A law for each row of weights (laws, trainings): the best of the fits from all starts."""
    if len(trainings) < LEAST:
        raise TrainingError(f"{len(trainings)} trainings are too few for a law; {LEAST} or more")
    sizes, tokens, losses = (
        np.array([getattr(one, key) for one in trainings], float)
        for key in ("parameters", "tokens", "loss")
    )
    cost = float(
        np.exp(np.mean(np.log([one.flops / one.parameters / one.tokens for one in trainings])))
    )
    # Centred logarithms: A and alpha would otherwise be as good as one parameter.
    x, y = np.log(sizes), np.log(tokens)
    middle = x.mean(), y.mean()
    starts = np.array(
        [
            (np.log(share * losses.min()), np.log(rest / 2), np.log(rest / 2), np.log(a), np.log(b))
            for a, b, share in STARTS
            for rest in [max(np.median(losses) - share * losses.min(), 1e-3)]
        ]
    )
    rows = np.repeat(weights, len(starts), axis=0)
    fits = np.tile(starts, (len(weights), 1))
    fits, errors = descend(fits, rows, x - middle[0], y - middle[1], np.log(losses))
    chosen = errors.reshape(len(weights), -1).argmin(1) + len(starts) * np.arange(len(weights))
    return [law_from(fit, middle, cost) for fit in fits[chosen]]


def law_from(fit: np.ndarray, middle: tuple[float, float], cost: float) -> Law:
    """The law of five logarithms, uncentred."""
    e, a, b, log_alpha, log_beta = fit
    alpha, beta = np.exp(log_alpha), np.exp(log_beta)
    A, B = np.exp(a + alpha * middle[0]), np.exp(b + beta * middle[1])
    return Law(float(np.exp(e)), float(A), float(B), float(alpha), float(beta), cost)


def descend(
    fits: np.ndarray, weights: np.ndarray, x: np.ndarray, y: np.ndarray, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Levenberg and Marquardt on Huber's loss, for all fits (F, 5) at once; -> fits, errors (F,).

    Huber's loss is least squares whose weights are cut where the error is large.
    """
    damping = np.full(len(fits), 1e-2)
    residual, slope = residuals(fits, x, y, target)
    error = huber(residual, weights)
    for _ in range(ROUNDS):
        heavy = weights * np.minimum(1, HUBER / np.maximum(np.abs(residual), 1e-300))  # (F, n)
        normal = np.einsum("fni,fn,fnj->fij", slope, heavy, slope)
        pull = np.einsum("fni,fn,fn->fi", slope, heavy, residual)
        ridge = damping[:, None] * (np.einsum("fii->fi", normal) + 1e-9)
        step = np.linalg.solve(normal + ridge[:, None] * np.eye(5), pull[..., None])[..., 0]
        tried = fits - np.clip(step, -1, 1)
        tried[:, 3:] = np.clip(tried[:, 3:], np.log(0.01), np.log(5))
        new_residual, new_slope = residuals(tried, x, y, target)
        new_error = huber(new_residual, weights)
        better = new_error < error
        fits[better], error[better] = tried[better], new_error[better]
        residual[better], slope[better] = new_residual[better], new_slope[better]
        damping = np.clip(np.where(better, damping / 3, damping * 4), 1e-12, 1e12)
    return fits, error


def residuals(
    fits: np.ndarray, x: np.ndarray, y: np.ndarray, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Log of what a law says less log of what was measured (F, n), and its slopes (F, n, 5)."""
    e, a, b = (fits[:, i, None] for i in range(3))
    alpha, beta = np.exp(fits[:, 3, None]), np.exp(fits[:, 4, None])
    terms = np.stack([np.broadcast_to(e, (len(fits), len(x))), a - alpha * x, b - beta * y])
    total = np.logaddexp.reduce(terms)
    shares = np.exp(terms - total)
    slopes = (*shares, -shares[1] * alpha * x, -shares[2] * beta * y)
    return total - target, np.stack(slopes, axis=-1)


def huber(residual: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Huber's loss (F,)."""
    size = np.abs(residual)
    loss = np.where(size <= HUBER, size**2 / 2, HUBER * (size - HUBER / 2))
    return (weights * loss).sum(1)


# -- approach 2: a valley on every rung ------------------------------------------------------------


@dataclass(frozen=True)
class Valley:
    """A parabola over the logarithm of N through trainings of equal FLOPs."""

    flops: float
    parameters: float
    """Where it is lowest."""
    loss: float
    curve: tuple[float, float, float]
    """Of (ln N)^2, ln N and 1."""
    inside: bool
    """Whether it is lowest between the smallest and the largest of the models."""


def rungs(trainings: Sequence[Training]) -> list[list[Training]]:
    """The trainings by what they cost, the cheapest first."""
    costs = sorted({one.flops for one in trainings})
    return [[one for one in trainings if one.flops == cost] for cost in costs]


def valleys(trainings: Sequence[Training]) -> list[Valley]:
    """The valley of each rung of three trainings or more that has one."""
    found = (valley_of(rung) for rung in rungs(trainings) if len(rung) >= 3)
    return [valley for valley in found if valley is not None]


def valley_of(rung: Sequence[Training]) -> Valley | None:
    """The parabola of a rung; None where it opens downwards."""
    x = np.log([one.parameters for one in rung])
    a, b, c = (float(value) for value in np.polyfit(x, [one.loss for one in rung], 2))
    if a <= 0:
        return None
    lowest = -b / (2 * a)
    inside = bool(x.min() <= lowest <= x.max())
    return Valley(rung[0].flops, float(np.exp(lowest)), c - b * b / (4 * a), (a, b, c), inside)


def valley_line(found: Sequence[Valley]) -> tuple[float, float] | None:
    """N = k C^exponent through the lowest points inside their rungs; None of fewer than two."""
    inside = [valley for valley in found if valley.inside]
    if len(inside) < 2:
        return None
    logs = np.log([(valley.flops, valley.parameters) for valley in inside])
    exponent, k = np.polyfit(logs[:, 0], logs[:, 1], 1)
    return float(np.exp(k)), float(exponent)


# -- what follows ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class HeldOut:
    """The largest rung, foretold by the others."""

    trainings: tuple[Training, ...]
    predicted: tuple[float, ...]

    @property
    def errors(self) -> tuple[float, ...]:
        """Shares of the measured losses."""
        pairs = zip(self.trainings, self.predicted, strict=True)
        return tuple(predicted / one.loss - 1 for one, predicted in pairs)

    @property
    def at_best(self) -> float:
        """The error, without its sign, for the model of least loss: what a budget is spent on."""
        best = min(range(len(self.trainings)), key=lambda i: self.trainings[i].loss)
        return abs(self.errors[best])

    @property
    def worst(self) -> float:
        """The largest error, without its sign; models far from the best size are foretold worse."""
        return max(abs(error) for error in self.errors)


@dataclass(frozen=True)
class Scaling:
    """All that a ladder says."""

    trainings: tuple[Training, ...]
    law: Law
    intervals: dict[str, Interval]
    """Of alpha, beta, E, and parameters, tokens and loss at the budget."""
    best: Best
    valleys: tuple[Valley, ...]
    held_out: HeldOut | None

    @property
    def one_sided(self) -> str:
        """`smaller` or `larger` models would have done better on every rung; empty: neither.

        Then nothing tells what size costs and what it gains, and the law's best one is made up.
        """
        best = [
            min(range(len(rung)), key=lambda i: rung[i].loss)
            for rung in (sorted(one, key=size_of) for one in rungs(self.trainings))
        ]
        if all(place == 0 for place in best):
            return "smaller"
        last = [len(rung) - 1 for rung in rungs(self.trainings)]
        return "larger" if best == last else ""


def size_of(training: Training) -> float:
    """Its parameters."""
    return training.parameters


def scaling_of(
    trainings: Sequence[Training], budget: float, *, hold_out: bool = True, times: int = 200
) -> Scaling:
    """Law, intervals, what to do with the budget, and how well the largest rung was foretold."""
    law = fit_law(trainings)
    return Scaling(
        tuple(trainings),
        law,
        intervals(resampled(trainings, times), budget) if times else {},
        law.best(budget),
        tuple(valleys(trainings)),
        foretold(trainings) if hold_out else None,
    )


def intervals(laws: Sequence[Law], budget: float) -> dict[str, Interval]:
    """From the 2.5th to the 97.5th percentile of resampled fits."""
    values = {key: [getattr(law, key) for law in laws] for key in ("alpha", "beta", "E")}
    best = [law.best(budget) for law in laws]
    values |= {key: [getattr(one, key) for one in best] for key in ("parameters", "tokens", "loss")}
    ends = {key: np.percentile(some, (2.5, 97.5)) for key, some in values.items()}
    return {key: Interval(float(low), float(high)) for key, (low, high) in ends.items()}


def foretold(trainings: Sequence[Training]) -> HeldOut:
    """The largest rung as the law of all others sees it."""
    *smaller, largest = rungs(trainings)
    law = fit_law([one for rung in smaller for one in rung])
    return HeldOut(
        tuple(largest), tuple(float(law.loss(one.parameters, one.tokens)) for one in largest)
    )

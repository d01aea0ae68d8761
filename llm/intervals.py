"""What was measured on each of many items, and how far the mean may well be from the truth.

A figure is sum(values) / sum(weights): a share of questions (weights 1), bits per byte of texts
(weights their bytes). Shares get Wilson's interval, other figures that of the normal distribution
for a ratio (the delta method), so that documents count as drawn one by one, not byte by byte.
Two models on the same items are compared item by item: what is hard for both cancels out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from llm.reward_score import Z, wilson

DRAWS = 1000
"""Samples of a bootstrap."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One figure, and what it is the mean of."""

    metric: str
    unit: str
    """share, bits, nats, ...; perplexity: e to the mean of nats."""
    better: Literal["higher", "lower"]
    values: Sequence[float]
    weights: Sequence[float] = ()
    """None: 1 each."""
    note: str = ""

    @property
    def shares(self) -> np.ndarray:
        """The weights: (N,)."""
        return np.array(self.weights or [1.0] * len(self.values), float)


def share(metric: str, values: Sequence[float], note: str = "") -> Measure:
    """How many of all."""
    return Measure(metric=metric, unit="share", better="higher", values=values, note=note)


def row(measure: Measure) -> dict[str, Any]:
    """The figure and its 95% interval."""
    value, low, high = interval(measure)
    if measure.unit == "perplexity":
        value, low, high = (math.exp(min(one, 700.0)) for one in (value, low, high))
    return {
        "metric": measure.metric,
        "value": value,
        "low": low,
        "high": high,
        "examples": len(measure.values),
        "unit": measure.unit,
        "better": measure.better,
        "note": measure.note,
    }


def interval(measure: Measure) -> tuple[float, float, float]:
    """Mean, and the ends of its interval; one item alone tells nothing of its spread."""
    values, weights = np.array(measure.values, float), measure.shares
    mean = float(values.sum() / weights.sum())
    if measure.unit == "share" and not measure.weights and set(measure.values) <= {0, 0.5, 1}:
        return (mean, *wilson(mean, len(values)))
    half = Z * spread((values - mean * weights) / weights.sum())
    return mean, mean - half, mean + half


def spread(parts: np.ndarray) -> float:
    """Standard error of a sum of parts whose mean is 0."""
    count = len(parts)
    return math.sqrt(float((parts * parts).sum()) * count / (count - 1)) if count > 1 else 0.0


def difference(first: Measure, second: Measure) -> dict[str, Any]:
    """What the first has more than the second, on the same items; None for no interval."""
    a, b = (np.array(one.values, float) for one in (first, second))
    assert len(a) == len(b), "the items are the same"
    means = [float(v.sum() / m.shares.sum()) for v, m in ((a, first), (b, second))]
    parts = [
        (v - mean * m.shares) / m.shares.sum()
        for v, mean, m in ((a, means[0], first), (b, means[1], second))
    ]
    value, half = means[0] - means[1], Z * spread(parts[0] - parts[1])
    return {
        "metric": first.metric,
        "value": value,
        "low": value - half,
        "high": value + half,
        "examples": len(a),
        "unit": first.unit,
        "better": first.better,
    }


BINS = 10


def calibration_bins(confidence: np.ndarray, right: np.ndarray) -> list[dict[str, float]]:
    """How sure a model is of its choices and how often they are right, in ten bins; empty ones are
    left out."""
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return [
        {
            "from": number / BINS,
            "to": (number + 1) / BINS,
            "examples": int((place == number).sum()),
            "confidence": float(confidence[place == number].mean()),
            "accuracy": float(right[place == number].mean()),
        }
        for number in range(BINS)
        if (place == number).any()
    ]


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Mean distance of the two, bins counting by their examples (Naeini et al. 2015)."""
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(place, weights=right - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(right))


def calibration_row(confidence: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """The error with a bootstrap's interval: it has no formula of its own."""
    draw = np.random.default_rng(0)
    count = len(right)
    errors = []
    for _ in range(DRAWS):
        chosen = draw.integers(0, count, count)
        errors.append(expected_calibration_error(confidence[chosen], right[chosen]))
    low, high = np.quantile(errors, (0.025, 0.975))
    return {
        "metric": "calibration_error",
        "value": expected_calibration_error(confidence, right),
        "low": float(low),
        "high": float(high),
        "examples": count,
        "unit": "share",
        "better": "lower",
        "note": "how far how sure it is lies from how often it is right; chance adds to it where "
        "examples are few",
    }

"""How well rewards agree with people's comparisons that the model was not trained on.

Accuracy alone misleads. It comes with its interval, since sets are small; with that of the longer
answer, since length is what people's judgements correlate with most and what a model learns first
(Singhal et al. 2023); and with calibration, since what PPO climbs is the size of a reward.

N answers, P pairs of them.
"""

import math

import numpy as np

Z = 1.959964
"""Standard deviations on either side of a mean that hold 95% of a normal distribution."""

BINS = 10


def share_won(differences: np.ndarray) -> float:
    """Share of pairs that come out right; an undecided one counts half."""
    return float(np.mean((np.sign(differences) + 1) / 2))


def wilson(share: float, count: int) -> tuple[float, float]:
    """95% interval of a share seen in `count` trials (Wilson 1927).

    Unlike mean and standard deviation it stays inside 0 and 1, and is right for small counts.
    """
    spread = Z * Z / count
    middle = (share + spread / 2) / (1 + spread)
    half = Z / (1 + spread) * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    return max(0.0, middle - half), min(1.0, middle + half)  # rounding, at 0 and at 1


def calibration_error(differences: np.ndarray) -> float:
    """Mean distance between how sure of its choice a model is and how often the choice is right.

    Confidence, sigmoid of the difference's size, lies between 0.5 and 1 and is put into ten bins of
    one width, which count by their pairs (Naeini et al. 2015).
    """
    confidence = 1 / (1 + np.exp(-np.abs(differences)))
    right = (np.sign(differences) + 1) / 2
    bins = np.minimum(((confidence - 0.5) * 2 * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights=right - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(differences))


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's: the correlation of ranks; 0 where one of them does not vary."""
    a, b = ranks(a), ranks(b)
    a, b = a - a.mean(), b - b.mean()
    size = math.sqrt(float((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / size if size else 0.0


def ranks(values: np.ndarray) -> np.ndarray:
    """The place of each value in order; equal ones share their mean place."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[group]


def agreement(differences: np.ndarray) -> dict[str, float]:
    """Accuracy over pairs and the interval in which it lies with 95% probability."""
    accuracy = share_won(differences)
    low, high = wilson(accuracy, len(differences))
    return {"accuracy": accuracy, "low": low, "high": high, "pairs": len(differences)}

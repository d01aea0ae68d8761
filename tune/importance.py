"""Which fields mattered: a small forest learns figures from points, then its inputs are shuffled.

The importance of a field is how much worse the forest foretells trials that its trees have not seen
when that field's values are shuffled among them (permutation importance, Breiman 2001), as shares
that make 1. `explained` says how far to trust it: the share of the variance of unseen trials that
the forest explains; near 0, with few trials or much noise, nobody knows what mattered, and the
report says so. Some numpy in place of a dependency: points are few, trees of them small.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tune.space import Point, Space, to_unit

TREES = 64
LEAF = 2
"""A node of fewer points is not split."""

LEAST = 8
"""Points from which on something can be said."""


@dataclass(frozen=True)
class Importance:
    """What each field contributed."""

    shares: dict[str, float]
    """By field, the largest first; together 1, or all 0."""
    explained: float
    """Share of the variance of trials it had not seen; below 0 is worse than the mean."""


@dataclass(frozen=True)
class Node:
    """A question (feature below threshold?) and its two answers, or the mean of a leaf."""

    value: float
    feature: int = -1
    threshold: float = 0.0
    yes: "Node | None" = None
    no: "Node | None" = None


def importance_of(
    space: Space, points: Sequence[Point], figures: Sequence[float], seed: int = 0
) -> Importance | None:
    """What mattered for the figures; None of too few points."""
    if len(points) < LEAST:
        return None
    paths = list(space)
    x = np.array([[unit(space, path, point) for path in paths] for point in points])
    y = ranks(np.asarray(figures))
    random = np.random.default_rng(seed)
    errors, shuffled = np.zeros(2), np.zeros(len(paths))
    for _ in range(TREES):
        drawn = random.integers(len(y), size=len(y))
        unseen = np.setdiff1d(np.arange(len(y)), drawn)
        if len(unseen) < 2:
            continue
        tree = grown(x[drawn], y[drawn])
        error = squares(tree, x[unseen], y[unseen])
        errors += error, np.square(y[unseen] - y[drawn].mean()).sum()
        for feature in range(len(paths)):
            other = x[unseen].copy()
            other[:, feature] = random.permutation(other[:, feature])
            shuffled[feature] += squares(tree, other, y[unseen]) - error
    gains = np.maximum(shuffled, 0)
    shares = gains / gains.sum() if gains.sum() > 0 else gains
    order = np.argsort(-shares, kind="stable")
    return Importance(
        {paths[i]: float(shares[i]) for i in order}, float(1 - errors[0] / max(errors[1], 1e-12))
    )


def unit(space: Space, path: str, point: Point) -> float:
    """Where a value lies in [0, 1]; -1 where the field has no say."""
    return to_unit(space[path], point[path]) if path in point else -1.0


def ranks(figures: np.ndarray) -> np.ndarray:
    """Places in [0, 1]: one diverged trial would otherwise be all that a forest learns."""
    return figures.argsort().argsort() / max(1, len(figures) - 1)


def grown(x: np.ndarray, y: np.ndarray) -> Node:
    """A tree of points (n, fields) and figures (n,); the best question is asked first."""
    if len(y) < 2 * LEAF or np.ptp(y) == 0:
        return Node(float(y.mean()))
    fields = range(x.shape[1])
    candidates = [split for feature in fields for split in splits(x[:, feature], y, feature)]
    if not candidates:
        return Node(float(y.mean()))
    _, feature, threshold = min(candidates)
    below = x[:, feature] < threshold
    yes, no = grown(x[below], y[below]), grown(x[~below], y[~below])
    return Node(float(y.mean()), feature, threshold, yes, no)


def splits(values: np.ndarray, y: np.ndarray, feature: int) -> list[tuple[float, int, float]]:
    """Ways to cut a field in two: the squares that are left, the field, the threshold."""
    edges = np.unique(values)
    found = []
    for threshold in (edges[1:] + edges[:-1]) / 2:
        below = values < threshold
        if LEAF <= below.sum() <= len(y) - LEAF:
            left = y[below].var() * below.sum() + y[~below].var() * (~below).sum()
            found.append((float(left), feature, float(threshold)))
    return found


def squares(tree: Node, x: np.ndarray, y: np.ndarray) -> float:
    """Squared errors of what a tree says."""
    return float(np.square([said(tree, row) for row in x] - y).sum())


def said(tree: Node, row: np.ndarray) -> float:
    """What a tree says of a point."""
    while tree.yes is not None and tree.no is not None:
        tree = tree.yes if row[tree.feature] < tree.threshold else tree.no
    return tree.value

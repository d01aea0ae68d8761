"""Which point is tried next: all of a grid, one by chance, or what the known results suggest.

A search is asked for point `number` and given what is known; it keeps nothing in between, so after
a fall it says what it would have said. No point is tried twice: a duplicate is drawn again.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tune.config import DimensionConfig, Scalar, SweepConfig
from tune.space import Point, Space, draw, filled, grid, kind_of, values_of

Figures = tuple[float, ...]


class Known(NamedTuple):
    """A point that was tried and its figures, of which less is better; None: it failed."""

    point: Point
    figures: Figures | None


Search = Callable[[int, Sequence[Known]], Point | None]
"""Point `number` after what is known (points under way included, without figures)."""

ATTEMPTS = 100
"""Draws in search of a point that was not tried yet; then the space counts as exhausted."""

ALL = 16
"""Trials of a sweep that does not say how many."""


def trials_of(config: SweepConfig) -> int:
    """How many points are tried."""
    if config.trials != "auto":
        return config.trials
    return len(grid(config.space)) if config.search == "grid" else ALL


def search_of(config: SweepConfig, seed: int) -> Search:
    """The search that a config asks for; a population is drawn by chance."""
    if config.search == "grid":
        return grid_search(config.space)
    if config.search == "optuna" and config.scheduler != "pbt":
        return optuna_search(config, seed)
    return random_search(config.space, seed)


def grid_search(space: Space) -> Search:
    """All points in order."""
    points = grid(space)
    return lambda number, known: points[number] if number < len(points) else None


def random_search(space: Space, seed: int) -> Search:
    """Points by chance."""

    def search(number: int, known: Sequence[Known]) -> Point | None:
        tried = [one.point for one in known]
        drawn = (draw(space, seed, number, attempt) for attempt in range(ATTEMPTS))
        return next((point for point in drawn if point not in tried), None)

    return search


# -- optuna ----------------------------------------------------------------------------------------


def optuna_search(config: SweepConfig, seed: int) -> Search:
    """TPE (Bergstra et al. 2011; Watanabe 2023), all fields at once, after some points by chance.

    Each suggestion is made by a study of its own out of what is known, seeded by its number: the
    study's own state would have to survive falls, and costs as much to read as to make (ms).
    """
    by_chance = random_search(config.space, seed)
    first = max(4, trials_of(config) // 4)

    def search(number: int, known: Sequence[Known]) -> Point | None:
        if sum(one.figures is not None for one in known) < first:
            return by_chance(number, known)
        for attempt in range(ATTEMPTS // 10):
            point = suggested(config, seed + 1009 * number + 1_000_003 * attempt, known)
            if all(point != one.point for one in known):
                return point
        return by_chance(number, known)

    return search


def suggested(config: SweepConfig, seed: int, known: Sequence[Known]) -> Point:
    """What a TPE sampler makes of the known points."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # multivariate is
        sampler = optuna.samplers.TPESampler(
            multivariate=True, group=True, n_startup_trials=0, seed=seed % 2**32
        )
    less = optuna.study.StudyDirection.MINIMIZE
    study = optuna.create_study(sampler=sampler, directions=[less] * (1 + len(config.also)))
    for one in known:
        study.add_trial(told(config.space, one))
    trial = study.ask()
    return filled(config.space, lambda path: value_of(config.space[path], trial, path))


def value_of(dimension: DimensionConfig, trial: Any, path: str) -> Scalar:
    """What a trial of optuna says about a field."""
    values = values_of(dimension)
    match kind_of(dimension):
        case "uniform":
            low, high = dimension.uniform
            return trial.suggest_float(path, low, high)
        case "loguniform":
            low, high = dimension.loguniform
            return trial.suggest_float(path, low, high, log=True)
        case "choice":
            return dimension.choice[trial.suggest_categorical(path, range(len(dimension.choice)))]
    assert values is not None
    return values[trial.suggest_int(path, 0, len(values) - 1)]


def told(space: Space, known: Known) -> Any:
    """A point as a trial of optuna; one without figures yet is under way.

    TPE takes points under way for bad ones (constant liar), so that it doesn't try what lies next
    to them at the same time. Failed ones stay in that state: nothing is known but that they exist.
    """
    import optuna

    state = optuna.trial.TrialState
    return optuna.trial.create_trial(
        state=state.COMPLETE if known.figures else state.RUNNING,
        values=known.figures,
        params={path: position(space[path], value) for path, value in known.point.items()},
        distributions={path: distribution_of(space[path]) for path in known.point},
    )


def position(dimension: DimensionConfig, value: Scalar) -> Scalar:
    """A value as optuna knows it: itself, or its index."""
    values = values_of(dimension)
    return value if values is None else values.index(value)


def distribution_of(dimension: DimensionConfig) -> Any:
    """A dimension in optuna's words: finite ones by index, in order except those of a choice."""
    import optuna.distributions as known

    values = values_of(dimension)
    match kind_of(dimension):
        case "uniform":
            low, high = dimension.uniform
            return known.FloatDistribution(low, high)
        case "loguniform":
            low, high = dimension.loguniform
            return known.FloatDistribution(low, high, log=True)
        case "choice":
            return known.CategoricalDistribution(range(len(dimension.choice)))
    assert values is not None
    return known.IntDistribution(0, len(values) - 1)

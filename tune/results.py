"""What a sweep has found out: the best point, a table of all, what is known of each point.

A point's figure is the mean over its seeds. Only whole trials can be the best, as long as there are
any: an early one has had fewer tokens.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from llm.files import replacing
from tune.config import Mode, SweepConfig
from tune.search import Known
from tune.space import Point, short
from tune.trials import Trial


@dataclass(frozen=True)
class Tried:
    """A point and its trials, one for every seed."""

    trials: tuple[Trial, ...]

    @property
    def point(self) -> Point:
        """What was tried; of a population what it was at the end."""
        return self.trials[0].point

    @property
    def number(self) -> int:
        """When it was chosen."""
        return self.trials[0].number

    @property
    def whole(self) -> bool:
        """Whether all seeds went all the way."""
        return all(trial.status == "done" for trial in self.trials)

    def figure(self, metric: str) -> float | None:
        """The mean over the seeds; None while or where one has none."""
        figures = [trial.figure(metric) for trial in self.trials]
        known = [figure for figure in figures if figure is not None]
        return sum(known) / len(known) if len(known) == len(figures) else None


def points_of(trials: Iterable[Trial]) -> list[Tried]:
    """The trials, point by point, in the order in which they were chosen."""
    ordered = sorted(trials, key=lambda trial: (trial.number, trial.seed))
    return [Tried(tuple(some)) for _, some in groupby(ordered, key=lambda trial: trial.number)]


def objectives(config: SweepConfig) -> dict[str, Mode]:
    """All figures that matter, the first of them first."""
    return {config.metric: config.mode, **config.also}


def known_points(trials: Iterable[Trial], config: SweepConfig) -> list[Known]:
    """What a search is told: figures of which less is better."""
    return [Known(one.trials[0].first, figures_of(one, config)) for one in points_of(trials)]


def figures_of(tried: Tried, config: SweepConfig) -> tuple[float, ...] | None:
    """A point's figures, negated where more is better; None: under way, or failed."""
    if any(trial.status in ("unfinished", "failed") for trial in tried.trials):
        return None
    figures = [
        None if figure is None else figure if mode == "min" else -figure
        for metric, mode in objectives(config).items()
        for figure in [tried.figure(metric)]
    ]
    known = tuple(figure for figure in figures if figure is not None)
    return known if len(known) == len(figures) else None


def ranked(trials: Iterable[Trial], config: SweepConfig) -> list[Tried]:
    """Points with a figure, the best first; those that went all the way before the others."""
    known = [(figures_of(one, config), one) for one in points_of(trials)]
    rated = [(not one.whole, figures[0], one.number, one) for figures, one in known if figures]
    return [one for *_, one in sorted(rated, key=lambda row: row[:3])]


def best(trials: Iterable[Trial], config: SweepConfig) -> Tried | None:
    """The point that did best."""
    return next(iter(ranked(trials, config)), None)


def front(trials: Iterable[Trial], config: SweepConfig) -> list[Tried]:
    """The trade-offs of several figures: points than which none is better in all (Pareto)."""
    rated = [(figures_of(one, config), one) for one in ranked(trials, config) if one.whole]
    return [
        one
        for mine, one in rated
        if not any(dominates(other, mine) for other, _ in rated)  # type: ignore[arg-type]
    ]


def dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether a is nowhere worse than b and somewhere better."""
    return tuple(a) != tuple(b) and all(x <= y for x, y in zip(a, b, strict=True))


# -- the table -------------------------------------------------------------------------------------


def write_table(trials: Iterable[Trial], path: Path) -> None:
    """trials.parquet: a row for each trial, a column for each field of the space and each figure.

    Values of a field that are of several types are written as JSON.
    """
    rows = [row_of(trial) for trial in trials]
    columns = {key: None for row in rows for key in row}
    table = pa.table({key: column([row.get(key) for row in rows]) for key in columns})
    with replacing(path) as file:
        pq.write_table(table, file)


def row_of(trial: Trial) -> dict[str, object]:
    """A trial in a line."""
    result = trial.result
    return {
        "number": trial.number,
        "seed": trial.seed,
        "trial": trial.name,
        "status": trial.status,
        "by": result.get("by"),
        "error": result.get("error"),
        "tokens": trial.tokens,
        "seconds": trial.seconds,
        **{f"space.{path}": value for path, value in trial.point.items()},
        **{f"metrics.{key}": value for key, value in sorted(result.get("metrics", {}).items())},
    }


def column(values: Sequence[object]) -> pa.Array:
    """Values as Arrow has them."""
    known = [value for value in values if value is not None]
    if len({type(value) for value in known}) > 1:
        if not all(type(value) in (int, float) for value in known):
            return pa.array([None if value is None else json.dumps(value) for value in values])
        return pa.array(values, pa.float64())
    return pa.array(values)


def lines(trials: Iterable[Trial], config: SweepConfig) -> Iterator[tuple[str, ...]]:
    """The live table: number, status, tokens, figures and values, of every trial."""
    for trial in trials:
        figures = [trial.figure(metric) for metric in objectives(config)]
        yield (
            str(trial.number),
            how(trial),
            f"{trial.tokens:,}",
            *("" if figure is None else f"{figure:.4g}" for figure in figures),
            *(short(trial.point.get(path)) for path in config.space),
        )


def how(trial: Trial) -> str:
    """`stopped (asha)`, `under way`: how a trial is."""
    if trial.status == "unfinished":
        return "under way" if trial.reports else "starting"
    return f"{trial.status} ({trial.result['by']})" if "by" in trial.result else trial.status

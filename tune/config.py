"""What a sweep and a scaling ladder can be told: frozen records, neither torch nor ray."""

from dataclasses import field
from typing import Annotated, Literal

from annotated_types import Gt, Le, MinLen

from llm.config import Auto, Count, CountOrZero, Rate, RateOrZero, Share, auto, record

Scalar = bool | int | float | str
Mode = Literal["min", "max"]


@record
class DimensionConfig:
    """The values that one field may take: exactly one of the first six keys."""

    uniform: tuple[float, ...] = ()
    """[low, high]: any number in between."""
    loguniform: tuple[float, ...] = ()
    """[low, high]: any number in between, every factor equally likely; low above 0."""
    quniform: tuple[float, ...] = ()
    """[low, high, step]: low, low + step, ... up to high."""
    randint: tuple[int, ...] = ()
    """[low, high]: a whole number, both ends included."""
    choice: tuple[Scalar, ...] = ()
    """Values in no order, such as names."""
    grid: tuple[Scalar, ...] = ()
    """Values in order; `search: grid` tries all of them."""
    when: dict[str, tuple[Scalar, ...]] = field(default_factory=dict)
    """Only where other fields of the space have one of these values: {other.field: [a, b]}."""


@record
class EarlyStopConfig:
    """When asha and hyperband end a trial that others have left behind (Li et al. 2020)."""

    grace: Auto[Count] = auto
    """Tokens that every trial gets; auto: a 9th of a whole trial."""
    reduction: Annotated[float, Gt(1)] = 3.0
    """Of the trials that reach a rung about one in so many goes on, to so many times the tokens."""
    brackets: Count = 3
    """hyperband: so many graces, each `reduction` times the last; trials take turns."""


@record
class PopulationConfig:
    """How pbt moves weights from the best trials to the worst (Jaderberg et al. 2017)."""

    every: Auto[Count] = auto
    """Tokens between two comparisons; auto: an 8th of a whole trial."""
    share: Annotated[float, Gt(0), Le(0.5)] = 0.25
    """Of the population, the worst so many take over weights and values of the best so many."""
    resample: Share = 0.25
    """Chance that a value taken over is drawn anew in place of being moved a little."""


@record
class ResourcesConfig:
    """What one trial takes of the cluster."""

    workers: Auto[Count] = auto
    """Workers that train it together; auto: those of `cluster`."""
    cpus_per_worker: Auto[Count] = auto
    """CPU cores of a worker; auto: those of `cluster` if they are given there, else 1."""
    gpus_per_worker: Auto[RateOrZero] = auto
    """GPUs of a worker, or a share of one; auto: those of `cluster`."""


@record
class SweepConfig:
    """A search for the values with which stages do best."""

    space: Annotated[dict[str, DimensionConfig], MinLen(1)]
    """The fields that vary, as dotted paths, and what they may be."""
    metric: str = "bpb"
    """The figure that decides."""
    mode: Mode = "min"
    """Whether less of it is better, or more."""
    also: dict[str, Mode] = field(default_factory=dict)
    """Further figures that matter, {name: min or max}; optuna then seeks the best trade-offs."""
    search: Literal["random", "grid", "optuna"] = "optuna"
    """How points are chosen: by chance, all of a grid, or by what is known already (TPE)."""
    scheduler: Literal["asha", "hyperband", "pbt", "none"] = "asha"
    """What happens to trials under way: the worst end early, or go on from the best (pbt)."""
    trials: Auto[Count] = auto
    """Points that are tried; auto: all of a grid, else 16."""
    seeds: Count = 1
    """Trials of every point, each with a seed of its own; their mean counts."""
    hours: Rate | None = None
    """Hours after which everything ends; null: none."""
    tokens: Count | None = None
    """Tokens that all trials may take together; null: any number."""
    concurrent: Auto[Count] = auto
    """Trials at the same time; auto: as many as the cluster has room for."""
    each: ResourcesConfig = field(default_factory=ResourcesConfig)
    """What one trial takes of the cluster."""
    early: EarlyStopConfig = field(default_factory=EarlyStopConfig)
    """What asha and hyperband go by."""
    population: PopulationConfig = field(default_factory=PopulationConfig)
    """What pbt goes by."""


@record
class ScalingConfig:
    """A ladder of trainings, each rung of equal FLOPs, and the law that they follow."""

    depths: Annotated[tuple[Count, ...], MinLen(3)]
    """Depths of the models on every rung."""
    budgets: Annotated[tuple[Rate, ...], MinLen(3)]
    """FLOPs of a training, one for each rung."""
    predict: Rate
    """FLOPs of the training whose best size, tokens and loss are asked for."""
    hold_out: bool = True
    """Predict the largest rung from the others first, and say by how much that was wrong."""
    bootstrap: CountOrZero = 200
    """Fits to resampled trainings, of which the 95% intervals are made; 0: no intervals."""
    concurrent: Auto[Count] = auto
    """Trainings at the same time; auto: as many as the cluster has room for."""
    each: ResourcesConfig = field(default_factory=ResourcesConfig)
    """What one training takes of the cluster."""

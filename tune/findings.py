"""What cannot be in a sweep's or ladder's config beyond wrong types, each at its place.

`jobs` shows them with file and line, all at once, before anything runs.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tune.config import DimensionConfig, ScalingConfig, SweepConfig
from tune.space import KINDS, Space, grid, kind_of, kinds_in, values_of

EXAMPLES = {
    "uniform": "[0, 0.3]",
    "loguniform": "[1e-4, 1e-2]",
    "quniform": "[0, 1, 0.25]",
    "randint": "[1, 8]",
    "choice": "[a, b]",
    "grid": "[1, 2, 4]",
}


class Finding(NamedTuple):
    """What is wrong, under which keys of the config."""

    keys: tuple[str, ...]
    message: str


def sweep_findings(config: SweepConfig) -> list[Finding]:
    """Everything about a sweep that cannot be; empty: it can run."""
    found = space_findings(config.space)
    if config.metric in config.also:
        found.append(Finding(("also", config.metric), "is what `metric` names already; remove it"))
    if config.scheduler == "pbt":
        found += population_findings(config)
    if not found:
        found += search_findings(config)
    return found


def population_findings(config: SweepConfig) -> Iterator[Finding]:
    """What a population cannot be."""
    if config.seeds > 1:
        yield Finding(("seeds",), "pbt changes a trial's values under way; seeds must be 1")
    if config.search == "grid":
        yield Finding(("search",), "a population is drawn by chance; write search: random")
    if config.trials == 1:
        yield Finding(("trials",), "a population of 1 has nobody to learn from; write 4 or more")


def search_findings(config: SweepConfig) -> Iterator[Finding]:
    """What does not go with the way in which points are chosen; the space is in order."""
    if config.search != "grid":
        return
    endless = [path for path, one in config.space.items() if values_of(one) is None]
    for path in endless:
        message = f"search: grid tries all values, of which {kind_of(config.space[path])} has no"
        yield Finding(("space", path), f"{message} end; write grid: [...] or quniform")
    if endless or config.trials == "auto":
        return
    count = len(grid(config.space))
    if config.trials < count:
        remedy = "leave trials out, or write search: random"
        yield Finding(
            ("trials",), f"{config.trials} is less than the grid's {count} points; {remedy}"
        )


def space_findings(space: Space) -> list[Finding]:
    """What is wrong with the dimensions, each by itself and with the others."""
    found = []
    for path, dimension in space.items():
        message = dimension_finding(dimension)
        if message:
            found.append(Finding(("space", path), message))
        found += condition_findings(space, path)
    if circle := circle_in(space):
        text = " -> ".join((*circle, circle[0]))
        found.append(Finding(("space", circle[0], "when"), f"goes round in a circle: {text}"))
    return found


def dimension_finding(dimension: DimensionConfig) -> str:
    """What is wrong with the values of one field; empty: nothing."""
    kinds = kinds_in(dimension)
    if len(kinds) != 1:
        example = "{uniform: [0, 0.3]}"
        written = f"has {', '.join(kinds)}" if kinds else "has no values"
        return f"{written}; exactly one of {', '.join(KINDS)} is allowed, such as {example}"
    (kind,) = kinds
    values: tuple = getattr(dimension, kind)
    if kind in ("choice", "grid"):
        twice = [value for i, value in enumerate(values) if value in values[:i]]
        return f"{kind} has {twice[0]!r} twice" if twice else ""
    if len(values) != len(EXAMPLES[kind].split(",")):
        names = "[low, high, step]" if kind == "quniform" else "[low, high]"
        return f"{kind} must be {names}, such as {EXAMPLES[kind]}; it has {len(values)} numbers"
    return range_finding(kind, *values)


def range_finding(kind: str, low: float, high: float, step: float = 1.0) -> str:
    """What is wrong with a range."""
    if not all(map(math.isfinite, (low, high, step))):
        return f"{kind} must have finite numbers"
    if low >= high:
        return f"{kind}: [{low:g}, {high:g}] is empty; the first must be less than the second"
    if kind == "loguniform" and low <= 0:
        return f"loguniform starts at {low:g}, which has no logarithm; it must be above 0"
    if kind == "quniform" and not 0 < step <= high - low:
        return f"{kind}: steps of {step:g} do not fit between {low:g} and {high:g}"
    return ""


def condition_findings(space: Space, path: str) -> Iterator[Finding]:
    """Conditions on fields that are not there, or on values that they never have."""
    for other, allowed in space[path].when.items():
        keys = ("space", path, "when", other)
        if other not in space:
            yield Finding(keys, f"is no field of the space; there are {', '.join(space)}")
            continue
        if dimension_finding(space[other]):
            continue
        values = values_of(space[other])
        if values is None:
            kind = kind_of(space[other])
            yield Finding(
                keys, f"has no single values, being {kind}; write choice, grid or randint"
            )
            continue
        never = [value for value in allowed if value not in values]
        if never or not allowed:
            shown = ", ".join(map(str, never)) or "an empty list"
            known = ", ".join(map(str, values))
            yield Finding(keys, f"{shown} is no value of {other}; it has {known}")


def circle_in(space: Space) -> Sequence[str]:
    """Fields of which each depends on the next, and the last on the first."""
    waiting = set(space)
    while free := [path for path in waiting if not waiting.intersection(space[path].when)]:
        waiting.difference_update(free)
    if not waiting:
        return ()
    trail = [min(waiting)]  # everything that still waits depends on something that still waits
    while (after := min(waiting.intersection(space[trail[-1]].when))) not in trail:
        trail.append(after)
    return trail[trail.index(after) :]


def scaling_findings(config: ScalingConfig) -> list[Finding]:
    """Everything about a ladder that cannot be."""
    found = []
    for key in ("depths", "budgets"):
        values = getattr(config, key)
        if len(set(values)) < len(values):
            found.append(Finding((key,), f"{', '.join(f'{v:g}' for v in values)}: has one twice"))
    least = 4 if config.hold_out else 3
    if len(config.budgets) < least:
        message = f"{len(config.budgets)} rungs are too few to hold out the largest; write {least}"
        found.append(Finding(("budgets",), message))
    return found

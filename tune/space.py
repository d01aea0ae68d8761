"""The search space: which points there are, which is drawn for a number, what lies next to one.

A value is a position in [0, 1] seen through its dimension, so searches and pictures work on a cube.
The position for (seed, number, field) comes from a hash: point 17 is the same on every machine and
after every fall, whatever was drawn before it, and a field that is added leaves the others alone.
A field with `when` is absent from points where its condition does not hold.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping

from tune.config import DimensionConfig, Scalar

Point = dict[str, Scalar]
Space = Mapping[str, DimensionConfig]

KINDS = ("uniform", "loguniform", "quniform", "randint", "choice", "grid")

FACTORS = (0.8, 1.2)
"""By how much a loguniform value moves (Jaderberg et al. 2017)."""

STRIDE = 0.1
"""By how much of its range any other number moves."""


def kind_of(dimension: DimensionConfig) -> str:
    """Which of the six keys it has."""
    (kind,) = kinds_in(dimension)
    return kind


def kinds_in(dimension: DimensionConfig) -> list[str]:
    """The keys that are written; exactly one in a space without findings."""
    return [kind for kind in KINDS if getattr(dimension, kind)]


def values_of(dimension: DimensionConfig) -> tuple[Scalar, ...] | None:
    """All values in order; None where there is a continuum."""
    match kind_of(dimension):
        case "choice":
            return dimension.choice
        case "grid":
            return dimension.grid
        case "randint":
            first, last = dimension.randint
            return tuple(range(first, last + 1))
        case "quniform":
            low, high, step = dimension.quniform
            # Twelve digits: 0.1 + 2 x 0.1 is written 0.3, and has the name of a point written 0.3.
            count = math.floor((high - low) / step + 1e-9) + 1
            return tuple(float(f"{low + index * step:.12g}") for index in range(count))
    return None


def from_unit(dimension: DimensionConfig, unit: float) -> Scalar:
    """The value at a position of [0, 1]; positions outside are taken for the nearest end."""
    unit = min(max(unit, 0.0), 1.0)
    if values := values_of(dimension):
        return values[min(int(unit * len(values)), len(values) - 1)]
    if kind_of(dimension) == "loguniform":
        low, high = dimension.loguniform
        return min(max(math.exp(math.log(low) + unit * math.log(high / low)), low), high)
    low, high = dimension.uniform
    return min(max(low + unit * (high - low), low), high)


def to_unit(dimension: DimensionConfig, value: Scalar) -> float:
    """The position of a value; one of several has the middle of its share."""
    if values := values_of(dimension):
        return (values.index(value) + 0.5) / len(values)
    number = float(value)
    if kind_of(dimension) == "loguniform":
        low, high = dimension.loguniform
        return math.log(number / low) / math.log(high / low)
    low, high = dimension.uniform
    return (number - low) / (high - low)


# -- points ----------------------------------------------------------------------------------------


def draw(space: Space, seed: int, number: int, attempt: int = 0) -> Point:
    """Point `number` of a random search; further attempts give others in its place."""
    return filled(
        space, lambda path: from_unit(space[path], chance(seed, number, attempt, "point", path))
    )


def filled(space: Space, value: Callable[[str], Scalar]) -> Point:
    """A point of the values that are asked for, field by field, conditions first."""
    point: Point = {}
    for path in order(space):
        if is_active(space, path, point):
            point[path] = value(path)
    return {path: point[path] for path in space if path in point}


def grid(space: Space) -> list[Point]:
    """Every point once, the last field changing fastest; all dimensions have values in order."""
    points: list[Point] = [{}]
    for path in order(space):
        points = [longer for point in points for longer in extended(space, path, point)]
    return [{path: point[path] for path in space if path in point} for point in points]


def extended(space: Space, path: str, point: Point) -> Iterator[Point]:
    """The point with every value of one more field, or as it is where that has no say."""
    if not is_active(space, path, point):
        yield point
        return
    values = values_of(space[path])
    assert values is not None, f"{path} has no values in order"
    for value in values:
        yield {**point, path: value}


def perturbed(space: Space, point: Point, resample: float, *key: int) -> Point:
    """A point next to this one, or drawn anew in some fields; `key` says which of many."""

    def moved(path: str) -> Scalar:
        dimension, unit = space[path], chance(*key, "value", path)
        if path not in point or chance(*key, "resample", path) < resample:
            return from_unit(dimension, unit)
        return neighbour(dimension, point[path], up=unit >= 0.5)

    return filled(space, moved)


def neighbour(dimension: DimensionConfig, value: Scalar, *, up: bool) -> Scalar:
    """The value a step above or below, within the dimension."""
    if values := values_of(dimension):
        ordered = kind_of(dimension) in ("quniform", "randint")
        stride = max(1, round(STRIDE * len(values))) if ordered else 1
        index = values.index(value) + (stride if up else -stride)
        return values[min(max(index, 0), len(values) - 1)]
    if kind_of(dimension) == "loguniform":
        low, high = dimension.loguniform
        return min(max(float(value) * FACTORS[up], low), high)
    return from_unit(dimension, to_unit(dimension, value) + (STRIDE if up else -STRIDE))


def chance(*key: int | str) -> float:
    """A number in [0, 1) that depends on the key alone."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


# -- conditions ------------------------------------------------------------------------------------


def is_active(space: Space, path: str, point: Mapping[str, Scalar]) -> bool:
    """Whether a field has a say, given the fields that it depends on."""
    conditions = space[path].when.items()
    return all(other in point and point[other] in allowed for other, allowed in conditions)


def order(space: Space) -> list[str]:
    """The fields as they are written, but each after those that it depends on."""
    done: list[str] = []
    waiting = list(space)
    while waiting:
        ready = [path for path in waiting if all(other in done for other in space[path].when)]
        assert ready, f"{waiting} wait for each other"
        done.append(ready[0])
        waiting.remove(ready[0])
    return done


# -- for people ------------------------------------------------------------------------------------


def short(value: object) -> str:
    """A value in a few letters; nothing where a field has no say."""
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)

"""How often to save, and what share of the time then trains, if failures come at random.

A group of workers falls every `mtbf` seconds on average, at exponentially distributed times; N
workers fall N times as often as one. Training for `interval` seconds, it is held up for `stall`
seconds by a save, which is whole `write` seconds later, while training goes on. After a fall it
takes `restart` seconds until it trains again, from the last save that was whole.

`goodput` is exact for this model: Daly's total time (equation 20, for saves that are whole at once)
with the fall's chance to hit a save that is still being written. `simulate` plays it through and
has no formula in it. Not in the model: slow steps right after a restart, saves that themselves
bring workers down, failures that come in flocks.

J. W. Young, A first order approximation to the optimum checkpoint interval, CACM 17 (9), 1974.
J. T. Daly, A higher order estimate of the optimum checkpoint interval for restart dumps, Future
Generation Computer Systems 22 (3), 2006.
"""

import math
import random
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What saving and falling cost, in seconds."""

    stall: float
    """Training waits so long for a save."""
    write: float
    """From the moment that is saved until the save is whole."""
    restart: float
    """From a fall until training goes on: noticing, starting workers, loading."""


def between_falls(hours: float, workers: int) -> float:
    """Mean seconds between falls of a group, of which each worker fails every so many hours."""
    return hours * 3600 / workers


def young(stall: float, mtbf: float) -> float:
    """Seconds to train between saves: half the interval is lost at a fall (Young 1974)."""
    return math.sqrt(2 * stall * mtbf)


def daly(stall: float, mtbf: float) -> float:
    """The same to higher order, for falls that come nearly as often as saves (Daly 2006, 37)."""
    if stall >= 2 * mtbf:
        return mtbf
    part = stall / (2 * mtbf)
    return young(stall, mtbf) * (1 + math.sqrt(part) / 3 + part / 9) - stall


def best_interval(costs: Costs, mtbf: float) -> float:
    """Seconds to train between saves; never less than a save takes to be written."""
    return max(daly(costs.stall, mtbf), costs.write)


def goodput(costs: Costs, interval: float, mtbf: float) -> float:
    """Share of the time in which training gets on for good.

    From one restart to the next fall the time is exponential, and a share of restarts falls itself:
    mtbf exp(restart / mtbf) in all. Until then as many saves became whole as periods fit in; the
    first is whole after interval + stall + write, the others a period later each.
    """
    period = max(interval, costs.write) + costs.stall  # a save waits for the one before it
    first = interval + costs.stall + costs.write
    whole = math.exp(-(first + costs.restart) / mtbf) / -math.expm1(-period / mtbf)
    return interval / mtbf * whole


def simulate(costs: Costs, interval: float, mtbf: float, falls: int, seed: int = 0) -> float:
    """The same share, from a life with so many falls."""
    chance = random.Random(seed)
    useful = clock = 0.0
    next_fall = chance.expovariate(1 / mtbf)
    for _ in range(falls):
        while next_fall - clock < costs.restart:  # falls again before it has got up
            clock = next_fall
            next_fall += chance.expovariate(1 / mtbf)
        clock += costs.restart
        useful += interval * saves_until(next_fall - clock, costs, interval)
        clock = next_fall
        next_fall += chance.expovariate(1 / mtbf)
    return useful / clock


def saves_until(fall: float, costs: Costs, interval: float) -> int:
    """How many saves are whole when a group falls that began to train so many seconds before."""
    clock = writing_until = 0.0
    whole = 0
    while True:
        clock = max(clock + interval, writing_until) + costs.stall
        writing_until = clock + costs.write
        if writing_until > fall:
            return whole
        whole += 1

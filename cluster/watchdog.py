"""Which workers have stopped getting on.

A worker that works beats at every step, validation batch, micro batch of answers and save. One that
is stopped, or whose machine is cut off, is silent; one that waits for a lock, a lost message or a
storage that hangs says itself how long it has not got on. Either way Ray Train sees a process that
is alive, and its neighbours wait in a collective operation for ever.
"""

from dataclasses import dataclass

from cluster.exchange import News, Sign

SILENT_S = 20.0
"""Seconds without any sign after which a worker counts as gone (they come every second)."""

START_S = 600.0
"""Seconds that a worker may take on its way to its first step, if steps have less time: it loads,
validates, and waits for a stream to start."""


LATE_S = 10.0
"""Seconds without getting on, or without a sign, after which it is said for whom a group waits."""


@dataclass(frozen=True)
class Hung:
    """Workers that are to be ended, and why."""

    signs: list[Sign]
    why: str


def hung(news: News, limit: float) -> Hung | None:
    """The workers that have not got on for `limit` seconds, or are silent."""
    heard = sorted(zip(news.signs, news.ages, strict=True), key=lambda one: one[0].rank)
    silent = [sign for sign, age in heard if age > min(limit, SILENT_S)]
    if silent:
        return Hung(silent, f"{named(silent)} silent for {min(limit, SILENT_S):g} s")
    stuck = [sign for sign, age in heard if sign.idle + age > allowed(sign, limit)]
    if stuck:
        last = min(stuck, key=lambda sign: sign.step)
        return Hung(
            stuck, f"{named(stuck)} hung: nothing for {limit:g} s since {last.doing} {last.step}"
        )
    return None


def awaited(news: News) -> list[Sign]:
    """Workers for which the others have been waiting for `LATE_S` seconds, by rank.

    In a collective operation all wait for the one that has not come: it is silent, or it has done
    less than the others.
    """
    heard = sorted(zip(news.signs, news.ages, strict=True), key=lambda one: one[0].rank)
    late = [sign for sign, age in heard if sign.begun and sign.idle + age > LATE_S]
    silent = [sign for sign, age in heard if sign.begun and age > LATE_S]
    if silent or not late:
        return silent
    least = min(sign.step for sign in late)
    return [sign for sign in late if sign.step == least]


def allowed(sign: Sign, limit: float) -> float:
    """Seconds that a worker may take."""
    return limit if sign.begun else max(limit, START_S)


def named(signs: list[Sign]) -> str:
    """`rank 0 and rank 1 on host`"""
    return " and ".join(f"rank {sign.rank} on {sign.host}" for sign in signs)

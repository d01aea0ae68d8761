"""Short turns of Ray Data's loop are stretched, long ones are not."""

from typing import Any

import pytest
from ray.data import DataContext

from cluster import unhurried
from cluster.ingest import keep_order
from cluster.unhurried import TURN_S, Unhurried


class Clock:
    """Time that passes when somebody sleeps or says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(unhurried, "time", clock)
    return clock


def turn(callback: Unhurried, clock: Clock, work: float) -> float:
    """Seconds that a turn with so much work takes."""
    executor: Any = None
    before = clock.now
    clock.now += work
    callback.on_execution_step(executor)
    return clock.now - before


def test_a_turn_takes_a_fiftieth_of_a_second_or_as_long_as_its_work(clock: Clock) -> None:
    callback = Unhurried()
    turn(callback, clock, 0.0)
    assert turn(callback, clock, 0.001) == pytest.approx(TURN_S)
    assert turn(callback, clock, 0.0) == pytest.approx(TURN_S)
    assert turn(callback, clock, 0.5) == pytest.approx(0.5)
    assert turn(callback, clock, 0.001) == pytest.approx(TURN_S)


def test_streams_of_trainings_are_unhurried() -> None:
    context = DataContext()
    keep_order(context, read_ahead=1)
    assert Unhurried in context.execution_callback_classes

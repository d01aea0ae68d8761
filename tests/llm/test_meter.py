"""Rates, worked by hand."""

import math

import pytest

from llm.data import Cursor
from llm.meter import Meter
from llm.outside import Wish
from llm.step_log import Span
from llm.train import StepReport


def report(step: int, tokens: int, seconds: float, waited: float, loss: float = 2.0) -> StepReport:
    span = Span(Cursor(), Cursor(0, 8), tokens, checksum=0)
    return StepReport(step, loss, 1e-3, 0.5, span, seconds, waited, Wish.NOTHING)


def test_a_reading_covers_the_steps_since_the_last_one() -> None:
    meter = Meter(flops=6, processes=2)
    meter.measured(300.0)
    meter.measured(200.0)  # the machine was busy with something else
    assert meter.add(report(1, 100, 10.0, 9.0))  # the first, which waited for the stream
    meter.read(steps=5)
    assert not meter.add(report(2, 100, 1.0, 0.0, loss=2.0))
    assert not meter.add(report(3, 300, 3.0, 0.4, loss=3.0))
    figures = meter.read(steps=5)
    assert figures["loss"] == pytest.approx((100 * 2.0 + 300 * 3.0) / 400)
    assert figures["tokens_per_second"] == 100
    assert figures["data_wait"] == pytest.approx(0.1)
    assert figures["mfu"] == pytest.approx(100 * 6 / 2 / 300)
    assert figures["eta"] == pytest.approx(2 * 2.0)


def test_losses_that_are_not_finite_make_no_mean() -> None:
    meter = Meter(flops=6, processes=1)
    meter.measured(1.0)
    for step, loss in enumerate((2.0, math.nan, 4.0), start=1):
        meter.add(report(step, 100, 1.0, 0.0, loss=loss))
    figures = meter.read(steps=3)
    assert figures["loss"] == 3.0
    assert figures["tokens_per_second"] == 100


def test_totals_leave_out_the_first_step() -> None:
    meter = Meter(flops=6, processes=1)
    meter.measured(1.0)
    meter.add(report(1, 100, 10.0, 9.0))
    meter.read(steps=3)
    assert meter.totals() == {}
    meter.add(report(2, 100, 2.0, 0.5))
    meter.read(steps=3)
    meter.add(report(3, 100, 2.0, 0.5))
    meter.read(steps=3)
    assert meter.totals() == {"tokens_per_second": 50, "flops_per_second": 300, "data_wait": 0.25}

"""Evaluations on a page: intervals where they belong, one scale a task, odd rows left out."""

import re
from typing import Any

from llm.evaluation_section import evaluation_section, scale
from tests.made_runs import EVALUATION


def row(value: Any, low: Any = None, high: Any = None, **more: Any) -> dict[str, Any]:
    named = {"model": "m", "task": "t", "metric": "accuracy", "unit": "share"}
    return {**named, "value": value, "low": low, "high": high, **more}


def page(*rows: Any, **more: Any) -> str:
    return "\n".join(evaluation_section({"rows": list(rows), **more}))


def test_an_interval_is_drawn_where_it_lies() -> None:
    html = page(row(0.5, 0.4, 0.7))
    assert 'style="--at: 50.00%; --low: 40.00%; --high: 70.00%"' in html
    assert 'aria-label="40.0% to 70.0%"' in html


def test_models_of_a_task_share_a_scale() -> None:
    rows = [row(2.0, 1.9, 2.1, unit="bits"), row(2.8, 2.7, 2.9, unit="bits", model="n")]
    low, high = scale(rows)
    assert (round(low, 3), round(high, 3)) == (1.85, 2.95)  # a twentieth of room at both ends
    places = [float(one) for one in re.findall(r"--at: ([\d.]+)%", page(*rows))]
    assert places == [13.64, 86.36]  # 0.15 and 0.95 of 1.1


def test_a_share_that_is_zero_is_drawn_at_zero() -> None:
    assert "--at: 0.00%; --low: 0.00%; --high: 10.00%" in page(row(0.0, 0.0, 0.1))


def test_tasks_stand_in_the_order_of_the_file() -> None:
    rows = [row(0.5, task="b"), row(0.5, task="a"), row(0.6, task="b", model="n")]
    assert re.findall(r"<h3>(.*?)</h3>", page(*rows)) == ["b: accuracy", "a: accuracy"]


def test_rows_that_are_none_are_counted_and_left_out() -> None:
    html = page(row(0.5), 7, {"model": "x"}, row(None), row(float("nan")), row(True))
    assert "5 of 6 rows are not readable" in html
    assert html.count("--at") == 1


def apart(low: float, high: float, better: str) -> str:
    one = row((low + high) / 2, low, high, other="n", better=better)
    return page(row(0.5), differences=[one])


def test_differences_are_drawn_from_the_middle() -> None:
    html = page(row(0.5), differences=EVALUATION["differences"])
    assert "ppo against sft" in html
    assert "--at: 72.73%; --low: 45.45%; --high: 100.00%" in html  # of -0.22 to 0.22
    assert '<tr class="">' in html, "chance alone may be the reason"


def test_what_is_sure_to_be_better_is_marked() -> None:
    assert '<tr class="better">' in apart(0.1, 0.3, "higher")
    assert '<tr class="worse">' in apart(0.1, 0.3, "lower")
    assert '<tr class="better">' in apart(-0.3, -0.1, "lower")


def test_no_difference_at_all_is_drawn_in_the_middle() -> None:
    assert "--at: 50.00%; --low: 50.00%; --high: 50.00%" in apart(0.0, 0.0, "higher")


def test_calibration_is_told_by_how_sure() -> None:
    html = page(row(0.5), calibration=EVALUATION["calibration"])
    assert "<td>25%</td><td>100%</td><td>9</td>" in html


def test_a_remark_on_some_models_names_them() -> None:
    html = page(row(0.5, note="of all"), row(0.6, model="n", note="of all"))
    assert html.count("<p>of all</p>") == 1
    html = page(row(0.5), row(0.6, model="n", note="read plain text"))
    assert "<p>n: read plain text</p>" in html

"""Budgets count over all attempts at a sweep."""

from pathlib import Path

from tests.tune.folders import rewrite, wrote
from tune.budget import Budget
from tune.trials import read_trials

POINT = {"lr": 1e-3}


def report(name: str, spent: int) -> dict:
    return {"config": {"name": name}, "spent": spent}


def test_tokens_of_earlier_attempts_and_of_all_trials_count(tmp_path: Path) -> None:
    wrote(tmp_path, 0, POINT, [1.0] * 6)
    budget = Budget(10, None, read_trials(tmp_path))
    assert not budget.used_up
    budget("a", report("x", 2))
    assert not budget.stop_all()
    budget("b", report("y", 1))
    budget("a", report("x", 3))
    assert budget.used_up == "tokens" and budget.stop_all()


def test_hours_of_earlier_attempts_count_and_pauses_do_not(tmp_path: Path) -> None:
    trial = wrote(tmp_path, 0, POINT, [1.0, 1.0])
    for event, time in enumerate((1000.0, 1200.0, 4000.0)):
        rewrite(trial, event, time=time)
    assert Budget(None, 3000 / 3600, read_trials(tmp_path)).used_up == "hours"
    assert not Budget(None, 3001 / 3600, read_trials(tmp_path)).used_up
    assert not Budget(None, None, read_trials(tmp_path)).used_up

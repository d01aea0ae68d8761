"""A trial's folder says all there is to know, also when a fall left it in the middle."""

import json
from pathlib import Path

import pytest

from tests.tune.folders import wrote
from tune.trials import (
    ORDER,
    create,
    end,
    hold,
    mend,
    name_of,
    order_copy,
    read_trial,
    read_trials,
    seconds_at_work,
    spent,
    write_event,
)

POINT = {"lr": 1e-3, "act": "gelu"}


def test_a_name_depends_on_values_and_seed_but_not_on_their_order() -> None:
    assert name_of(POINT, 0) == name_of(dict(reversed(POINT.items())), 0)
    names = {name_of(POINT, 0), name_of(POINT, 1), name_of({**POINT, "lr": 2e-3}, 0)}
    assert len(names) == 3


def test_creating_a_trial_again_changes_nothing(tmp_path: Path) -> None:
    first = wrote(tmp_path, 3, POINT, [2.0, 1.0])
    again = create(tmp_path, 9, 0, POINT)
    assert (again.number, again.status, again.figure("loss")) == (3, "done", 1.0)
    assert read_trials(tmp_path) == [first]


def test_a_trial_without_result_is_unfinished_and_ends_once(tmp_path: Path) -> None:
    trial = wrote(tmp_path, 0, POINT, [2.0, 1.5], "unfinished")
    assert (trial.status, trial.tokens, trial.figure("loss")) == ("unfinished", 2, 1.5)
    end(trial, "stopped", by="asha")
    end(trial, "failed", error="later")
    result = read_trial(trial.folder).result
    assert result["status"] == "stopped" and result["by"] == "asha"
    assert result["metrics"] == {"loss": 1.5} and result["tokens"] == 2


def test_a_line_that_a_fall_cut_off_does_not_count_and_goes(tmp_path: Path) -> None:
    trial = wrote(tmp_path, 0, POINT, [2.0, 1.5], "unfinished")
    with open(trial.folder / "log.jsonl", "a") as file:
        file.write('{"event": "repo')
    assert read_trial(trial.folder).tokens == 2
    mend(trial.folder)
    write_event(trial.folder, "report", tokens=3, metrics={"loss": 1.0})
    assert [report["tokens"] for report in read_trial(trial.folder).reports] == [1, 2, 3]


def test_tokens_passed_a_second_time_are_reported_and_paid_once(tmp_path: Path) -> None:
    trial = wrote(tmp_path, 0, POINT, [4.0, 3.0, 2.0], "unfinished")
    write_event(trial.folder, "begin", point=POINT, work="work", start=None, copied=None)
    mend(trial.folder, before=2)
    for tokens in (2, 3, 4):
        write_event(trial.folder, "report", tokens=tokens, metrics={"loss": 1.0})
    known = read_trial(trial.folder)
    assert [report["tokens"] for report in known.reports] == [1, 2, 3, 4]
    assert spent(known.log) == 4


def test_a_copy_pays_only_what_it_trains_itself(tmp_path: Path) -> None:
    trial = wrote(tmp_path, 0, POINT, [4.0, 3.0], "unfinished")
    write_event(trial.folder, "begin", point=POINT, work="work-1", start="x", copied="y", tokens=10)
    write_event(trial.folder, "report", tokens=12, metrics={"loss": 1.0})
    assert spent(read_trial(trial.folder).log) == 2 + 2


def test_hours_count_while_something_runs() -> None:
    class Log:
        def __init__(self, *times: tuple[str, float]) -> None:
            self.log = [{"event": event, "time": time} for event, time in times]

    one = Log(("begin", 0.0), ("report", 10.0), ("begin", 100.0), ("end", 110.0))
    other = Log(("begin", 5.0), ("report", 20.0))
    assert seconds_at_work([one, other]) == pytest.approx(30.0)  # type: ignore[list-item]


def test_an_ordered_copy_has_its_own_files(tmp_path: Path) -> None:
    mine = wrote(tmp_path, 0, POINT, [4.0], "unfinished")
    better = wrote(tmp_path, 1, {**POINT, "lr": 5e-3}, [2.0], "unfinished")
    weights = better.folder / "work" / "step-1"
    weights.mkdir(parents=True)
    (weights / "weights").write_text("good")
    held = hold(weights, better.folder / "held" / "1")
    (weights / "weights").unlink()
    order_copy(mine, better, held, 1, {**POINT, "lr": 6e-3})
    (held / "weights").unlink()
    order = json.loads((mine.folder / ORDER).read_text())
    assert (Path(order["start"]) / "weights").read_text() == "good"
    assert (order["work"], order["copied"], order["tokens"]) == ("work-1", better.name, 1)

"""log.jsonl: whole lines that say where they belong."""

import json
from pathlib import Path

from jobs.run_log import NAME, RunLog


def test_lines_tell_run_stage_rank_step_and_how_grave_it_is(tmp_path: Path) -> None:
    log = RunLog(tmp_path, "verse", "pretrain", "0123456789ab")
    log({"event": "step", "step": 3, "loss": 2.5})
    log({"event": "fall", "step": 4, "rank": 1, "cause": "瓶子 fell"})
    log({"event": "resized", "step": 4, "workers_from": 2, "workers_to": 1})
    log.close()
    text = (tmp_path / NAME).read_text()
    step, fall, resized = map(json.loads, text.splitlines())
    assert text.endswith("\n") and "瓶子" in text
    where = {"run": "verse", "stage": "pretrain", "artifact": "0123456789ab"}
    assert step.pop("at") > 1e9
    assert step == {"level": "info", **where, "rank": 0, "event": "step", "step": 3, "loss": 2.5}
    assert (fall["level"], fall["rank"]) == ("warning", 1)
    assert "rank" not in resized


def test_two_runs_may_write_and_later_ones_go_on(tmp_path: Path) -> None:
    logs = [RunLog(tmp_path, "verse", stage, "0") for stage in ("sft", "reward")]
    for number in range(50):
        for log in logs:
            log({"event": "step", "step": number})
    lines = [json.loads(line) for line in (tmp_path / NAME).read_text().splitlines()]
    assert [one["step"] for one in lines if one["stage"] == "sft"] == list(range(50))
    assert len(lines) == 100

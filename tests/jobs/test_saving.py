"""How often to save: what the plan goes by, when it warns, and what `every: auto` becomes."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from cluster.config import ClusterConfig
from jobs.facts import Facts, Text
from jobs.load import load
from jobs.measured import Measured, measure, write_speed
from jobs.plan import resolve
from jobs.planned import Plan
from jobs.saving import saving_of
from jobs.show import show
from jobs.stages import PretrainStage
from llm.config import CheckpointConfig, LoopConfig

SPEC = """\
name: small
cluster: {workers: 2}
data: {shards: text.txt}
stages:
  tokenizer: {kind: tokenizer, vocab_size: 1000}
  pretrain: {kind: pretrain, tokenizer: tokenizer, model: {depth: 2}, steps: 100000, batch: 12}
"""


def facts(measured: Measured = Measured()) -> Facts:  # noqa: B008 (it is frozen)
    return Facts(
        cores=4,
        text=Text(1_000_000, "digest"),
        flops_per_second=1e12,
        measure=lambda _: measured,
        write_speed=lambda _: 1e8,
    )


def planned(tmp_path: Path, known: Facts, *overrides: str) -> Plan:
    (tmp_path / "x.yaml").write_text(SPEC)
    return resolve(load(str(tmp_path / "x.yaml"), overrides), known)


def every(plan: Plan) -> int:
    stage = plan.by_name["pretrain"].stage
    assert isinstance(stage, PretrainStage)
    return stage.checkpoint.every


def text_of(plan: Plan) -> str:
    out = io.StringIO()
    show(plan, Console(file=out, width=80))
    return " ".join(out.getvalue().split())


def test_costs_are_those_of_an_earlier_attempt() -> None:
    measured = Measured(step=2.0, stall=0.5, write=10, restart=20)
    saving = saving_of(
        LoopConfig(checkpoint=CheckpointConfig(every=50)),
        1000,
        None,
        ClusterConfig(workers=4, mtbf_hours=10),
        measured,
        None,
    )
    # sqrt(2 x 0.5 s x 9000 s) = 94.9 s, a little more by Daly, less the stall of 0.5 s
    assert saving.best == pytest.approx(94.5, abs=0.3)
    assert (saving.best_every, saving.source) == (47, "measured")
    # 20 s to get up, 10 s of a write and half of 100 s are lost in 9000 s, 0.5 s in 100.5
    assert 1 - saving.goodput == pytest.approx(80 / 9000 + 0.5 / 100, rel=0.02)
    assert list(saving.goodputs) == [4, 8, 64, 512]
    assert sorted(saving.goodputs.values(), reverse=True) == list(saving.goodputs.values())


def test_costs_are_else_worked_out_from_the_size_and_the_disk() -> None:
    loop = LoopConfig(checkpoint=CheckpointConfig(every=1))
    saving = saving_of(loop, 1_000_000, None, ClusterConfig(), Measured(), 24e6)
    assert saving.costs.write == 0.5  # 12 bytes x 1M at 24 MB/s
    assert saving.source == "12 MB at 24 MB/s, probed"
    blind = saving_of(loop, 1_000_000, None, ClusterConfig(), Measured(), None)
    assert blind.source == "12 MB at 100 MB/s, assumed"


def test_a_long_training_saves_as_often_as_pays_and_a_short_one_ten_times(tmp_path: Path) -> None:
    slow = Measured(step=1.0, stall=0.02, write=0.2)
    # a fall in 500 h: sqrt(2 x 0.02 x 1.8e6) = 268 s
    assert every(planned(tmp_path, facts(slow))) == 268
    fast = replace(slow, step=0.01)
    assert every(planned(tmp_path, facts(fast))) == 10_000
    asked = planned(tmp_path, facts(slow), "stages.pretrain.checkpoint.every=9000")
    assert every(asked) == 9000


def test_how_often_it_saves_is_no_part_of_its_name(tmp_path: Path) -> None:
    often, rarely = (
        planned(tmp_path, facts(Measured(step=step, stall=0.02, write=0.2))) for step in (1.0, 0.01)
    )
    assert every(often) != every(rarely)
    assert often.by_name["pretrain"].fingerprint == rarely.by_name["pretrain"].fingerprint


def test_an_interval_that_costs_a_percent_is_warned_of(tmp_path: Path) -> None:
    slow = facts(Measured(step=1.0, stall=0.02, write=0.2, restart=25))
    # half of 90,000 s is lost at a fall in 1.8e6 s
    text = text_of(planned(tmp_path, slow, "stages.pretrain.checkpoint.every=90000"))
    assert "checkpoint.every 90000 costs 2% of the time more than checkpoint.every=268" in text
    text = text_of(planned(tmp_path, slow))
    assert "warning" not in text
    assert "every 268 steps (4m 28s); best is every 268 (4m 28s)" in text
    assert "a save stalls 0.02 s, takes 0.2 s (measured), a restart 25s (measured)" in text


def test_medians_are_read_off_the_log_of_a_broken_off_training(tmp_path: Path) -> None:
    steps = [
        {"event": "step", "step": n, "steps": 10, "eta": (10 - n) * s}
        for n, s in ((1, 9.0), (2, 2.0), (3, 2.0), (10, 0.0))
    ]
    saves = [
        {"event": "checkpoint", "step": n, "seconds": s, "stall": s / 10}
        for n, s in ((1, 1.0), (2, 3.0), (3, 2.0))
    ]
    lost = (19.0, 80_000.0)  # the second fall waited for somebody to come back the day after
    events = [{"at": 0.0, "event": "again", "lost": one, "redone": 4} for one in lost]
    for name, lines in (("metrics.jsonl", steps + saves), ("events.jsonl", events)):
        (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert measure(tmp_path) == Measured(step=2.0, stall=0.2, write=2.0, restart=11.0)
    assert measure(tmp_path / "none") == Measured()


def test_the_disk_of_a_folder_that_is_not_there_yet_is_probed_above_it(tmp_path: Path) -> None:
    assert (write_speed(tmp_path / "a" / "b") or 0) > 1e5
    assert list(tmp_path.iterdir()) == []

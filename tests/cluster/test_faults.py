"""Steps that would spoil the weights, on Ray: a group goes back, and the next leaves them out."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cluster import train
from cluster.config import ClusterConfig
from llm import events
from llm.metrics import Event
from llm.outside import Outside
from llm.task import read_task
from tests.falls import TWICE, learn_poisoned, run_poisoned
from tests.tasks import write_task

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.mark.long
def test_going_back_on_ray_leaves_out_what_plain_python_does_and_counts_as_no_fall(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = read_task(write_task(tmp_path, steps=30, save_every=10))
    plain, ray = (replace(task, folder=str(tmp_path / name)) for name in ("plain", "ray"))
    for one in (plain, ray):
        Path(one.folder).mkdir()
    run_poisoned(plain, Outside())
    monkeypatch.setattr(train, "learn_text", learn_poisoned)
    seen: list[Event] = []
    cluster = ClusterConfig(workers=2, cpus_per_worker=1, max_failures=0)
    train.pretrain(replace(ray, train=replace(ray.train, faults=TWICE)), cluster, seen.append)
    skips = [json.loads((Path(one.folder) / "skips.json").read_text()) for one in (plain, ray)]
    assert [[one["step"] for one in file] for file in skips] == [[17, 18, 23, 24]] * 2
    assert sum(event["event"] == "start" for event in seen) == 3
    noted = [event["event"] for event in events.read(Path(ray.folder))]
    assert noted.count("rolled_back") == 2 and "fall" not in noted

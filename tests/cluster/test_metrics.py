"""A training's figures among Ray's metrics, and the dashboard that shows them."""

import json
import re
import time
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar
from urllib.request import urlopen

import pytest
import ray

from cluster import metrics
from cluster.metrics import GAUGES, Published
from llm.events import note
from llm.metrics import Event

DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana_training.json"

STEP: Event = {
    "event": "step",
    "step": 10,
    "steps": 40,
    "loss": 3.25,
    "mfu": 0.5,
    "data_wait": 0.01,
    "tokens_per_second": 1200.0,
    "note": "not a number",
}


class FakeGauge:
    """Takes the place of Ray's, which wants a cluster."""

    made: ClassVar[dict[str, float]] = {}

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        assert description and tag_keys == ("run", "stage")
        self.name = name

    def set_default_tags(self, tags: dict[str, str]) -> None:
        assert tags == {"run": "verse", "stage": "pretrain"}

    def set(self, value: float) -> None:
        self.made[self.name] = value


@pytest.fixture
def gauges(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    monkeypatch.setattr(metrics, "Gauge", FakeGauge)
    FakeGauge.made = {}
    return FakeGauge.made


def test_events_set_what_they_tell_and_nothing_else(
    gauges: dict[str, float], tmp_path: Path
) -> None:
    published = Published("verse", "pretrain", tmp_path)
    published({"event": "start", "step": 0, "steps": 40, "workers": 2})
    published(STEP)
    published({"event": "validation", "step": 10, "loss": 3.5, "bpb": 1.2})
    published({"event": "checkpoint", "step": 10, "path": "x", "seconds": 0.5, "stall": 0.25})
    published({"event": "sample", "step": 10, "prompt": "a", "text": "b"})
    assert gauges == {
        "humpty_workers": 2,
        "humpty_step": 10,
        "humpty_steps": 40,
        "humpty_loss": 3.25,
        "humpty_mfu": 0.5,
        "humpty_data_wait": 0.01,
        "humpty_tokens_per_second": 1200.0,
        "humpty_validation_loss": 3.5,
        "humpty_validation_bpb": 1.2,
        "humpty_checkpoint_seconds": 0.5,
        "humpty_checkpoint_stall": 0.25,
    }


def test_falls_and_goodput_are_those_on_record(gauges: dict[str, float], tmp_path: Path) -> None:
    note(tmp_path, "begin", step=0, workers=2)
    note(tmp_path, "fall", cause="killed", step=5)
    Published("verse", "pretrain", tmp_path)({"event": "fall", "step": 5, "cause": "killed"})
    assert gauges["humpty_falls"] == 1
    assert 0 <= gauges["humpty_goodput"] <= 1


def expressions() -> list[str]:
    board = json.loads(DASHBOARD.read_text())
    queries = [one["definition"] for one in board["templating"]["list"] if "definition" in one]
    targets = [one for panel in board["panels"] for one in panel.get("targets", [])]
    return [*queries, *(one["expr"] for one in targets)]


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    named = {name for text in expressions() for name in re.findall(r"ray_(humpty_\w+)", text)}
    assert named == set(GAUGES)


def test_every_curve_is_of_the_chosen_runs() -> None:
    for text in expressions():
        if not text.startswith("label_values"):
            wanted = text.count("ray_humpty_")
            assert text.count('{run=~"$run", stage=~"$stage"}') == wanted > 0


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in combinations((panel["gridPos"] for panel in panels), 2):
        apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_x or apart_y


@pytest.mark.ray
@pytest.mark.slow
def test_prometheus_finds_them_at_rays_own_port(ray_cluster: None, tmp_path: Path) -> None:
    published = Published("verse", "pretrain", tmp_path)
    published(STEP)
    [node] = [one for one in ray.nodes() if one["Alive"]]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    end, text = time.monotonic() + 90, ""
    while "ray_humpty_loss{" not in text:
        assert time.monotonic() < end, "Ray does not export it"
        time.sleep(0.5)
        text = urlopen(url, timeout=30).read().decode()
    [line] = [one for one in text.splitlines() if one.startswith("ray_humpty_loss{")]
    assert 'run="verse"' in line and 'stage="pretrain"' in line and line.endswith(" 3.25")

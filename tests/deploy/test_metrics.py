"""Numbers for Prometheus: what a request's events add up to, and a dashboard that shows them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from deploy.metrics import Meter, Metrics
from deploy.protocol import Begun, Ended, Event, Failed, Piece, Refused

DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana.json"

VLLM = {
    "vllm:num_requests_running": "gauge",
    "vllm:num_requests_waiting": "gauge",
    "vllm:kv_cache_usage_perc": "gauge",
    "vllm:prefix_cache_queries": "counter",
    "vllm:prefix_cache_hits": "counter",
    "vllm:prompt_tokens": "counter",
    "vllm:generation_tokens": "counter",
    "vllm:request_success": "counter",
    "vllm:time_to_first_token_seconds": "histogram",
    "vllm:inter_token_latency_seconds": "histogram",
    "vllm:request_time_per_output_token_seconds": "histogram",
    "vllm:e2e_request_latency_seconds": "histogram",
    "vllm:request_queue_time_seconds": "histogram",
    "vllm:request_prefill_time_seconds": "histogram",
    "vllm:request_decode_time_seconds": "histogram",
    "vllm:request_inference_time_seconds": "histogram",
    "vllm:request_prompt_tokens": "histogram",
    "vllm:request_generation_tokens": "histogram",
}
"""Names and types as in vllm/v1/metrics/loggers.py of vLLM 0.12 and its documentation."""


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Watch:
    """One request, with a clock in the hand."""

    def __init__(self, metrics: Metrics | None = None, model: str = "m") -> None:
        self.clock = Clock()
        self.metrics = metrics or Metrics(self.clock)
        self.metrics.clock = self.clock
        self.meter: Meter = self.metrics.meter(model)

    def after(self, seconds: float, event: Event) -> None:
        self.clock.now += seconds
        self.meter.event(event)

    def __getitem__(self, name: str) -> float | None:
        return value(self.metrics, name)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, {"model_name": "m", **labels})


def test_an_answer_adds_up() -> None:
    watch = Watch()
    assert watch["vllm:num_requests_waiting"] == 1
    watch.after(0.5, Begun(prompt_tokens=10, cached_tokens=4, usage=0.25))
    assert (watch["vllm:num_requests_waiting"], watch["vllm:num_requests_running"]) == (0, 1)
    assert watch["vllm:kv_cache_usage_perc"] == 0.25
    watch.after(0.25, Piece(0, "a", 1))
    watch.after(0.5, Piece(0, "bcd", 2))
    watch.after(0.25, Ended(0, "length"))
    watch.meter.close()
    assert (watch["vllm:num_requests_waiting"], watch["vllm:num_requests_running"]) == (0, 0)
    assert watch["vllm:kv_cache_usage_perc"] == 0
    assert watch["vllm:prompt_tokens_total"] == watch["vllm:prefix_cache_queries_total"] == 10
    assert watch["vllm:prefix_cache_hits_total"] == 4
    assert watch["vllm:generation_tokens_total"] == 3
    for name, seconds, count in (
        ("request_queue_time_seconds", 0.5, 1),
        ("time_to_first_token_seconds", 0.75, 1),
        ("inter_token_latency_seconds", 0.5, 2),
        ("request_time_per_output_token_seconds", 0.25, 1),
        ("request_prefill_time_seconds", 0.25, 1),
        ("request_decode_time_seconds", 0.5, 1),
        ("request_inference_time_seconds", 1.0, 1),
        ("e2e_request_latency_seconds", 1.5, 1),
        ("request_prompt_tokens", 10, 1),
        ("request_generation_tokens", 3, 1),
    ):
        assert watch[f"vllm:{name}_sum"] == pytest.approx(seconds), name
        assert watch[f"vllm:{name}_count"] == count, name
    assert value(watch.metrics, "vllm:request_success_total", finished_reason="length") == 1


def test_tokens_of_each_choice_have_their_own_pace() -> None:
    watch = Watch()
    watch.after(0, Begun(1))
    watch.after(1, Piece(0, "a", 1))
    watch.after(1, Piece(1, "a", 1))
    watch.after(1, Piece(0, "b", 1))
    watch.after(1, Piece(1, "b", 1))
    assert watch["vllm:inter_token_latency_seconds_sum"] == 4.0
    assert watch["vllm:inter_token_latency_seconds_count"] == 2
    assert watch["vllm:time_to_first_token_seconds_count"] == 1


def test_echoed_text_is_not_a_first_token() -> None:
    watch = Watch()
    watch.after(0, Begun(3))
    watch.after(1, Piece(0, "the prompt", 0))
    watch.after(0, Ended(0, "length"))
    watch.meter.close()
    assert watch["vllm:time_to_first_token_seconds_count"] is None
    assert watch["vllm:e2e_request_latency_seconds_count"] == 1


@pytest.mark.parametrize(
    ("events", "reasons"),
    [
        ([], {"abort": 1}),
        ([Begun(1)], {"abort": 1}),
        ([Begun(1), Piece(0, "a", 1)], {"abort": 1}),
        ([Begun(1), Piece(0, "a", 1), Piece(1, "b", 1), Ended(1, "stop")], {"abort": 1, "stop": 1}),
        ([Begun(1), Piece(0, "a", 1), Failed("broke")], {"error": 1}),
        ([Failed("broke")], {"error": 1}),
        ([Begun(1), Ended(0, "content_filter")], {"content_filter": 1}),
        ([Refused(400, "context_length_exceeded", "")], {}),
    ],
)
def test_every_choice_has_a_reason_for_its_end(
    events: list[Event], reasons: dict[str, int]
) -> None:
    watch = Watch()
    for event in events:
        watch.after(1, event)
    watch.meter.close()
    watch.meter.close()
    found = {
        sample.labels["finished_reason"]: sample.value
        for family in watch.metrics.registry.collect()
        for sample in family.samples
        if sample.name == "vllm:request_success_total"
    }
    assert found == reasons
    assert watch["vllm:num_requests_running"] in (None, 0)
    assert watch["vllm:num_requests_waiting"] == 0


def test_refusals_are_counted_by_code() -> None:
    watch = Watch()
    watch.after(0, Refused(429, "queue_full", "..."))
    watch.meter.close()
    refused = {"code": "queue_full"}
    assert watch.metrics.registry.get_sample_value("humpty:refused_requests_total", refused) == 1


EVENTS = st.one_of(
    st.builds(Begun, st.integers(0, 9), st.integers(0, 9)),
    st.builds(Piece, st.integers(0, 2), st.text(max_size=2), st.integers(0, 3)),
    st.builds(Ended, st.integers(0, 2), st.sampled_from(["stop", "length", "content_filter"])),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.lists(EVENTS, max_size=8)), max_size=5))
def test_gauges_come_back_to_zero(requests: list[tuple[bool, list[Event]]]) -> None:
    metrics = Metrics(Clock())
    meters = [metrics.meter("m") for _ in requests]
    for meter, (begins, events) in zip(meters, requests, strict=True):
        kept = [event for event in events if not isinstance(event, Begun)]
        for event in [Begun(1, usage=0.5), *kept] if begins else []:
            meter.event(event)
    for meter in meters:
        meter.close()
    for name in ("running", "waiting"):
        assert value(metrics, f"vllm:num_requests_{name}") in (None, 0)
    assert value(metrics, "vllm:kv_cache_usage_perc") in (None, 0)


def exported() -> list[Metric]:
    """What a server tells after its first request, as Prometheus reads it."""
    watch = Watch()
    for event in (Begun(1, 1), Piece(0, "a", 1), Piece(0, "b", 1), Ended(0, "stop")):
        watch.after(1, event)
    watch.meter.close()
    watch.metrics.refused("invalid_api_key")
    watch.metrics.answered("GET", "/health", 200)
    text, kind = watch.metrics.text()
    assert kind.startswith("text/plain")
    return list(text_string_to_metric_families(text.decode()))


def test_names_and_types_are_those_of_vllm() -> None:
    kinds = {family.name: family.type for family in exported()}
    ours = [name for name in kinds if name.startswith("vllm:") and not name.endswith("_created")]
    assert {name: kinds[name] for name in ours} == VLLM


def test_the_dashboard_shows_only_what_is_exported_and_all_of_vllms() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    used = {name for expression in expressions(dashboard) for name in names(expression)}
    assert used
    samples = {sample.name for family in exported() for sample in family.samples}
    assert used <= samples, used - samples
    shown = {re.sub("_(total|bucket|sum|count)$", "", name) for name in used}
    assert shown >= VLLM.keys()


def test_the_dashboard_can_be_imported() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert dashboard["title"] and dashboard["uid"] and dashboard["schemaVersion"] >= 39
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    assert all(panel["title"] and panel["description"] and panel["targets"] for panel in panels)
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {
            (at["x"] + column, at["y"] + row) for column in range(at["w"]) for row in range(at["h"])
        }
        assert not cells & taken and at["x"] + at["w"] <= 24
        taken |= cells
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    for expression in expressions(dashboard):
        assert set(re.findall(r"\$(\w+)", expression)) <= variables | {"__rate_interval"}


def expressions(dashboard: dict[str, Any]) -> list[str]:
    targets = [t["expr"] for panel in dashboard["panels"] for t in panel.get("targets", ())]
    queries = [variable["query"] for variable in dashboard["templating"]["list"]]
    return targets + [query["query"] for query in queries if isinstance(query, dict)]


def names(expression: str) -> set[str]:
    """Metrics in a PromQL expression."""
    return set(re.findall(r"\b(?:(?:vllm|humpty):|http_|process_)\w+", expression))

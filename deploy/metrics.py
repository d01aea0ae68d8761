"""What a server does, as numbers for Prometheus.

Names, units and labels (but `engine`) are vLLM's where it has such a number, prefix included: so
dashboards, alerts and autoscalers that were made for vLLM work here unchanged. Only what vLLM does
not tell is called `humpty:`. Nothing is named after a request, so the number of series is bounded:
by the models, the reasons and the routes.

    scrape_configs:
      - {job_name: humpty, authorization: {credentials_file: key}, static_configs: [...]}

`deploy/grafana.json` is a dashboard of them.

All is counted on the HTTP side, from the events that pass on their way to the client: so times are
those that people wait, and replicas that come and go take no numbers with them.
"""

import collections
import time
from collections.abc import Callable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from deploy.protocol import Begun, Ended, Event, Failed, Piece, Refused


def bounds(text: str) -> tuple[float, ...]:
    """Upper bounds of a histogram."""
    return tuple(map(float, text.split()))


FIRST_TOKEN = bounds(
    "0.001 0.005 0.01 0.02 0.04 0.06 0.08 0.1 0.25 0.5 0.75 1 2.5 5 7.5 10 20 40 80 160 640 2560"
)
NEXT_TOKEN = bounds(
    "0.001 0.0025 0.005 0.01 0.025 0.05 0.075 0.1 0.15 0.2 0.3 0.4 0.5 0.75 1 2.5 5 7.5 10 20 40 80"
)
REQUEST = bounds(
    "0.02 0.05 0.1 0.3 0.5 0.8 1 1.5 2 2.5 5 10 15 20 30 40 50 60 120 240 480 960 1920 7680"
)
"""Seconds: vLLM's bounds, and finer ones before them, since small models answer faster than its
first."""

TOKENS = bounds("1 2 5 10 20 50 100 200 500 1000 2000 5000 10000 20000 50000 100000")

MODEL = ["model_name"]


class Metrics:
    """All numbers of one server, in a registry of its own."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.registry = CollectorRegistry()
        self.at_work: collections.Counter[str] = collections.Counter()
        """Requests that are being answered, by model."""
        ProcessCollector(registry=self.registry)
        self.add_state()
        self.add_totals()
        self.add_times()
        self.add_lengths()

    def gauge(self, name: str, what: str) -> Gauge:
        """A number of now, by model."""
        return Gauge(name, what, MODEL, registry=self.registry)

    def counter(self, name: str, what: str, labels: list[str] = MODEL) -> Counter:
        """A number that only grows."""
        return Counter(name, what, labels, registry=self.registry)

    def histogram(self, name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
        """How often numbers were how large, by model."""
        return Histogram(name, what, MODEL, buckets=buckets, registry=self.registry)

    def add_state(self) -> None:
        """What is going on."""
        self.running = self.gauge("vllm:num_requests_running", "Requests that are being answered.")
        self.waiting = self.gauge("vllm:num_requests_waiting", "Requests that wait for a slot.")
        self.cache_usage = self.gauge(
            "vllm:kv_cache_usage_perc", "Key-value memory in use, as a share: 1 is all of it."
        )

    def add_totals(self) -> None:
        """What has been done."""
        self.cache_queries = self.counter(
            "vllm:prefix_cache_queries", "Prompt tokens that were looked up in the prefix cache."
        )
        self.cache_hits = self.counter(
            "vllm:prefix_cache_hits", "Prompt tokens that were found in the prefix cache."
        )
        self.prompt_tokens = self.counter("vllm:prompt_tokens", "Tokens of prompts.")
        self.generation_tokens = self.counter("vllm:generation_tokens", "Tokens that were written.")
        self.success = self.counter(
            "vllm:request_success",
            "Answers that ended, by reason: stop, length, content_filter, abort, error.",
            [*MODEL, "finished_reason"],
        )
        self.responses = self.counter(
            "http_requests",
            "Responses, by method, route (`other`: none that we have) and status.",
            ["method", "handler", "status"],
        )
        self.refusals = self.counter(
            "humpty:refused_requests", "Requests that were refused, by code.", ["code"]
        )

    def add_times(self) -> None:
        """Where the seconds went."""
        self.first_token = self.histogram(
            "vllm:time_to_first_token_seconds", "Seconds to the first token.", FIRST_TOKEN
        )
        self.inter_token = self.histogram(
            "vllm:inter_token_latency_seconds", "Seconds between two tokens.", NEXT_TOKEN
        )
        self.per_token = self.histogram(
            "vllm:request_time_per_output_token_seconds",
            "Mean seconds a token after the first one, by request.",
            NEXT_TOKEN,
        )
        self.latency = self.histogram(
            "vllm:e2e_request_latency_seconds", "Seconds from a request to its end.", REQUEST
        )
        self.queue_time = self.histogram(
            "vllm:request_queue_time_seconds", "Seconds before a request had its slot.", REQUEST
        )
        self.prefill_time = self.histogram(
            "vllm:request_prefill_time_seconds",
            "Seconds from a slot to the first token.",
            REQUEST,
        )
        self.decode_time = self.histogram(
            "vllm:request_decode_time_seconds",
            "Seconds from the first token to the last.",
            REQUEST,
        )
        self.inference_time = self.histogram(
            "vllm:request_inference_time_seconds", "Seconds from a slot to the end.", REQUEST
        )

    def add_lengths(self) -> None:
        """How much was asked and answered."""
        self.prompt_length = self.histogram(
            "vllm:request_prompt_tokens", "Tokens of prompts, by request.", TOKENS
        )
        self.answer_length = self.histogram(
            "vllm:request_generation_tokens", "Tokens that were written, by request.", TOKENS
        )

    def meter(self, model: str) -> "Meter":
        """Counts one request, from now on."""
        return Meter(self, model)

    def move(self, model: str, by: int) -> None:
        """A request begins or ends; when the last one does, no memory is in use any more."""
        self.at_work[model] += by
        self.running.labels(model).set(self.at_work[model])
        if not self.at_work[model]:
            self.cache_usage.labels(model).set(0)

    def answered(self, method: str, handler: str, status: int) -> None:
        """Count a response; `handler` is one of our routes."""
        self.responses.labels(method, handler, str(status)).inc()

    def refused(self, code: str) -> None:
        """Count a refusal; `code` is one of our own."""
        self.refusals.labels(code).inc()

    def text(self) -> tuple[bytes, str]:
        """What Prometheus reads, and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST


class Meter:
    """Watches the events of one request as they pass. `close` it, whatever happens."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        self.metrics = metrics
        self.model = model
        self.entered = metrics.clock()
        # Looked up once, since they are wanted for every token.
        self.inter_token = metrics.inter_token.labels(model)
        self.generation_tokens = metrics.generation_tokens.labels(model)
        self.begun: float | None = None
        self.first: float | None = None
        self.last: float | None = None
        self.last_of: dict[int, float] = {}
        """When the last token of each choice came."""
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.generated_tokens = 0
        self.open: set[int] = set()
        """Choices that have begun to come and not ended."""
        self.ended = 0
        self.failed = False
        self.refused = False
        self.closed = False
        metrics.waiting.labels(model).inc()

    def event(self, event: Event) -> None:
        """Count what an event says."""
        now = self.metrics.clock()
        match event:
            case Refused():
                self.refused = True
                self.metrics.refused(event.code)
            case Begun():
                self.begin(event, now)
            case Piece():
                self.piece(event, now)
            case Ended():
                self.open.discard(event.index)
                self.ended += 1
                self.metrics.success.labels(self.model, event.reason).inc()
            case Failed():
                self.failed = True

    def begin(self, event: Begun, now: float) -> None:
        """The request has its slot."""
        metrics, model = self.metrics, self.model
        self.begun = now
        self.prompt_tokens, self.cached_tokens = event.prompt_tokens, event.cached_tokens
        metrics.waiting.labels(model).dec()
        metrics.move(model, 1)
        metrics.cache_usage.labels(model).set(event.usage)
        metrics.prompt_tokens.labels(model).inc(event.prompt_tokens)
        metrics.cache_queries.labels(model).inc(event.prompt_tokens)
        metrics.cache_hits.labels(model).inc(event.cached_tokens)
        metrics.queue_time.labels(model).observe(now - self.entered)

    def piece(self, event: Piece, now: float) -> None:
        """Tokens came; several at once share the time since the ones before them."""
        self.open.add(event.index)
        if not event.tokens:
            return
        if self.first is None:
            self.first = now
            self.metrics.first_token.labels(self.model).observe(now - self.entered)
        if (before := self.last_of.get(event.index)) is not None:
            for _ in range(event.tokens):
                self.inter_token.observe((now - before) / event.tokens)
        self.last_of[event.index] = self.last = now
        self.generated_tokens += event.tokens
        self.generation_tokens.inc(event.tokens)

    def close(self) -> None:
        """The request is over; choices that have not ended were given up. Once is enough."""
        if self.closed:
            return
        self.closed = True
        metrics, model = self.metrics, self.model
        if self.begun is None:
            metrics.waiting.labels(model).dec()
            if not self.refused:
                self.count_unfinished()
            return
        metrics.move(model, -1)
        if self.open or self.failed or not self.ended:
            self.count_unfinished()
        else:
            self.time_request(self.begun, metrics.clock())

    def count_unfinished(self) -> None:
        """Choices that broke off, at least one."""
        reason = "error" if self.failed else "abort"
        self.metrics.success.labels(self.model, reason).inc(max(1, len(self.open)))

    def time_request(self, begun: float, now: float) -> None:
        """How long a complete answer took, and how long it is."""
        metrics, model = self.metrics, self.model
        metrics.latency.labels(model).observe(now - self.entered)
        metrics.inference_time.labels(model).observe(now - begun)
        metrics.prompt_length.labels(model).observe(self.prompt_tokens)
        metrics.answer_length.labels(model).observe(self.generated_tokens)
        if self.first is None or self.last is None:
            return
        metrics.prefill_time.labels(model).observe(self.first - begun)
        metrics.decode_time.labels(model).observe(self.last - self.first)
        if self.generated_tokens > 1:
            mean = (self.last - self.first) / (self.generated_tokens - 1)
            metrics.per_token.labels(model).observe(mean)

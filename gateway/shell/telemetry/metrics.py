"""Prometheus metrics, all of them made here and written from one settled exchange at a time.

Label sets are closed: a model that no upstream ever answered for, or the hundred-and-first of them, is `other`.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from gateway.core.context.brief import Level
from gateway.exchange import Exchange, Receipt

_TOKEN_BUCKETS = (64, 256, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072, 524288, 1048576)
_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
_OVERHEAD_SECONDS = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
)
_RATIOS = (-0.5, -0.2, -0.1, -0.05, -0.02, -0.01, 0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
MAX_MODELS = 100
OTHER = "other"


class Metrics:
    """Every metric of the gateway; `observe` is called once an exchange."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._models: set[str] = set()
        self._make_gateway_family(registry)
        self._make_budget_family(registry)
        self._make_runtime_family(registry)

    def _make_gateway_family(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "gateway_requests",
            "Requests by endpoint, requested model, answering upstream and HTTP status.",
            ["endpoint", "model", "upstream", "status"],
            registry=registry,
        )
        self.duration = Histogram(
            "gateway_request_duration_seconds",
            "From the request's arrival to the last byte of the answer.",
            ["endpoint", "upstream"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.in_flight = Gauge("gateway_requests_in_flight", "Requests being handled.", registry=registry)
        self.overhead = Histogram(
            "gateway_overhead_seconds",
            "The gateway's own time until the answer's first byte: all but waiting for upstreams.",
            ["endpoint"],
            buckets=_OVERHEAD_SECONDS,
            registry=registry,
        )
        self.first_token = Histogram(
            "gateway_time_to_first_token_seconds",
            "From the request's arrival to the first byte of a streamed answer.",
            ["endpoint", "upstream"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.tokens = Counter(
            "gateway_tokens",
            "Tokens billed, by direction (prompt, completion).",
            ["direction", "model", "client_id"],
            registry=registry,
        )
        self.cached_tokens = Counter(
            "prompt_cache_tokens",
            "Prompt tokens that upstreams served from their cache.",
            ["model"],
            registry=registry,
        )
        self.estimated_bills = Counter(
            "gateway_estimated_bills",
            "Requests billed by estimate, for want of reported usage.",
            registry=registry,
        )
        self.retries = Counter(
            "upstream_retries",
            "Calls to upstreams beyond a request's first.",
            ["upstream"],
            registry=registry,
        )
        self.faults = Counter(
            "gateway_faults", "Requests that broke, by what broke.", ["kind", "upstream"], registry=registry
        )
        self.refusals = Counter(
            "gateway_refusals",
            "Requests that the gateway itself refused, by code.",
            ["code"],
            registry=registry,
        )

    def _make_budget_family(self, registry: CollectorRegistry) -> None:
        self.budget_used = Histogram(
            "token_budget_used",
            "Prompt tokens forwarded, by request.",
            ["model"],
            buckets=_TOKEN_BUCKETS,
            registry=registry,
        )
        self.budget_remaining = Histogram(
            "token_budget_remaining",
            "Tokens of max_total that the forwarded prompt leaves.",
            ["model"],
            buckets=_TOKEN_BUCKETS,
            registry=registry,
        )
        self.overflows = Counter(
            "token_budget_overflows",
            "Requests whose own prompt did not fit the budget.",
            ["model"],
            registry=registry,
        )
        self.summarizations = Counter(
            "token_budget_summarizations",
            "New running briefs, by how they were made.",
            ["level"],
            registry=registry,
        )
        self.compactions = Counter(
            "compactions",
            "Requests by how far down the ladder they went.",
            ["level", "mode"],
            registry=registry,
        )
        for level in Level:
            self.compactions.labels(level.value, "active")
        self.tokens_saved = Counter(
            "compaction_tokens_saved", "Prompt tokens that compaction spared.", ["model"], registry=registry
        )
        self.sections = Counter(
            "token_budget_section_tokens",
            "Prompt tokens forwarded, by section.",
            ["section"],
            registry=registry,
        )
        self.estimate_error = Histogram(
            "token_estimate_error_ratio",
            "Our count of a forwarded prompt against the upstream's, as (ours - theirs) / theirs.",
            ["upstream"],
            buckets=_RATIOS,
            registry=registry,
        )

    def _make_runtime_family(self, registry: CollectorRegistry) -> None:
        self.loop_lag = Histogram(
            "event_loop_lag_seconds",
            "How late a timer of the event loop fires.",
            buckets=_OVERHEAD_SECONDS,
            registry=registry,
        )
        self.reloads = Counter(
            "gateway_config_reloads", "Configuration reloads, by result.", ["result"], registry=registry
        )
        for result in ("applied", "refused"):
            self.reloads.labels(result)
        self.config_valid = Gauge(
            "gateway_config_last_reload_successful",
            "1 unless the last reload was refused.",
            registry=registry,
        )
        self.config_valid.set(1)

    def bind(self, collect: Callable[[], list[Metric]]) -> None:
        """Export figures that live elsewhere (caches, stores) at each scrape."""
        self.registry.register(_Bound(collect))

    def model_label(self, model: str, *, is_known: bool) -> str:
        """The model's label; new names are taken up only when an upstream answered for them, and only so many."""
        if model in self._models:
            return model
        if is_known and len(self._models) < MAX_MODELS:
            self._models.add(model)
            return model
        return OTHER

    def observe(self, exchange: Exchange) -> None:
        """Everything that one settled exchange says."""
        outcome = exchange.outcome
        endpoint = exchange.endpoint.value
        served = outcome.attempts > 0 and outcome.status < 400
        model = self.model_label(exchange.request.model, is_known=served) if exchange.request else ""
        self.requests.labels(endpoint, model, outcome.upstream, str(outcome.status)).inc()
        self.duration.labels(endpoint, outcome.upstream).observe(exchange.duration_s)
        if outcome.first_byte_s is not None:
            self.overhead.labels(endpoint).observe(max(0.0, outcome.first_byte_s - outcome.upstream_s))
            if outcome.is_stream:
                self.first_token.labels(endpoint, outcome.upstream).observe(outcome.first_byte_s)
        if outcome.attempts > 1:
            self.retries.labels(outcome.upstream).inc(outcome.attempts - 1)
        if outcome.fault:
            self.faults.labels(outcome.fault, outcome.upstream).inc()
        if outcome.refusal is not None:
            self.refusals.labels(outcome.refusal.code).inc()
        self._observe_bill(exchange, model)
        if exchange.receipt is not None:
            self._observe_receipt(exchange.receipt, model)

    def _observe_bill(self, exchange: Exchange, model: str) -> None:
        bill = exchange.bill
        if bill is None:
            return
        client = exchange.client.name if exchange.client else ""
        self.tokens.labels("prompt", model, client).inc(bill.prompt_tokens)
        self.tokens.labels("completion", model, client).inc(bill.completion_tokens)
        if bill.cached_tokens:
            self.cached_tokens.labels(model).inc(bill.cached_tokens)
        if bill.is_estimated:
            self.estimated_bills.inc()
        elif exchange.count is not None and bill.prompt_tokens:
            ours = exchange.receipt.forwarded_tokens if exchange.receipt else exchange.count.prompt_tokens
            self.estimate_error.labels(exchange.outcome.upstream).observe(
                (ours - bill.prompt_tokens) / bill.prompt_tokens
            )

    def _observe_receipt(self, receipt: Receipt, model: str) -> None:
        if receipt.has_overflowed:
            self.overflows.labels(model).inc()
        self.budget_used.labels(model).observe(receipt.forwarded_tokens)
        self.budget_remaining.labels(model).observe(receipt.remaining_tokens)
        self.compactions.labels(receipt.level.value, "shadow" if receipt.is_shadow else "active").inc()
        if receipt.is_shadow:
            return
        if receipt.is_new_brief and receipt.brief is not None:
            self.summarizations.labels(receipt.brief.level.value).inc()
        if receipt.saved_tokens > 0:
            self.tokens_saved.labels(model).inc(receipt.saved_tokens)
        for section, tokens in receipt.sections.items():
            if tokens:
                self.sections.labels(section).inc(tokens)

    def render(self) -> tuple[bytes, str]:
        """The text exposition of everything, and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST


class _Bound(Collector):
    def __init__(self, collect: Callable[[], list[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> list[Metric]:
        return self._collect()


def counter_metric(name: str, help_text: str, label: str, values: dict[str, float]) -> Metric:
    """A counter family of one label, for `Metrics.bind`."""
    family = CounterMetricFamily(name, help_text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def gauge_metric(name: str, help_text: str, value: float) -> Metric:
    """A gauge without labels, for `Metrics.bind`."""
    return GaugeMetricFamily(name, help_text, value=value)

"""Prometheus metrics, all of them made here and written from one settled exchange at a time.

Label sets are closed: a model that no upstream ever answered for, or the hundred-and-first of them, is `other`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry, Gauge, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from gateway.core.context.brief import Level
from gateway.shell.telemetry.quick import Labelled, QuickCounter, QuickHistogram

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
_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_RATIOS = (-0.5, -0.2, -0.1, -0.05, -0.02, -0.01, 0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
MAX_MODELS = 100
OTHER = "other"


class Metrics:
    """Every metric of the gateway; `recorder` writes those of requests."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._models: set[str] = set()
        self._make_gateway_family(registry)
        self._make_billing_family(registry)
        self._make_limits_family(registry)
        self._make_budget_family(registry)
        self._make_compaction_family(registry)
        self._make_runtime_family(registry)
        self._make_memory_family(registry)
        self._make_vision_family(registry)

    def _make_gateway_family(self, registry: CollectorRegistry) -> None:
        self.requests = Labelled(
            QuickCounter(
                "gateway_requests",
                "Requests by endpoint, requested model, answering upstream and HTTP status.",
                ["endpoint", "model", "upstream", "status"],
                registry=registry,
            )
        )
        self.duration = Labelled(
            QuickHistogram(
                "gateway_request_duration_seconds",
                "From the request's arrival to the last byte of the answer.",
                ["endpoint", "upstream"],
                buckets=_SECONDS,
                registry=registry,
            )
        )
        self.in_flight = 0
        in_flight = Gauge("gateway_requests_in_flight", "Requests being handled.", registry=registry)
        in_flight.set_function(lambda: self.in_flight)
        self.overhead = Labelled(
            QuickHistogram(
                "gateway_overhead_seconds",
                "The gateway's own time until the answer's first byte: all but waiting for upstreams.",
                ["endpoint"],
                buckets=_OVERHEAD_SECONDS,
                registry=registry,
            )
        )
        self.first_token = Labelled(
            QuickHistogram(
                "gateway_time_to_first_token_seconds",
                "From the request's arrival to the first byte of a streamed answer.",
                ["endpoint", "upstream"],
                buckets=_SECONDS,
                registry=registry,
            )
        )

    def _make_billing_family(self, registry: CollectorRegistry) -> None:
        self.tokens = Labelled(
            QuickCounter(
                "gateway_tokens",
                "Tokens billed, by direction (prompt, completion).",
                ["direction", "model", "client_id"],
                registry=registry,
            )
        )
        self.cached_tokens = Labelled(
            QuickCounter(
                "prompt_cache_tokens",
                "Prompt tokens that upstreams served from their cache.",
                ["model"],
                registry=registry,
            )
        )
        self.estimated_bills = QuickCounter(
            "gateway_estimated_bills",
            "Requests billed by estimate, for want of reported usage.",
            registry=registry,
        )
        self.retries = Labelled(
            QuickCounter(
                "upstream_retries",
                "Calls to upstreams beyond a request's first.",
                ["upstream"],
                registry=registry,
            )
        )
        self.repairs = QuickCounter(
            "gateway_stream_repairs", "Answers that went on where a stream had broken off.", registry=registry
        )
        self.faults = Labelled(
            QuickCounter(
                "gateway_faults", "Requests that broke, by what broke.", ["kind", "upstream"], registry=registry
            )
        )
        self.refusals = Labelled(
            QuickCounter(
                "gateway_refusals",
                "Requests that the gateway itself refused, by code.",
                ["code"],
                registry=registry,
            )
        )

    def _make_limits_family(self, registry: CollectorRegistry) -> None:
        self.limit_hits = Labelled(
            QuickCounter(
                "rate_limit_hits",
                "Requests that a limit refused, or in shadow would have.",
                ["client_id", "limit", "mode"],
                registry=registry,
            )
        )
        self.limit_allowed = Labelled(
            QuickCounter("rate_limit_allowed", "Requests that limits let through.", ["client_id"], registry=registry)
        )
        self.limit_overshoot = QuickCounter(
            "rate_limit_overshoot_tokens",
            "Tokens that were billed beyond what had been reserved for their requests.",
            registry=registry,
        )

    def _make_budget_family(self, registry: CollectorRegistry) -> None:
        self.budget_used = Labelled(
            QuickHistogram(
                "token_budget_used",
                "Prompt tokens forwarded, by request.",
                ["model"],
                buckets=_TOKEN_BUCKETS,
                registry=registry,
            )
        )
        self.budget_remaining = Labelled(
            QuickHistogram(
                "token_budget_remaining",
                "Tokens of max_total that the forwarded prompt leaves.",
                ["model"],
                buckets=_TOKEN_BUCKETS,
                registry=registry,
            )
        )
        self.overflows = Labelled(
            QuickCounter(
                "token_budget_overflows",
                "Requests whose own prompt did not fit the budget.",
                ["model"],
                registry=registry,
            )
        )
        self.estimate_error = Labelled(
            QuickHistogram(
                "token_estimate_error_ratio",
                "Our count of a forwarded prompt against the upstream's, as (ours - theirs) / theirs.",
                ["upstream"],
                buckets=_RATIOS,
                registry=registry,
            )
        )

    def _make_compaction_family(self, registry: CollectorRegistry) -> None:
        self.summarizations = Labelled(
            QuickCounter(
                "token_budget_summarizations",
                "New running briefs, by how they were made.",
                ["level"],
                registry=registry,
            )
        )
        self.compactions = Labelled(
            QuickCounter(
                "compactions",
                "Requests by how far down the ladder they went.",
                ["level", "mode"],
                registry=registry,
            )
        )
        for level in Level:
            self.compactions[level.value, "active"]
        self.tokens_saved = Labelled(
            QuickCounter(
                "compaction_tokens_saved", "Prompt tokens that compaction spared.", ["model"], registry=registry
            )
        )
        self.fresh_compactions = Labelled(
            QuickCounter(
                "compactions_fresh",
                "Requests for which something was decided anew, so that the upstream's prompt cache starts over; why:"
                " they did not fit (forced), recall had no room (recall), it was cheaper (gain).",
                ["model", "why"],
                registry=registry,
            )
        )
        self.brief_coverage = QuickHistogram(
            "brief_coverage_ratio",
            "Of the identifiers, numbers, dates and the like that a fold took away, the share that its brief holds.",
            buckets=_SHARES,
            registry=registry,
        )
        self.recalled_tokens = Labelled(
            QuickCounter(
                "recalled_tokens",
                "Tokens of folded messages that came back.",
                ["model"],
                registry=registry,
            )
        )
        self.shortened_messages = Labelled(
            QuickCounter(
                "shortened_messages", "Long messages forwarded shorter than they were.", ["model"], registry=registry
            )
        )

    def _make_runtime_family(self, registry: CollectorRegistry) -> None:
        self.loop_lag = QuickHistogram(
            "event_loop_lag_seconds",
            "How late a timer of the event loop fires.",
            buckets=_OVERHEAD_SECONDS,
            registry=registry,
        )
        self.reloads = Labelled(
            QuickCounter("gateway_config_reloads", "Configuration reloads, by result.", ["result"], registry=registry)
        )
        for result in ("applied", "refused"):
            self.reloads[(result,)]
        self.config_valid = Gauge(
            "gateway_config_last_reload_successful",
            "1 unless the last reload was refused.",
            registry=registry,
        )
        self.config_valid.set(1)

    def _make_memory_family(self, registry: CollectorRegistry) -> None:
        self.memory_retrieval = QuickHistogram(
            "memory_retrieval_duration_seconds",
            "Of looking up what a memory holds for a chat.",
            buckets=_OVERHEAD_SECONDS,
            registry=registry,
        )
        self.memory_requests: dict[str, Labelled[QuickCounter]] = {}
        self.memory_durations: dict[str, QuickHistogram] = {}
        for endpoint, name, what in (("facts", "facts_insert", "stores"), ("facts_query", "facts_query", "queries")):
            self.memory_requests[endpoint] = Labelled(
                QuickCounter(f"{name}_requests", f"Calls that {what} facts, by status.", ["status"], registry=registry)
            )
            self.memory_durations[endpoint] = QuickHistogram(
                f"{name}_duration_seconds",
                f"Of calls that {what} facts.",
                buckets=_OVERHEAD_SECONDS,
                registry=registry,
            )

    def _make_vision_family(self, registry: CollectorRegistry) -> None:
        self.vision_requests: dict[str, Labelled[QuickCounter]] = {}
        self.vision_durations: dict[str, QuickHistogram] = {}
        self.vision_errors: dict[str, Labelled[QuickCounter]] = {}
        for name, what in (("search", "look for regions"), ("decode", "read regions"), ("index", "order documents")):
            endpoint = f"vision_{name}"
            self.vision_requests[endpoint] = Labelled(
                QuickCounter(f"{endpoint}_requests", f"Calls that {what}, by status.", ["status"], registry=registry)
            )
            self.vision_durations[endpoint] = QuickHistogram(
                f"{endpoint}_duration_seconds", f"Of calls that {what}.", buckets=_SECONDS, registry=registry
            )
            self.vision_errors[endpoint] = Labelled(
                QuickCounter(
                    f"{endpoint}_errors", f"Calls that {what} and were refused, by code.", ["code"], registry=registry
                )
            )
        self.vision_pages = Labelled(
            QuickCounter(
                "vision_index_pages",
                "Pages that were read, by where their text came from: the document itself, or a picture.",
                ["source"],
                registry=registry,
            )
        )
        self.vision_page_seconds = QuickHistogram(
            "vision_index_page_seconds", "Of reading a page.", buckets=_SECONDS, registry=registry
        )

    def observe_page(self, source: str, took_s: float) -> None:
        """A page of a document was read."""
        self.vision_pages[(source,)].inc()
        self.vision_page_seconds.observe(took_s)

    def count_reload(self, *, is_applied: bool) -> None:
        """A changed configuration was taken up, or refused."""
        self.reloads[("applied" if is_applied else "refused",)].inc()
        self.config_valid.set(1 if is_applied else 0)

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


def labelled_gauge_metric(
    name: str, help_text: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float]]
) -> Metric:
    """A gauge family, for `Metrics.bind`; the caller bounds how many there are."""
    family = GaugeMetricFamily(name, help_text, labels=labels)
    for label_values, value in values:
        family.add_metric(label_values, value)
    return family


def gauge_metric(name: str, help_text: str, value: float) -> Metric:
    """A gauge without labels, for `Metrics.bind`."""
    return GaugeMetricFamily(name, help_text, value=value)

"""Figures that live in stores rather than in requests, as metric families for `Metrics.bind`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import islice
from typing import Protocol

from prometheus_client.core import Metric

from gateway.core.context.count_caches import CountCaches
from gateway.core.tokens.calibration import MILLION
from gateway.core.wire.request import Endpoint
from gateway.shell.routing.health import RememberedHealth
from gateway.shell.routing.windows import LearnedWindows
from gateway.shell.state.calibrations import StoredCalibrations
from gateway.shell.state.key_value import ManagedStore
from gateway.shell.telemetry.metrics import MAX_MODELS, counter_metric, gauge_metric, labelled_gauge_metric
from gateway.shell.tokens.counter import TiktokenCounter

_LABELS = ("upstream", "model")
_ANSWERED = (Endpoint.CHAT, Endpoint.RESPONSES, Endpoint.COMPLETIONS, Endpoint.EMBEDDINGS)
_LOOKED_UP = {
    "hit": ("response_cache_hits", "Requests answered by an earlier answer."),
    "miss": ("response_cache_misses", "Requests whose answer was not there."),
    "bypass": ("response_cache_bypasses", "Requests that were not looked up: not deterministic, or not to be kept."),
    "store": ("response_cache_stores", "Answers that were kept."),
}


class WrittenStore(Protocol):
    """What a store of context says of itself."""

    @property
    def writes(self) -> int:
        """So far."""

    @property
    def held_bytes(self) -> int:
        """Size of what it holds."""


class ReadStore(WrittenStore, Protocol):
    """The same of one whose look-ups are counted."""

    @property
    def hits(self) -> int:
        """That found something."""

    @property
    def misses(self) -> int:
        """That found nothing."""


def count_metrics(caches: CountCaches, counter: TiktokenCounter) -> list[Metric]:
    """What is remembered of counted messages, and what could not be counted as it should."""
    hits, misses = caches.totals()
    looked_up: dict[str, float] = {"hit": hits, "miss": misses}
    fallbacks: dict[str, float] = {"words": counter.fallbacks, "inexact_cut": counter.inexact_cuts}
    return [
        counter_metric("count_cache_lookups", "Messages whose count was known, or not.", "result", looked_up),
        gauge_metric("count_cache_bytes", "What is remembered of counted messages.", caches.held_bytes),
        counter_metric(
            "token_counter_fallbacks", "Texts counted by words for want of a tokenizer.", "reason", fallbacks
        ),
    ]


def context_metrics(briefs: ReadStore, journal: WrittenStore, texts: int = 0) -> list[Metric]:
    """Briefs and the messages of sessions: look-ups, writes, size in memory; and how many texts clients have stored."""
    looked_up: dict[str, float] = {"hit": briefs.hits, "miss": briefs.misses}
    written: dict[str, float] = {"brief": briefs.writes, "journal": journal.writes, "context": texts}
    held = briefs.held_bytes + journal.held_bytes
    return [
        counter_metric("context_retrievals", "Look-ups of stored context, by result.", "result", looked_up),
        counter_metric("context_storage", "Context stored, by kind.", "kind", written),
        gauge_metric("context_storage_bytes", "Size of stored context in memory.", held),
    ]


def calibration_metrics(calibrations: StoredCalibrations) -> list[Metric]:
    """Corrections by upstream and model, of the `MAX_MODELS` that learned last, and what was not learned from."""
    known = list(islice(calibrations.corrections(), MAX_MODELS))
    return [
        labelled_gauge_metric(
            "token_correction_ratio",
            "What a model's tokens are multiplied by to be what its upstream reports.",
            _LABELS,
            [((upstream, model), found.ratio_millionths / MILLION) for upstream, model, found in known],
        ),
        labelled_gauge_metric(
            "token_correction_margin_ratio",
            "Safety margin of a prompt of 1000 tokens, as a share of them.",
            _LABELS,
            [((upstream, model), found.margin(1000, False) / 1000) for upstream, model, found in known],
        ),
        counter_metric(
            "token_correction_samples",
            "Reports of usage, by what became of them: learned, or why they were ignored.",
            "result",
            {"learned": calibrations.learned, **calibrations.ignored},
        ),
    ]


class LimitStoreFigures(Protocol):
    """What a store of rate limits that replicas share says of itself."""

    @property
    def is_down(self) -> bool:
        """Whether this process decides alone."""

    @property
    def faults(self) -> Mapping[str, int]:
        """What went wrong so far, by reason."""

    @property
    def round_trips(self) -> int:
        """To the store, so far."""

    replicas: int
    unsettled: int


def limit_store_metrics(store: LimitStoreFigures | None) -> list[Metric]:
    """Whether replicas decide together; nothing where they never do."""
    if store is None:
        return []
    return [
        gauge_metric("rate_limit_store_up", "1: replicas decide together; 0: each by its share.", not store.is_down),
        gauge_metric("rate_limit_replicas", "Processes that share the limits, when last counted.", store.replicas),
        counter_metric("rate_limit_store_round_trips", "Calls to it.", "result", {"sent": store.round_trips}),
        counter_metric("rate_limit_store_faults", "Decisions that it failed, by reason.", "reason", {**store.faults}),
        counter_metric(
            "rate_limit_unsettled", "Requests whose use it could not be told.", "reason", {"down": store.unsettled}
        ),
    ]


def summary_metrics(tally: Mapping[str, int]) -> list[Metric]:
    """What the language model that writes briefs was asked, and what it spent."""
    asked: dict[str, float] = {"ok": tally["calls"] - tally["failures"], "failed": tally["failures"]}
    spent: dict[str, float] = {"prompt": tally["prompt_tokens"], "completion": tally["completion_tokens"]}
    return [
        counter_metric("summarizer_calls", "Calls for a brief, by result.", "result", asked),
        counter_metric("summarizer_tokens", "Tokens that briefs were billed, by direction.", "direction", spent),
    ]


def health_metrics(health: RememberedHealth, windows: LearnedWindows) -> list[Metric]:
    """Breakers that are not closed, of the first `MAX_MODELS`, and what was decided about them."""
    shown = list(islice(health.states(), MAX_MODELS))
    return [
        labelled_gauge_metric(
            "circuit_breaker_state",
            "Breakers of upstreams and models that have failed lately: 0 closed, 1 half-open, 2 open.",
            _LABELS,
            [((upstream, model), state) for upstream, model, state in shown],
        ),
        labelled_gauge_metric(
            "upstream_window_tokens",
            "Windows that upstreams have named in refusals; budgets are lowered to them.",
            _LABELS,
            [((upstream, model), tokens) for upstream, model, tokens in islice(windows.all(), MAX_MODELS)],
        ),
        counter_metric(
            "circuit_breaker_transitions",
            "Breakers that opened, were probed, or closed.",
            "to",
            dict(health.transitions),
        ),
        counter_metric(
            "upstream_retries_denied",
            "Retries that were not made, by why.",
            "reason",
            {"budget": health.denied_retries},
        ),
    ]


def state_metrics(store: ManagedStore, ignored: Mapping[str, int]) -> list[Metric]:
    """The state store's size, what it lost, and what it held that could not be used."""
    return [
        gauge_metric("state_store_bytes", "Size of what the state store holds.", store.held_bytes),
        counter_metric(
            "state_store_evictions", "Entries that went from the state store.", "reason", {"room": store.evicted}
        ),
        counter_metric(
            "state_store_faults", "Operations that the state store lost, by reason.", "reason", dict(store.faults)
        ),
        counter_metric(
            "state_store_ignored",
            "Stored entries that could not be used, by reason; they are as good as absent.",
            "reason",
            dict(ignored),
        ),
    ]


class AnswerFigures(Protocol):
    """What a store of answers says of itself."""

    evicted: int
    faults: Counter[str]

    @property
    def held_bytes(self) -> int: ...


def cache_metrics(tally: Mapping[tuple[str, str], int], store: AnswerFigures) -> list[Metric]:
    """The response cache: what it answered and spared, by endpoint, and what it holds and lost."""
    endpoints = [endpoint.value for endpoint in _ANSWERED]
    looked_up = [
        counter_metric(name, text, "endpoint", {each: tally.get((what, each), 0) for each in endpoints})
        for what, (name, text) in _LOOKED_UP.items()
    ]
    saved: dict[str, float] = {
        direction: sum(tally.get((direction, each), 0) for each in endpoints) for direction in ("prompt", "completion")
    }
    return [
        *looked_up,
        counter_metric("response_cache_saved_tokens", "Upstream tokens that hits spared.", "direction", saved),
        counter_metric(
            "response_cache_errors", "Operations that the cache lost, by reason.", "reason", dict(store.faults)
        ),
        counter_metric(
            "response_cache_evictions", "Answers that went before their time.", "reason", {"room": store.evicted}
        ),
        gauge_metric("response_cache_bytes", "Size of the answers held in memory.", store.held_bytes),
    ]

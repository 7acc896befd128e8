"""`ports.Telemetry`: one settled exchange becomes metrics and one access-log line."""

from __future__ import annotations

import logging
from typing import Any

from gateway.core.coded_errors import code_of
from gateway.core.context.receipt import Receipt
from gateway.exchange import Exchange
from gateway.shell.telemetry.metrics import Metrics

_log = logging.getLogger("gateway.access")


class Recorder:
    """Writes metrics and the access log.

    Args:
        metrics: where figures go.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def started(self, exchange: Exchange) -> None:
        self._metrics.in_flight += 1

    def settled(self, exchange: Exchange) -> None:
        self._metrics.in_flight -= 1
        self._observe(exchange)
        if _log.isEnabledFor(logging.INFO):
            _log.info("request", extra=access_fields(exchange))

    def _observe(self, exchange: Exchange) -> None:
        """Everything that one settled exchange says."""
        metrics = self._metrics
        outcome = exchange.outcome
        endpoint = exchange.endpoint.value
        served = (outcome.attempts > 0 or outcome.cache == "hit") and outcome.status < 400
        model = metrics.model_label(exchange.request.model, is_known=served) if exchange.request else ""
        metrics.requests[endpoint, model, outcome.upstream, str(outcome.status)].inc()
        metrics.duration[endpoint, outcome.upstream].observe(exchange.duration_s)
        if outcome.first_byte_s is not None:
            metrics.overhead[(endpoint,)].observe(max(0.0, outcome.first_byte_s - outcome.upstream_s))
            if outcome.is_stream:
                metrics.first_token[endpoint, outcome.upstream].observe(outcome.first_byte_s)
        if endpoint in metrics.memory_requests:
            metrics.memory_requests[endpoint][(str(outcome.status),)].inc()
            metrics.memory_durations[endpoint].observe(exchange.duration_s)
        if endpoint in metrics.vision_requests:
            metrics.vision_requests[endpoint][(str(outcome.status),)].inc()
            metrics.vision_durations[endpoint].observe(exchange.duration_s)
            if outcome.refusal is not None:
                metrics.vision_errors[endpoint][(code_of(outcome.refusal),)].inc()
        if outcome.attempts > 1:
            metrics.retries[(outcome.upstream,)].inc(outcome.attempts - 1)
        if outcome.repairs:
            metrics.repairs.inc(outcome.repairs)
        if outcome.fault:
            metrics.faults[outcome.fault, outcome.upstream].inc()
        if outcome.refusal is not None:
            metrics.refusals[(outcome.refusal.code,)].inc()
        if exchange.limit_hits or exchange.hold is not None:
            self._observe_limits(exchange)
        self._observe_bill(exchange, model)
        if exchange.receipt is not None:
            self._observe_receipt(exchange.receipt, model, was_forwarded=outcome.attempts > 0)

    def _observe_limits(self, exchange: Exchange) -> None:
        client, hold, bill = exchange.client.name if exchange.client else "", exchange.hold, exchange.bill
        for kind, mode in exchange.limit_hits:
            self._metrics.limit_hits[client, kind, mode].inc()
        if hold is not None:
            self._metrics.limit_allowed[(client,)].inc()
            if bill is not None:
                self._metrics.limit_overshoot.inc(max(0, bill.prompt_tokens + bill.completion_tokens - hold.tokens))

    def _observe_bill(self, exchange: Exchange, model: str) -> None:
        metrics, bill = self._metrics, exchange.bill
        if bill is None:
            return
        client = exchange.client.name if exchange.client else ""
        metrics.tokens["prompt", model, client].inc(bill.prompt_tokens)
        metrics.tokens["completion", model, client].inc(bill.completion_tokens)
        if bill.cached_tokens:
            metrics.cached_tokens[(model,)].inc(bill.cached_tokens)
        if bill.is_estimated:
            metrics.estimated_bills.inc()
        elif exchange.count is not None and bill.prompt_tokens:
            ours = exchange.receipt.billed_tokens if exchange.receipt else exchange.count.prompt_tokens
            metrics.estimate_error[(exchange.outcome.upstream,)].observe(
                (ours - bill.prompt_tokens) / bill.prompt_tokens
            )

    def _observe_receipt(self, receipt: Receipt, model: str, *, was_forwarded: bool) -> None:
        metrics = self._metrics
        if receipt.has_overflowed:
            metrics.overflows[(model,)].inc()
        if not was_forwarded:
            return
        metrics.budget_used[(model,)].observe(receipt.billed_tokens)
        metrics.budget_remaining[(model,)].observe(receipt.remaining_tokens)
        metrics.compactions[receipt.level.value, "shadow" if receipt.is_shadow else "active"].inc()
        if receipt.is_shadow:
            return
        if receipt.is_new_brief and receipt.brief is not None:
            metrics.summarizations[(receipt.brief.level.value,)].inc()
            metrics.brief_coverage.observe(receipt.brief.coverage)
        if receipt.is_fresh:
            metrics.fresh_compactions[model, receipt.cause.value].inc()
        if receipt.recalled is not None:
            metrics.recalled_tokens[(model,)].inc(receipt.recalled.tokens)
        if receipt.shortened_messages:
            metrics.shortened_messages[(model,)].inc(receipt.shortened_messages)
        if receipt.saved_tokens > 0:
            metrics.tokens_saved[(model,)].inc(receipt.saved_tokens)


def access_fields(exchange: Exchange) -> dict[str, Any]:
    """The fields of an access-log line: ids, numbers, names; no content, no key, no query string."""
    outcome = exchange.outcome
    fields: dict[str, Any] = {
        "request_id": exchange.request_id,
        "method": exchange.method,
        "path": exchange.path[:200],
        "endpoint": exchange.endpoint.value,
        "status": outcome.status,
        "upstream": outcome.upstream,
        "attempts": outcome.attempts,
        "duration_ms": round(exchange.duration_s * 1000, 2),
    }
    if exchange.client is not None:
        fields["client"] = exchange.client.name
    if exchange.request is not None:
        fields["model"] = exchange.request.model
    if outcome.first_byte_s is not None:
        fields["first_byte_ms"] = round(outcome.first_byte_s * 1000, 2)
    if exchange.receipt is not None:
        fields["client_tokens"] = exchange.receipt.client_tokens
        fields["prompt_tokens"] = exchange.receipt.forwarded_tokens
        fields["expected_tokens"] = exchange.receipt.billed_tokens
        fields["compaction"] = exchange.receipt.forwarded_level.value
    if exchange.bill is not None:
        fields["billed_prompt_tokens"] = exchange.bill.prompt_tokens
        fields["billed_completion_tokens"] = exchange.bill.completion_tokens
        fields["is_estimated"] = exchange.bill.is_estimated
    if outcome.cache:
        fields["cache"] = outcome.cache
    if outcome.repairs:
        fields["stream_repairs"] = outcome.repairs
    if outcome.fallback_model:
        fields["fallback_model"] = outcome.fallback_model
    if outcome.fault:
        fields["fault"] = outcome.fault
    if outcome.refusal is not None:
        fields["refusal"] = outcome.refusal.code
    return fields

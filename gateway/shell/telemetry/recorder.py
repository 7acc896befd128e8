"""`ports.Telemetry`: one settled exchange becomes metrics and one access-log line."""

from __future__ import annotations

import logging
from typing import Any

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
        self._metrics.in_flight.inc()

    def settled(self, exchange: Exchange) -> None:
        self._metrics.in_flight.dec()
        self._metrics.observe(exchange)
        if _log.isEnabledFor(logging.INFO):
            _log.info("request", extra=access_fields(exchange))


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
    if exchange.request is not None:
        fields["model"] = exchange.request.model
    if outcome.first_byte_s is not None:
        fields["first_byte_ms"] = round(outcome.first_byte_s * 1000, 2)
    if exchange.receipt is not None:
        fields["client_tokens"] = exchange.receipt.client_tokens
        fields["prompt_tokens"] = exchange.receipt.forwarded_tokens
        fields["compaction"] = exchange.receipt.forwarded_level.value
    if exchange.bill is not None:
        fields["billed_prompt_tokens"] = exchange.bill.prompt_tokens
        fields["billed_completion_tokens"] = exchange.bill.completion_tokens
        fields["is_estimated"] = exchange.bill.is_estimated
    if outcome.fault:
        fields["fault"] = outcome.fault
    if outcome.refusal is not None:
        fields["refusal"] = outcome.refusal.code
    return fields

"""Stage 2: is this client plainly over its limits, from what this process knows?

Refuses before anything is counted, and decides nothing else: what is let through here is decided by `reserve`.
"""

from __future__ import annotations

from gateway.core.limits.rules import RuleTable, Use
from gateway.core.limits.wording import refusal_of
from gateway.core.wire.request import ASK_FOR_COUNTS, Endpoint
from gateway.exchange import Exchange
from gateway.ports import Limiter

_LEAST = Use(requests=1, tokens=1, concurrent=1)
_UNMETERED = Use(requests=1, concurrent=1)


class AdmitStage:
    """Refuses what `reserve` would refuse in any case.

    Args:
        rules: of all clients.
        limiter: what is left.
    """

    def __init__(self, rules: RuleTable, limiter: Limiter) -> None:
        self._rules = rules
        self._limiter = limiter

    async def __call__(self, exchange: Exchange) -> None:
        client, request = exchange.client, exchange.request
        if client is None or exchange.endpoint is Endpoint.SESSIONS:
            return
        model = request.model if request is not None else None
        limits = self._rules.limits_for(client.scope, client.name, model).strict
        if not limits:
            return
        is_session = exchange.endpoint is Endpoint.REALTIME  # that says what it used, whether it named a model or not
        is_metered = is_session or (request is not None and exchange.endpoint not in ASK_FOR_COUNTS)
        least = _LEAST if is_metered else _UNMETERED
        verdict = self._limiter.peek(limits, least.of_all(limits))
        if verdict.refused is not None:
            exchange.limit_hits = [(verdict.refused.limit.kind.value, "refused")]
            raise refusal_of(verdict.refused, client.name, model, verdict.states)

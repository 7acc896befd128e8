"""Stage 6: the one decision about a client's limits, on what will really be sent.

Taken are one request, the prompt as it is expected to be billed with as many answers as are asked for of the length
that they may have, and one of the requests at a time: all of it, or nothing. `settle` puts right what was taken.
Limits in shadow are asked one by one, together, and their refusals only recorded.
"""

from __future__ import annotations

import asyncio

import msgspec

from gateway.core.context.prices import PriceTable, cost_nanos
from gateway.core.limits.decision import Limit
from gateway.core.limits.rules import RuleTable, Use
from gateway.core.limits.wording import refusal_of
from gateway.exchange import Exchange, Hold
from gateway.ports import Calibrations, Limiter


class ReserveStage:
    """Writes `hold`.

    Args:
        rules: of all clients.
        limiter: what is left.
        prices: what tokens cost.
        calibrations: how upstreams bill what has no receipt.
    """

    def __init__(self, rules: RuleTable, limiter: Limiter, prices: PriceTable, calibrations: Calibrations) -> None:
        self._rules = rules
        self._limiter = limiter
        self._prices = prices
        self._calibrations = calibrations

    async def __call__(self, exchange: Exchange) -> None:
        client, request = exchange.client, exchange.request
        if client is None:
            return
        model = request.model if request is not None else None
        limits = self._rules.limits_for(client.scope, client.name, model)
        if not limits.strict and not limits.shadow:
            return
        use = self._use_of(exchange)
        verdict = await self._limiter.take(limits.strict, use.of_all(limits.strict))
        if verdict.refused is not None:
            exchange.limit_hits = [(verdict.refused.limit.kind.value, "refused")]
            raise refusal_of(verdict.refused, client.name, model, verdict.states)
        leases = (verdict.lease,) * len(limits.strict)
        exchange.hold = Hold(limits.strict, use, use.tokens, verdict.day, verdict.states, leases)
        if limits.shadow:
            await self._watch(exchange, exchange.hold, limits.shadow)

    async def _watch(self, exchange: Exchange, hold: Hold, shadow: tuple[Limit, ...]) -> None:
        """Take from limits that only watch, as far as they would let it."""
        hits: list[tuple[str, str]] = []

        async def take(limit: Limit) -> None:
            verdict = await self._limiter.take([limit], hold.taken.of_all([limit]))
            if verdict.refused is not None:
                hits.append((limit.kind.value, "shadow"))
                return
            held = exchange.hold or hold
            limits, leases = (*held.limits, limit), (*held.leases, verdict.lease)
            exchange.hold = msgspec.structs.replace(held, limits=limits, leases=leases)

        await asyncio.gather(*map(take, shadow))
        exchange.limit_hits = hits

    def _use_of(self, exchange: Exchange) -> Use:
        request, receipt, count = exchange.request, exchange.receipt, exchange.count
        if request is None or count is None:
            return Use(requests=1, concurrent=1)
        if receipt is None:
            correction = self._calibrations.correction_of(exchange.routes[0].name, request.model)
            prompt, answer = correction.estimate(count.prompt_tokens, False), 0
        else:
            prompt = receipt.client_billed_tokens if receipt.is_shadow else receipt.billed_tokens
            answer = request.choices * receipt.completion_tokens
        prices = self._prices.known_prices_of(request.model)
        cost = cost_nanos(prices, prompt, 0, answer) if prices is not None else 0
        return Use(1, prompt + answer, 1, cost)

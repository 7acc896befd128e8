"""Stage 8, the unwinding: what was really used? Runs however an exchange ended.

The upstream's own usage is the bill. Without it (a cut stream, a client that left, a vendor that does not say) the
prompt is billed as counted, what was visibly generated is counted, and the bill is marked estimated. A whole answer
that a client did not wait for is billed at all that it might have held: nobody can see how much of it was generated.
"""

from __future__ import annotations

import time

from gateway.core.wire.request import Endpoint
from gateway.exchange import Bill, Exchange
from gateway.ports import Calibrations, Telemetry, TextCounter

_SERVER_SIDE = ("previous_response_id", "conversation", "prompt")
"""Fields of the Responses endpoint by which a prompt holds more than the body says."""
_TOOLS = ("tools", "functions")


class Settle:
    """Writes `bill` and `duration_s`, and tells calibrations and telemetry.

    Args:
        counter: tokenizers.
        calibrations: learn from complete answers.
        telemetry: metrics and logs.
    """

    def __init__(self, counter: TextCounter, calibrations: Calibrations, telemetry: Telemetry) -> None:
        self._counter = counter
        self._calibrations = calibrations
        self._telemetry = telemetry

    def needs_counting(self, exchange: Exchange) -> bool:
        """Whether the bill takes tokenising, and so an await."""
        return bool(exchange.outcome.visible_text) and exchange.outcome.usage is None and exchange.count is not None

    async def count_and_finish(self, exchange: Exchange) -> None:
        """Settle an exchange whose visible output must be counted first."""
        assert exchange.count is not None
        (tokens,) = await self._counter.count(exchange.count.profile, [exchange.outcome.visible_text])
        self.finish(exchange, tokens)

    def finish(self, exchange: Exchange, visible_tokens: int = 0) -> None:
        """Settle an exchange; `visible_tokens` is what it visibly generated where the upstream did not say."""
        exchange.duration_s = time.perf_counter() - exchange.started_s
        exchange.bill = _bill(exchange, visible_tokens)
        self._learn(exchange)
        self._telemetry.settled(exchange)

    def _learn(self, exchange: Exchange) -> None:
        """Compare the report of a complete answer with what was forwarded, if that could be counted at all."""
        outcome, request, count = exchange.outcome, exchange.request, exchange.count
        if outcome.usage is None or outcome.fault or request is None or count is None or not 0 < outcome.status < 400:
            return
        if request.endpoint is Endpoint.RESPONSES and any(key in request.spans for key in _SERVER_SIDE):
            return
        raw_tokens = exchange.receipt.forwarded_tokens if exchange.receipt else count.prompt_tokens
        has_tools = any(key in request.sections for key in _TOOLS)
        self._calibrations.learn(outcome.upstream, request.model, raw_tokens, has_tools, outcome.usage)


def _bill(exchange: Exchange, visible_tokens: int) -> Bill | None:
    outcome, count = exchange.outcome, exchange.count
    usage = outcome.usage
    if usage is not None:
        return Bill(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, is_estimated=False)
    was_served = outcome.attempts > 0 and (outcome.status < 400 or outcome.status == CLIENT_GONE)
    if count is None or not was_served:
        return None
    prompt = exchange.receipt.forwarded_tokens if exchange.receipt else count.prompt_tokens
    return Bill(prompt, visible_tokens or _unseen_tokens(exchange), 0, is_estimated=True)


def _unseen_tokens(exchange: Exchange) -> int:
    """The most that an abandoned whole answer may have taken."""
    request, receipt = exchange.request, exchange.receipt
    if exchange.outcome.status != CLIENT_GONE or request is None or receipt is None or request.is_stream:
        return 0
    return request.choices * receipt.completion_tokens


CLIENT_GONE = 499
"""The status in logs and metrics of a request whose client left before it saw one."""

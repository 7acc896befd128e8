"""Stage 8, the unwinding: what was really used? Runs however an exchange ended.

The upstream's own usage is the bill, and a complete answer's report teaches calibration. Without usage (a cut stream, a
client that left, a vendor that does not say) the prompt is billed as counted and corrected, what was visibly generated
is counted, in the upstream's tokens as far as they are known, and the bill is marked estimated. What nobody can see is
billed at all that it might have been, the reservation: a whole answer that a client did not wait for, and the answer
of a model that hides its reasoning.

How close that comes on recorded answers, as if their usage had been missing: docs/benchmarks.md.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import replace

import msgspec

from gateway.core.context.prices import PriceTable, cost_nanos
from gateway.core.limits.rules import RuleTable, Use
from gateway.core.tokens.calibration import MILLION
from gateway.core.tokens.completion import framing_tokens, may_hide_reasoning
from gateway.core.tokens.profiles import Profile
from gateway.core.wire.generated import Generated
from gateway.core.wire.realtime import added
from gateway.core.wire.request import ASK_FOR_COUNTS, Endpoint, MeteredRequest, has_tools
from gateway.core.wire.usage import Usage
from gateway.exchange import Bill, Count, Exchange, Hold
from gateway.ports import Calibrations, Journal, Limiter, Telemetry, TextCounter

CLIENT_GONE = 499
"""The status in logs and metrics of a request whose client left before it saw one."""
_SERVER_SIDE = ("previous_response_id", "conversation", "prompt")
"""Fields of the Responses endpoint by which a prompt holds more than the body says."""


class LimitSettling:
    """Puts right what was taken of limits.

    Args:
        limiter: what is left.
        rules: of all clients.
        prices: what tokens cost.
    """

    def __init__(self, limiter: Limiter, rules: RuleTable, prices: PriceTable) -> None:
        self._limiter = limiter
        self._rules = rules
        self._prices = prices

    def put_right(self, hold: Hold, bill: Bill | None, model: str) -> None:
        """The request stays counted, its tokens are those of the bill, and nothing is out any more."""
        used = self._use_of(bill, model)
        for lease in dict.fromkeys(hold.leases):
            limits = [limit for limit, under in zip(hold.limits, hold.leases, strict=True) if under == lease]
            self._limiter.settle(limits, hold.taken.of_all(limits), used.of_all(limits), hold.day, lease)

    def charge(self, exchange: Exchange, prompt_tokens: int, completion_tokens: int) -> None:
        """Take what was used on a client's behalf beside its requests, such as for a brief; that may be owed."""
        client, model = exchange.client, _model_of(exchange)
        if client is None:
            return
        limits = self._rules.limits_for(client.scope, client.name, model).strict
        use = self._use_of(Bill(prompt_tokens, completion_tokens, 0, is_estimated=False), model)
        used = replace(use, requests=0).of_all(limits)
        self._limiter.settle(limits, [0] * len(limits), used, self._limiter.peek((), ()).day)

    def charge_session(self, exchange: Exchange, usage: Usage) -> None:
        """Take what an open session has used just now, so that not all of it is owed at its end."""
        hold = exchange.hold
        if hold is None:
            return
        used = self._use_of(_billed(usage), _model_of(exchange))
        units = replace(used, requests=0).of_all(hold.limits)
        self._limiter.settle(hold.limits, [0] * len(units), units, self._limiter.peek((), ()).day)
        exchange.outcome.charged = added(exchange.outcome.charged, usage)

    def _use_of(self, bill: Bill | None, model: str) -> Use:
        if bill is None:
            return Use(requests=1)
        prices = self._prices.known_prices_of(model)
        cost = cost_nanos(prices, bill.prompt_tokens, bill.cached_tokens, bill.completion_tokens) if prices else 0
        return Use(1, bill.prompt_tokens + bill.completion_tokens, 0, cost)


class Settle:
    """Writes `bill` and `duration_s`, and tells calibrations, telemetry, and the journal of a named session.

    Args:
        counter: tokenizers.
        calibrations: learn from complete answers.
        telemetry: metrics and logs.
        journal: what named sessions have said; None where there are none.
        limits: puts right what was taken of them; None where there are none.
    """

    def __init__(
        self,
        counter: TextCounter,
        calibrations: Calibrations,
        telemetry: Telemetry,
        journal: Journal | None = None,
        limits: LimitSettling | None = None,
    ) -> None:
        self._limits = limits
        self._counter = counter
        self._calibrations = calibrations
        self._telemetry = telemetry
        self._journal = journal

    def needs_counting(self, exchange: Exchange) -> bool:
        """Whether the bill takes tokenising, and so an await."""
        outcome = exchange.outcome
        is_visible = outcome.generated is not None and not outcome.generated.is_empty
        return is_visible and outcome.usage is None and exchange.count is not None

    async def count_visible(self, exchange: Exchange) -> int:
        """Tokens of what an exchange visibly generated, for `finish_counted`."""
        assert exchange.count is not None
        assert exchange.outcome.generated is not None
        is_responses = exchange.endpoint is Endpoint.RESPONSES
        profile, generated = exchange.count.profile, exchange.outcome.generated
        return await count_generated(
            self._counter, profile, generated, model=_model_of(exchange), is_responses=is_responses
        )

    def finish_counted(self, exchange: Exchange, counting: asyncio.Future[int]) -> None:
        """Settle an exchange once its visible output was counted; if it was not, by all that it may have been.

        To be called when the future is done, however it was, also before it began: what is held must come back.
        """
        is_counted = not counting.cancelled() and counting.exception() is None
        self.finish(exchange, counting.result() if is_counted else _most_tokens(exchange))

    def finish(self, exchange: Exchange, visible_tokens: int = 0) -> None:
        """Settle an exchange; `visible_tokens` is what it visibly generated where the upstream did not say."""
        exchange.duration_s = time.perf_counter() - exchange.started_s
        try:
            exchange.bill = self._bill(exchange, visible_tokens)
            self._learn(exchange)
            self._keep(exchange)
        finally:
            if self._limits is not None and exchange.hold is not None:
                self._limits.put_right(exchange.hold, _not_charged(exchange), _model_of(exchange))
            self._telemetry.settled(exchange)

    def _bill(self, exchange: Exchange, visible_tokens: int) -> Bill | None:
        outcome, count = exchange.outcome, exchange.count
        usage = outcome.usage
        if exchange.endpoint in ASK_FOR_COUNTS:
            return None
        if usage is not None:
            return _billed(usage)
        was_served = outcome.attempts > 0 and (outcome.status < 400 or outcome.status == CLIENT_GONE)
        if count is None or not was_served:
            return None
        correction = self._calibrations.correction_of(outcome.upstream, _model_of(exchange))
        prompt = correction.estimate(_raw_tokens(exchange, count), _has_tools(exchange))
        visible = round(visible_tokens * correction.ratio_millionths / MILLION)
        return Bill(prompt, max(visible, _unseen_tokens(exchange)), 0, is_estimated=True)

    def _learn(self, exchange: Exchange) -> None:
        """Compare the report of a complete answer with what was forwarded, if that could be counted at all."""
        outcome, request, count = exchange.outcome, exchange.request, exchange.count
        if outcome.usage is None or outcome.fault or request is None or count is None or not 0 < outcome.status < 400:
            return
        if request.endpoint is Endpoint.RESPONSES and any(key in request.spans for key in _SERVER_SIDE):
            return
        raw_tokens = _raw_tokens(exchange, count)
        self._calibrations.learn(outcome.upstream, request.model, raw_tokens, _has_tools(exchange), outcome.usage)

    def _keep(self, exchange: Exchange) -> None:
        """A session keeps what an upstream has accepted: nobody fills a store with requests that are turned away."""
        session, request, count = exchange.session, exchange.request, exchange.count
        if session is None or request is None or count is None or self._journal is None:
            return
        if exchange.outcome.attempts and 0 < exchange.outcome.status < 400:
            self._journal.keep(session, request.messages, count.facts)


def _billed(usage: Usage) -> Bill:
    return Bill(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, is_estimated=False)


def _not_charged(exchange: Exchange) -> Bill | None:
    """The bill without what was taken already."""
    bill, charged = exchange.bill, exchange.outcome.charged
    if bill is None or charged is None:
        return bill
    return Bill(
        bill.prompt_tokens - charged.prompt_tokens,
        bill.completion_tokens - charged.completion_tokens,
        bill.cached_tokens - charged.cached_tokens,
        bill.is_estimated,
    )


async def count_generated(
    counter: TextCounter, profile: Profile, generated: Generated, *, model: str, is_responses: bool
) -> int:
    """Completion tokens of what was visibly generated, text by text: a long answer is never whole in memory."""
    tokens = 0
    for text in generated.texts():
        tokens += sum(await counter.count(profile, [text]))
    tokens = math.ceil(tokens * (1 + generated.unkept_share))
    for number in (generated.calls or {0: 0}).values():
        tokens += framing_tokens(model, number, has_text=not number, is_responses=is_responses)
    return tokens


def _raw_tokens(exchange: Exchange, count: Count) -> int:
    """Our own, uncorrected count of what was forwarded."""
    return exchange.receipt.forwarded_tokens if exchange.receipt else count.prompt_tokens


def _has_tools(exchange: Exchange) -> bool:
    return exchange.request is not None and has_tools(exchange.request)


def _model_of(exchange: Exchange) -> str:
    return exchange.request.model if exchange.request else ""


def _unseen_tokens(exchange: Exchange) -> int:
    """The most that an answer may have taken of which not all can be seen, else 0."""
    request, receipt, outcome = exchange.request, exchange.receipt, exchange.outcome
    if request is None or receipt is None or request.endpoint is Endpoint.EMBEDDINGS:
        return 0
    is_unseen = outcome.generated is None and not request.is_stream
    if not is_unseen and not may_hide_reasoning(request.model, _effort_of(request)):
        return 0
    return _most_tokens(exchange)


def _most_tokens(exchange: Exchange) -> int:
    """The most that an exchange's answers may take together."""
    request, receipt = exchange.request, exchange.receipt
    return request.choices * receipt.completion_tokens if request is not None and receipt is not None else 0


def _effort_of(request: MeteredRequest) -> str | None:
    """How much the request asks the model to reason, in either endpoint's words."""
    for key in ("reasoning_effort", "reasoning"):
        span = request.spans.get(key)
        if span is not None:
            value = msgspec.json.decode(request.body[span.start : span.end])
            effort = value.get("effort") if isinstance(value, dict) else value
            if isinstance(effort, str):
                return effort
    return None

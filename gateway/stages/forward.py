"""Stage 7: send, retry or fail over until the first byte is out, then stream.

Bytes pass as they arrive. Upstream errors pass through with status, body and headers. An answer that breaks raises a
refusal, which the pipeline puts where the answer was to stand, or at the end of what was sent of it; a client that
leaves cancels the upstream call at once.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from gateway.attempts import Attempts, refusal_of
from gateway.calls import call_of
from gateway.core.access import ALL_GRANTS, decide_model
from gateway.core.errors import Refusal
from gateway.core.routing.aliases import rename_model
from gateway.core.routing.breaker import Event
from gateway.core.routing.ids import ANSWER_BYTES, ids_in_answer
from gateway.core.routing.routes import Route, StreamUsage
from gateway.core.routing.windows import read_exceeded
from gateway.core.wire.headers import header_of
from gateway.core.wire.request import Endpoint, parse_metered
from gateway.exchange import Exchange
from gateway.ports import Health, IdMemory, SentPrompts, Upstream, UpstreamAnswer, UpstreamFault, Windows
from gateway.relays import HELD_BYTES, begun, headers_for_client, relay_raw, relay_stream, relay_whole
from gateway.repairs import repaired

_REFUSED = frozenset({400, 422})
_TOO_LONG = frozenset({400, 413, 422})
_UNWELL = frozenset({429, 500, 502, 503, 504, 529})
"""Statuses for which another model is asked; what is wrong with a request is wrong with it there, too."""
_MAY_MOVE = frozenset({Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.RESPONSES})
"""Vectors of different models cannot be compared, so embeddings stay with theirs."""
_MOVED = ("request", "count", "routes", "session", "receipt", "prompt", "sent_mark")
"""What of an exchange belongs to the model that it is for at this moment."""
_NO_SUCH_ENDPOINT = frozenset({404, 405, 501})
_MAKE_THINGS = frozenset({Endpoint.RESPONSES, Endpoint.PASSTHROUGH})
_FIRST_EVENT_BYTES = 256
"""A stream's first event names what it is about, and is longer than this."""
_USAGE_ENDPOINTS = frozenset({Endpoint.CHAT, Endpoint.COMPLETIONS})


@dataclass(frozen=True, slots=True)
class Refit:
    """Assembling once more, for a smaller window: the one way back to an earlier stage.

    Attributes:
        windows: remember what upstreams say.
        assemble: the stage, which reads them.
    """

    windows: Windows
    assemble: Callable[[Exchange], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Fallbacks:
    """Models that stand in for others whose upstreams all fail.

    Attributes:
        models: pattern of a model, and who stands in for it, in order; the first match wins.
        again: the stages that a request walks again for another model: it may go elsewhere, cost and fit otherwise.
    """

    models: Sequence[tuple[str, Sequence[str]]]
    again: Sequence[Callable[[Exchange], Awaitable[None]]]

    def of(self, exchange: Exchange) -> list[str]:
        """Who stands in for the model of a request, as far as its client may use them."""
        model = exchange.request.model if exchange.request is not None else ""
        if not model or exchange.endpoint not in _MAY_MOVE:
            return []
        found = next((names for pattern, names in self.models if fnmatchcase(model, pattern)), ())
        grants = exchange.client.grants if exchange.client is not None else ALL_GRANTS
        return [name for name in found if name != model and decide_model(name, grants) is None]

    async def move(self, exchange: Exchange, model: str) -> None:
        """Make it a request for another model.

        Raises:
            Refusal: that is served by nobody, or the request does not fit it.
        """
        request = exchange.request
        assert request is not None
        exchange.request = parse_metered(request.endpoint, rename_model(request.body, model))
        exchange.session = exchange.receipt = exchange.prompt = exchange.sent_mark = None
        for stage in self.again:
            await stage(exchange)


@dataclass(slots=True)
class _Reply:
    """An answer worth passing on, and how it was asked for."""

    answer: UpstreamAnswer
    route: Route
    asked_for_usage: bool


class ForwardStage:
    """Writes `outcome`.

    Args:
        upstream: the way to upstreams.
        health: how they have answered lately.
        instead: who answers for an endpoint that an upstream does not have.
        sent: remembers which prompts upstreams have accepted; None where nobody asks.
        refit: makes a prompt fit a window that an upstream has named; None where that cannot be.
        fallbacks: models that stand in for others; None where there are none.
        ids: which upstream knows what; None where there is but one.
        repairs: whether another answer may go on where a stream has broken off.
    """

    def __init__(
        self,
        upstream: Upstream,
        health: Health,
        instead: Mapping[Endpoint, Callable[[Exchange], Awaitable[None]]] | None = None,
        sent: SentPrompts | None = None,
        refit: Refit | None = None,
        fallbacks: Fallbacks | None = None,
        ids: IdMemory | None = None,
        *,
        repairs: bool = False,
    ) -> None:
        self._upstream = upstream
        self._health = health
        self._attempts = Attempts(health, self._ask_and_refit)
        self._instead = instead or {}
        self._sent = sent
        self._refit = refit
        self._fallbacks = fallbacks
        self._ids = ids
        self._repairs = repairs
        self._refuses_usage: set[str] = set()

    async def __call__(self, exchange: Exchange) -> None:
        others = self._fallbacks.of(exchange) if self._fallbacks is not None else []
        reply = await (self._reply_of_any(exchange, others) if others else self._reply(exchange))
        exchange.outcome.upstream = reply.route.name
        if self._sent is not None and exchange.sent_mark is not None and reply.answer.status < 400:
            self._sent.put(reply.route.name, exchange.sent_mark)
        instead = self._instead.get(exchange.endpoint)
        try:
            if instead is not None and reply.answer.status in _NO_SUCH_ENDPOINT:
                await instead(exchange)
            else:
                await self._relay(exchange, reply)
        finally:
            reply.answer.close()

    async def _remember_ids(self, exchange: Exchange, reply: _Reply) -> None:
        """What an upstream has made, or knows, is to be asked for there."""
        answer = reply.answer
        if self._ids is None or not 200 <= answer.status < 300 or exchange.endpoint not in _MAKE_THINGS:
            return
        content_type = (header_of(answer.headers, "content-type") or "").lower()
        if "json" in content_type or content_type.startswith("text/event-stream"):
            wanted = ANSWER_BYTES if "json" in content_type else _FIRST_EVENT_BYTES
            self._ids.remember(ids_in_answer(await begun(answer, wanted)), reply.route.name)

    async def _reply_of_any(self, exchange: Exchange, others: Sequence[str]) -> _Reply:
        """The first answer of the model that was asked for, or of those that stand in for it; the last failure, else.

        The exchange is then for the model whose answer that is: whose keys are masked in it, who is billed.

        Raises:
            Refusal: 502 or 504, no upstream answered.
        """
        assert self._fallbacks is not None
        failed: _Reply | Refusal | None = None
        state = _state_of(exchange)
        for model in ("", *others):
            try:
                if model:
                    await self._fallbacks.move(exchange, model)
                reply = await self._reply(exchange)
            except Refusal as refusal:
                failed = failed or refusal
                continue
            except BaseException:
                _close(failed)
                raise
            _close(failed)
            exchange.outcome.fallback_model = model
            failed, state = reply, _state_of(exchange)
            if reply.answer.status not in _UNWELL:
                return reply
        for name, value in state.items():
            setattr(exchange, name, value)
        if isinstance(failed, _Reply):
            exchange.outcome.fault = ""
            return failed
        assert failed is not None
        raise failed

    async def _reply(self, exchange: Exchange) -> _Reply:
        """The first answer worth passing on.

        Raises:
            Refusal: 502 or 504, no upstream answered.
        """
        return await self._attempts.reply(exchange, can_repeat=_can_repeat(exchange))

    async def _ask_and_refit(self, exchange: Exchange, route: Route) -> _Reply:
        """One call, and another where the prompt was too large and can be made to fit."""
        reply = await self._ask(exchange, route)
        if self._refit is not None and reply.answer.status in _TOO_LONG and exchange.receipt is not None:
            reply = await self._refitted(exchange, reply, self._refit)
        return reply

    async def _refitted(self, exchange: Exchange, reply: _Reply, refit: Refit) -> _Reply:
        """The answer to a smaller prompt, where this one says that the prompt was too large; else this one."""
        receipt, request, before = exchange.receipt, exchange.request, exchange.prompt
        if receipt is None or request is None or receipt.is_shadow:
            return reply
        exceeded = read_exceeded(reply.answer.status, await begun(reply.answer, HELD_BYTES))
        if exceeded is None or exceeded.window_tokens is None:
            return reply
        refit.windows.learn(reply.route.name, request.model, exceeded.window_tokens)
        exchange.routes = [reply.route, *(route for route in exchange.routes if route is not reply.route)]
        try:
            await refit.assemble(exchange)
        except Refusal:
            exchange.receipt, exchange.prompt = receipt, before
            return reply  # the upstream's own words are the better answer
        except BaseException:
            reply.answer.close()
            raise
        if exchange.receipt is None or exchange.receipt.forwarded_tokens >= receipt.forwarded_tokens:
            exchange.receipt, exchange.prompt = receipt, before
            return reply
        reply.answer.close()
        return await self._ask(exchange, reply.route)

    async def _ask(self, exchange: Exchange, route: Route) -> _Reply:
        """One call; a 400 about `stream_options` is repeated without, and if that helps, never asked again."""
        asks = self._may_ask_for_usage(exchange, route)
        answer = await self._send(exchange, route, asks_for_usage=asks)
        if not asks or answer.status not in _REFUSED:
            return _Reply(answer, route, asks)
        body = await begun(answer, HELD_BYTES)
        if b"stream_options" not in body and b"include_usage" not in body:
            return _Reply(answer, route, False)
        answer.close()
        answer = await self._send(exchange, route, asks_for_usage=False)
        if answer.status not in _REFUSED:
            self._refuses_usage.add(route.name)
        return _Reply(answer, route, False)

    async def _send(self, exchange: Exchange, route: Route, *, asks_for_usage: bool) -> UpstreamAnswer:
        """One call, until its first bytes are here: as long as they are not, another upstream may be asked."""
        exchange.outcome.attempts += 1
        asked_s = time.perf_counter()
        try:
            answer = await self._upstream.send(call_of(exchange, route, asks_for_usage=asks_for_usage))
            if exchange.request is not None:
                await begun(answer, 1)
            return answer
        finally:
            exchange.outcome.upstream_s += time.perf_counter() - asked_s

    def _may_ask_for_usage(self, exchange: Exchange, route: Route) -> bool:
        request = exchange.request
        return (
            request is not None
            and request.endpoint in _USAGE_ENDPOINTS
            and request.is_stream
            and not request.asks_for_usage
            and route.stream_usage is StreamUsage.ASK
            and route.name not in self._refuses_usage
        )

    async def _relay(self, exchange: Exchange, reply: _Reply) -> None:
        answer = reply.answer
        exchange.outcome.status = answer.status
        headers = headers_for_client(exchange, answer)
        content_type = (header_of(answer.headers, "content-type") or "").lower()
        try:
            await self._remember_ids(exchange, reply)
            if exchange.request is None:
                await relay_raw(exchange, answer, headers)
            elif answer.status < 400 and content_type.startswith("text/event-stream"):
                if self._repairs:
                    asks = reply.asked_for_usage
                    answer = reply.answer = repaired(
                        exchange, answer, reply.route, self._upstream, self._health, asks_for_usage=asks
                    )
                await relay_stream(exchange, answer, headers, cuts_usage=reply.asked_for_usage)
            else:
                await relay_whole(exchange, answer, headers)
        except UpstreamFault as fault:
            exchange.outcome.fault = fault.kind
            self._health.report(reply.route, exchange.request.model if exchange.request else "", Event.FAILURE)
            raise refusal_of(fault, [reply.route]) from None


def _state_of(exchange: Exchange) -> dict[str, Any]:
    return {name: getattr(exchange, name) for name in _MOVED}


def _close(failed: _Reply | Refusal | None) -> None:
    if isinstance(failed, _Reply):
        failed.answer.close()


def _can_repeat(exchange: Exchange) -> bool:
    """A body that is streamed through is gone once it was sent."""
    return exchange.request is not None or not exchange.inbound.has_body

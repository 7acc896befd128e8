"""A stream that breaks off goes on with another answer, where that can be done honestly; nobody downstream notices.

Tried are the upstreams that are left, each once: one that takes the beginning of an answer as a last message is given
what was sent; another is asked the same again, where the request wants the same answer each time, and must begin with
exactly that. Where none goes on, the stream has broken off as it would have without all this.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec

from gateway.calls import call_of
from gateway.core.routing.breaker import Event
from gateway.core.routing.routes import Route
from gateway.core.wire.body import Edit, object_spans, splice
from gateway.core.wire.continuation import Continuation, DivergedError, SentText
from gateway.core.wire.headers import Headers, header_of
from gateway.core.wire.message import encode_message
from gateway.core.wire.request import Endpoint, MeteredRequest
from gateway.core.wire.sse import EventSplitter
from gateway.core.wire.stream import MAX_EVENT_BYTES
from gateway.exchange import Exchange
from gateway.ports import Health, Upstream, UpstreamAnswer, UpstreamCall, UpstreamFault


class _SaidError(Exception):
    """An upstream has said within its stream that it failed; the event is passed on if nobody goes on."""

    def __init__(self, raw: bytes) -> None:
        super().__init__()
        self.raw = raw


def may_go_on(exchange: Exchange, answer: UpstreamAnswer) -> bool:
    """Whether the answer is a chat's stream of one choice, whose upstreams, or whose wish, let another go on."""
    request = exchange.request
    if request is None or exchange.endpoint is not Endpoint.CHAT or not request.is_stream or request.choices != 1:
        return False
    content_type = (header_of(answer.headers, "content-type") or "").lower()
    return answer.status == 200 and content_type.startswith("text/event-stream")


def wants_the_same(request: MeteredRequest) -> bool:
    """Whether a request wants the same answer each time: by temperature 0, or a seed."""
    for key, wanted in (("temperature", lambda value: value == 0), ("seed", lambda value: value is not None)):
        span = request.spans.get(key)
        if span is not None and wanted(msgspec.json.decode(request.body[span.start : span.end])):
            return True
    return False


def repaired(
    exchange: Exchange,
    answer: UpstreamAnswer,
    route: Route,
    upstream: Upstream,
    health: Health,
    *,
    asks_for_usage: bool,
) -> UpstreamAnswer:
    """The answer, with others in the place of what it may come to lack, where that can be.

    Args:
        exchange: whose request it is.
        answer: whose head has arrived.
        route: whose it is.
        upstream: the way to the others.
        health: told of each upstream whose stream broke off.
        asks_for_usage: as the first one was asked.
    """
    if not may_go_on(exchange, answer):
        return answer
    return RepairedAnswer(exchange, answer, route, upstream, health, asks_for_usage)


class RepairedAnswer:
    """`ports.UpstreamAnswer` of a stream; arguments as of `repaired`."""

    def __init__(
        self,
        exchange: Exchange,
        answer: UpstreamAnswer,
        route: Route,
        upstream: Upstream,
        health: Health,
        asks_for_usage: bool,
    ) -> None:
        self.status: int = answer.status
        self.headers: Headers = answer.headers
        self._exchange = exchange
        self._answer = answer
        self._route = route
        self._upstream = upstream
        self._health = health
        self._asks_for_usage = asks_for_usage
        self._sent = SentText()

    async def begin(self, min_bytes: int) -> bytes:
        return await self._answer.begin(min_bytes)

    def close(self) -> None:
        self._answer.close()

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        left = [route for route in self._exchange.routes if route is not self._route] or [self._route]
        continuation: Continuation | None = None
        fault: UpstreamFault | _SaidError | None = None
        while True:
            try:
                async with aclosing(self._events(continuation)) as events:
                    async for raw in events:
                        yield raw
                return
            except DivergedError:
                pass
            except (UpstreamFault, _SaidError) as broken:
                if self._sent.is_over and isinstance(broken, UpstreamFault):
                    raise  # it has said all that it had to say
                fault = broken
                self._failed(self._route)
            continuation = await self._go_on(left)
            if continuation is None and isinstance(fault, _SaidError):
                yield fault.raw
                return
            if continuation is None:
                assert fault is not None  # only an answer that goes on can be another one
                raise fault

    async def _events(self, continuation: Continuation | None) -> AsyncGenerator[bytes, None]:
        """Whole events that the client may see; what ends without an end is a fault."""
        splitter, sent = EventSplitter(), self._sent
        async with aclosing(self._answer.chunks()) as chunks:
            async for chunk in chunks:
                for raw in splitter.feed(chunk):
                    passed = continuation.feed(raw) if continuation is not None else raw
                    sent.add(passed)
                    if sent.is_broken:
                        sent.is_broken = False
                        raise UpstreamFault("malformed", "an event of the stream is no JSON", is_retryable=False)
                    if sent.has_error:
                        sent.has_error = False
                        raise _SaidError(passed)
                    if passed:
                        yield passed
                if len(splitter.rest) > MAX_EVENT_BYTES:
                    rest = splitter.take_rest()
                    yield continuation.feed(rest) if continuation is not None else rest
                    sent.is_plain = False  # half an event is out, which nobody can go on with
        rest = splitter.take_rest()
        if not sent.is_over:
            raise UpstreamFault("cut", "the stream ended without its end mark", is_retryable=False)
        if rest:
            yield rest

    async def _go_on(self, left: list[Route]) -> Continuation | None:
        """Put another answer in the place of this one; None where nobody goes on."""
        self._answer.close()
        exchange, sent = self._exchange, self._sent
        request = exchange.request
        while left and request is not None and sent.is_plain and not sent.is_over:
            route = left.pop(0)
            text = sent.text
            is_given = bool(text) and route.takes_prefill
            if text and not is_given and not wants_the_same(request):
                continue
            try:
                answer = await self._ask(route, text if is_given else "")
            except UpstreamFault:
                self._failed(route)
                continue
            if not may_go_on(exchange, answer):
                answer.close()
                continue
            self._answer, self._route = answer, route
            exchange.outcome.repairs += 1
            return Continuation(text, repeats=not is_given)
        return None

    def _failed(self, route: Route) -> None:
        request = self._exchange.request
        self._health.report(route, request.model if request is not None else "", Event.FAILURE)

    async def _ask(self, route: Route, text: str) -> UpstreamAnswer:
        call = call_of(self._exchange, route, asks_for_usage=self._asks_for_usage)
        if text and isinstance(call.body, bytes):
            call = UpstreamCall(
                call.route, call.method, call.target, call.headers, _with_beginning(call.body, text), call.deadlines
            )
        self._exchange.outcome.attempts += 1
        return await self._upstream.send(call)


def _with_beginning(body: bytes, text: str) -> bytes:
    """A chat's body with the beginning of its answer as the last message."""
    end = object_spans(body)["messages"].end - 1
    message = encode_message({"role": "assistant", "content": text})
    return splice(body, [Edit(end, end, b"," + message)])

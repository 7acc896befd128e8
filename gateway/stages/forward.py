"""Stage 7: send, retry or fail over until the first byte is out, then stream.

Bytes pass as they arrive. Upstream errors pass through with status, body and headers. A stream that breaks is ended by
an error event, never shown as success; a client that leaves cancels the upstream call at once.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import msgspec

from gateway.core.errors import Refusal, render_error
from gateway.core.routing.retry import (
    Next,
    backoff_s,
    decide_after_fault,
    decide_after_status,
    parse_retry_after,
)
from gateway.core.routing.routes import Route, StreamUsage
from gateway.core.wire.body import ask_for_usage, object_spans, splice
from gateway.core.wire.gateway_headers import gateway_headers
from gateway.core.wire.headers import Headers, forwardable_request_headers, forwardable_response_headers
from gateway.core.wire.request import Endpoint
from gateway.core.wire.sse import render_event
from gateway.core.wire.stream import StreamObserver
from gateway.core.wire.usage import usage_of_answer
from gateway.exchange import Exchange
from gateway.ports import Upstream, UpstreamAnswer, UpstreamCall, UpstreamFault

API_PREFIX = "/v1"
_HELD_BYTES = 8 * 1024 * 1024
"""A JSON answer up to this size is held until it is whole; a larger one is streamed on."""
_EVENT_END = b"\n\n"
"""Ends an event that was cut off, so that the error event is one of its own."""
_USAGE_ENDPOINTS = frozenset({Endpoint.CHAT, Endpoint.COMPLETIONS})


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
    """

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._refuses_usage: set[str] = set()

    async def __call__(self, exchange: Exchange) -> None:
        reply = await self._reply(exchange)
        exchange.outcome.upstream = reply.route.name
        try:
            await self._relay(exchange, reply)
        finally:
            reply.answer.close()

    async def _reply(self, exchange: Exchange) -> _Reply:
        """The first answer worth passing on, after retries and failover.

        Raises:
            Refusal: 502 or 504, no upstream answered.
        """
        last_fault: UpstreamFault | None = None
        routes = exchange.routes if exchange.request or not exchange.inbound.has_body else exchange.routes[:1]
        for place, route in enumerate(routes):
            tries = 0
            while True:
                tries += 1
                retry_after_s = None
                try:
                    reply = await self._ask(exchange, route)
                except UpstreamFault as fault:
                    last_fault = fault
                    exchange.outcome.upstream, exchange.outcome.fault = route.name, fault.kind
                    can_repeat = fault.is_retryable and (exchange.request or not exchange.inbound.has_body)
                    step = decide_after_fault(bool(can_repeat), tries, route)
                else:
                    answer = reply.answer
                    retry_after_s = parse_retry_after(_header_of(answer.headers, "retry-after"))
                    step = decide_after_status(answer.status, tries, route, retry_after_s)
                    is_last = place + 1 == len(routes) and step is Next.NEXT_ROUTE
                    if step is Next.PASS_ON or is_last or not _can_repeat(exchange):
                        exchange.outcome.fault = ""
                        return reply
                    answer.close()
                if step is Next.NEXT_ROUTE:
                    break
                await asyncio.sleep(backoff_s(tries, random.random(), retry_after_s))
        assert last_fault is not None
        raise _no_answer(routes, last_fault)

    async def _ask(self, exchange: Exchange, route: Route) -> _Reply:
        """One call; a 400 about `stream_options` teaches not to ask this upstream for usage, and is repeated without."""
        asks = self._may_ask_for_usage(exchange, route)
        answer = await self._send(exchange, route, asks_for_usage=asks)
        if asks and answer.status in (400, 422):
            body = b"".join([chunk async for chunk in _up_to(answer, _HELD_BYTES)])
            answer.close()
            if b"stream_options" not in body and b"include_usage" not in body:
                return _Reply(_Read(answer.status, answer.headers, body), route, False)
            self._refuses_usage.add(route.name)
            asks = False
            answer = await self._send(exchange, route, asks_for_usage=False)
        return _Reply(answer, route, asks)

    async def _send(self, exchange: Exchange, route: Route, *, asks_for_usage: bool) -> UpstreamAnswer:
        request = exchange.request
        body: bytes | AsyncIterator[bytes] | None
        if request is not None:
            body = exchange.prompt if exchange.prompt is not None else request.body
            if asks_for_usage:
                spans = request.spans if exchange.prompt is None else object_spans(body)
                body = splice(body, [ask_for_usage(body, spans)])
        else:
            body = exchange.inbound.stream() if exchange.inbound.has_body else None
        headers = forwardable_request_headers(
            exchange.headers,
            is_metered=request is not None,
            upstream_key=route.api_key,
            request_id=exchange.request_id,
        )
        if request is None and (length := exchange.header("content-length")) is not None:
            headers.append(("Content-Length", length))
        exchange.outcome.attempts += 1
        asked_s = time.perf_counter()
        try:
            target = exchange.target.removeprefix(API_PREFIX)
            return await self._upstream.send(UpstreamCall(route, exchange.method, target, headers, body))
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
        headers = forwardable_response_headers(answer.headers) + _own_headers(exchange)
        content_type = _header_of(answer.headers, "content-type") or ""
        if exchange.request is None:
            length = _length_of(answer.headers)
            await self._relay_raw(exchange, answer, headers, length)
        elif content_type.startswith("text/event-stream"):
            await self._relay_stream(exchange, reply, headers)
        else:
            await self._relay_whole(exchange, answer, headers)

    async def _relay_raw(
        self, exchange: Exchange, answer: UpstreamAnswer, headers: Headers, length: int | None
    ) -> None:
        """Pass a body through untouched; one that breaks off cuts the client's connection."""
        await exchange.outbound.start(answer.status, headers, length)
        try:
            async with aclosing(answer.chunks()) as chunks:
                async for chunk in chunks:
                    _mark_first_byte(exchange)
                    await exchange.outbound.write(chunk)
        except UpstreamFault as fault:
            exchange.outcome.fault = fault.kind
            await exchange.outbound.abort()
            return
        await exchange.outbound.end()

    async def _relay_whole(self, exchange: Exchange, answer: UpstreamAnswer, headers: Headers) -> None:
        """Hold a JSON answer until it is whole, so that a broken one is an honest error; a huge one is streamed."""
        outbound, held, size = exchange.outbound, [], 0
        try:
            async with aclosing(answer.chunks()) as chunks:
                async for chunk in chunks:
                    size += len(chunk)
                    if not outbound.has_started and size <= _HELD_BYTES:
                        held.append(chunk)
                        continue
                    if not outbound.has_started:
                        await outbound.start(answer.status, headers, _length_of(answer.headers))
                        await outbound.write(b"".join(held))
                        held.clear()
                    await outbound.write(chunk)
        except UpstreamFault as fault:
            exchange.outcome.fault = fault.kind
            if not outbound.has_started:
                raise _no_answer(exchange.routes, fault) from None
            await outbound.abort()
            return
        _mark_first_byte(exchange)
        if outbound.has_started:
            await outbound.end()
            return
        body = b"".join(held)
        if answer.status < 400:
            exchange.outcome.usage = usage_of_answer(body)
        await outbound.start(answer.status, headers, len(body))
        await outbound.end(body)

    async def _relay_stream(self, exchange: Exchange, reply: _Reply, headers: Headers) -> None:
        """Pass server-sent events on as they arrive, watched; a break is ended by an error event."""
        outcome, outbound = exchange.outcome, exchange.outbound
        outcome.is_stream = True
        observer = StreamObserver(cuts_usage=reply.asked_for_usage)
        last = b""
        try:
            async with aclosing(reply.answer.chunks()) as chunks:
                async for chunk in chunks:
                    forwarded = observer.feed(chunk)
                    if not outbound.has_started:
                        _mark_first_byte(exchange)
                        await outbound.start(reply.answer.status, headers, None)
                    if forwarded:
                        await outbound.write(forwarded)
            last = observer.finish()
            fault = None if observer.is_complete or observer.has_error else _unfinished()
        except UpstreamFault as broken:
            fault = broken
        finally:
            outcome.usage = observer.usage
            outcome.visible_text = "" if observer.usage else observer.visible_text()
        if fault is not None:
            outcome.fault = fault.kind
            if not outbound.has_started:
                raise _no_answer(exchange.routes, fault)
            last = _EVENT_END + _error_event(exchange.endpoint, _refusal_of(fault))
        await outbound.end(last)


@dataclass(slots=True)
class _Read:
    """An answer whose body was read already."""

    status: int
    headers: Headers
    body: bytes

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        yield self.body

    def close(self) -> None:
        """Nothing is open."""


async def _up_to(answer: UpstreamAnswer, max_bytes: int) -> AsyncGenerator[bytes, None]:
    size = 0
    async with aclosing(answer.chunks()) as chunks:
        async for chunk in chunks:
            size += len(chunk)
            if size > max_bytes:
                return
            yield chunk


def _can_repeat(exchange: Exchange) -> bool:
    """A body that is streamed through is gone once it was sent."""
    return exchange.request is not None or not exchange.inbound.has_body


def _own_headers(exchange: Exchange) -> Headers:
    receipt, count = exchange.receipt, exchange.count
    prompt_tokens = receipt.forwarded_tokens if receipt else count.prompt_tokens if count else None
    return gateway_headers(
        upstream=exchange.outcome.upstream,
        prompt_tokens=prompt_tokens,
        remaining_tokens=receipt.remaining_tokens if receipt else None,
        level=receipt.forwarded_level.value if receipt else "",
        saved_tokens=receipt.client_tokens - receipt.forwarded_tokens if receipt else 0,
    )


def _mark_first_byte(exchange: Exchange) -> None:
    if exchange.outcome.first_byte_s is None:
        exchange.outcome.first_byte_s = time.perf_counter() - exchange.started_s


def _header_of(headers: Headers, name: str) -> str | None:
    return next((value for key, value in headers if key.lower() == name), None)


def _length_of(headers: Headers) -> int | None:
    length = _header_of(headers, "content-length")
    return int(length) if length is not None and length.isdigit() else None


def _error_event(endpoint: Endpoint, refusal: Refusal) -> bytes:
    """The event that tells a client that its stream broke, in the form its library raises."""
    if endpoint is not Endpoint.RESPONSES:
        return render_event(render_error(refusal))
    fields = {"type": "error", "code": refusal.code, "message": refusal.message, "param": None}
    return render_event(msgspec.json.encode(fields), "error")


def _unfinished() -> UpstreamFault:
    return UpstreamFault("cut", "the stream ended without its end mark", is_retryable=False)


def _refusal_of(fault: UpstreamFault) -> Refusal:
    is_late = fault.kind.endswith("timeout")
    code = "upstream_timeout" if is_late else "upstream_error"
    return Refusal(504 if is_late else 502, code, f"The upstream failed ({fault.kind}): {fault.message}.")


def _no_answer(routes: Sequence[Route], fault: UpstreamFault) -> Refusal:
    refusal = _refusal_of(fault)
    names = ", ".join(route.name for route in routes)
    return Refusal(refusal.status, refusal.code, f"{refusal.message} Asked: {names}.")

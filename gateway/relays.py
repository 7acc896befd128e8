"""An upstream's answer on its way to the client: passed on as it arrives, and watched.

A JSON answer is held until it is whole, so that a broken one is an honest error; a stream that breaks is ended by an
error event, or cut where no event can end it. What was seen is in the exchange's outcome, however it ends.
"""

from __future__ import annotations

import time
from contextlib import aclosing

from gateway.core.limits.wording import limit_headers
from gateway.core.wire.answer_check import flaw_of_answer
from gateway.core.wire.gateway_headers import gateway_headers
from gateway.core.wire.headers import Headers, forwardable_response_headers, header_of
from gateway.core.wire.pieces import generated_of_answer
from gateway.core.wire.provider_keys import mask_body, mask_headers
from gateway.core.wire.request import Endpoint
from gateway.core.wire.stream import StreamObserver
from gateway.core.wire.usage import usage_of_answer
from gateway.exchange import Exchange
from gateway.ports import UpstreamAnswer, UpstreamFault

HELD_BYTES = 8 * 1024 * 1024
"""A JSON answer up to this size is held until it is whole; a larger one is streamed on."""
_EVENT_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")
_LIMIT_PREFIX = "x-ratelimit-"


def headers_for_client(exchange: Exchange, answer: UpstreamAnswer) -> Headers:
    """The upstream's headers and the gateway's own; of an error, without keys that it quotes."""
    headers = _seen_headers(exchange, answer) + _own_headers(exchange)
    return mask_headers(headers, _keys(exchange)) if answer.status >= 400 else headers


def _keys(exchange: Exchange) -> list[str]:
    return [route.api_key for route in exchange.routes]


async def relay_raw(exchange: Exchange, answer: UpstreamAnswer, headers: Headers) -> None:
    """Pass a body through untouched."""
    await exchange.outbound.start(answer.status, headers, _length_of(answer.headers))
    async with aclosing(answer.chunks()) as chunks:
        async for chunk in chunks:
            _mark_first_byte(exchange)
            await exchange.outbound.write(chunk)
    await exchange.outbound.end()


async def relay_whole(exchange: Exchange, answer: UpstreamAnswer, headers: Headers) -> None:
    """Hold a JSON answer until it is whole, so that a broken one is an honest error; a huge one is streamed."""
    outbound, outcome = exchange.outbound, exchange.outcome
    began_s = time.perf_counter()
    body = await begun(answer, HELD_BYTES + 1)
    outcome.upstream_s += time.perf_counter() - began_s
    _mark_first_byte(exchange)
    if len(body) > HELD_BYTES:
        await relay_raw(exchange, answer, headers)
        return
    if answer.status < 400:
        outcome.usage = usage_of_answer(body)
        if outcome.usage is None:
            _check_whole(body, headers)
        if outcome.usage is None and exchange.endpoint is not Endpoint.EMBEDDINGS:
            outcome.generated = generated_of_answer(body)
    else:
        body = mask_body(body, _keys(exchange))
    await outbound.start(answer.status, headers, len(body))
    await outbound.end(body)


def _check_whole(body: bytes, headers: Headers) -> None:
    """
    Raises:
        UpstreamFault: it is JSON by its own account, and no answer.
    """
    is_json = "json" in (header_of(headers, "content-type") or "").lower()
    if is_json and header_of(headers, "content-encoding") is None and (flaw := flaw_of_answer(body)):
        raise UpstreamFault("malformed", flaw, is_retryable=False)


async def relay_stream(exchange: Exchange, answer: UpstreamAnswer, headers: Headers, *, cuts_usage: bool) -> None:
    """Pass server-sent events on as they arrive, watched.

    Args:
        exchange: whose outcome learns what was seen.
        answer: whose head has arrived.
        headers: that the client sees.
        cuts_usage: take out what only the gateway asked for.

    Raises:
        UpstreamFault: it broke between two events. One that broke within an event cannot be ended by another event,
            so there the client's connection is cut.
    """
    outcome, outbound = exchange.outcome, exchange.outbound
    outcome.is_stream = True
    observer = StreamObserver(cuts_usage=cuts_usage)
    tail = b"\n\n"
    try:
        async with aclosing(answer.chunks()) as chunks:
            async for chunk in chunks:
                forwarded = observer.feed(chunk)
                if not outbound.has_started:
                    _mark_first_byte(exchange)
                    await outbound.start(answer.status, headers, None)
                if forwarded:
                    await outbound.write(forwarded)
                    tail = forwarded[-4:] if len(forwarded) > 3 else (tail + forwarded)[-4:]
                if observer.is_malformed:
                    raise UpstreamFault("malformed", "an event of the stream is no JSON", is_retryable=False)
        last = observer.finish()
        if not observer.is_complete and not observer.has_error:
            raise UpstreamFault("cut", "the stream ended without its end mark", is_retryable=False)
    except UpstreamFault as fault:
        is_whole = observer.is_complete and not observer.has_error and tail.endswith(_EVENT_ENDS)
        if is_whole and (fault.kind == "idle_timeout" or observer.has_end_mark):
            last = observer.finish()  # it said all that it had to say, and forgot to end, or ended badly
        elif tail.endswith(_EVENT_ENDS):
            raise
        else:
            outcome.fault = fault.kind
            await outbound.abort()
            return
    finally:
        outcome.usage = observer.usage
        outcome.generated = None if observer.usage else observer.generated
    await outbound.end(last)


async def begun(answer: UpstreamAnswer, min_bytes: int) -> bytes:
    """The beginning of an answer's body; one that breaks before it is let go of.

    Raises:
        UpstreamFault: it stalled or was cut.
    """
    try:
        return await answer.begin(min_bytes)
    except BaseException:
        answer.close()
        raise


def _seen_headers(exchange: Exchange, answer: UpstreamAnswer) -> Headers:
    """The upstream's headers; its limits are not the client's where that has its own."""
    headers = forwardable_response_headers(answer.headers)
    if exchange.hold is None or not exchange.hold.states:
        return headers
    own = limit_headers(exchange.hold.states)
    return [(name, value) for name, value in headers if not name.lower().startswith(_LIMIT_PREFIX)] + own


def _own_headers(exchange: Exchange) -> Headers:
    receipt, count = exchange.receipt, exchange.count
    prompt_tokens = receipt.billed_tokens if receipt else count.prompt_tokens if count else None
    headers = gateway_headers(
        upstream=exchange.outcome.upstream,
        prompt_tokens=prompt_tokens,
        remaining_tokens=receipt.remaining_tokens if receipt else None,
        level=receipt.forwarded_level.value if receipt else "",
        saved_tokens=max(0, receipt.client_billed_tokens - receipt.billed_tokens) if receipt else 0,
    )
    if exchange.outcome.fallback_model:
        headers.append(("x-gateway-model", exchange.outcome.fallback_model))
    if receipt is not None and exchange.overrides.explains:
        headers.append(("x-gateway-receipt", receipt.explain()))
    return headers


def _mark_first_byte(exchange: Exchange) -> None:
    if exchange.outcome.first_byte_s is None:
        exchange.outcome.first_byte_s = time.perf_counter() - exchange.started_s


def _length_of(headers: Headers) -> int | None:
    length = header_of(headers, "content-length")
    return int(length) if length is not None and length.isdigit() else None

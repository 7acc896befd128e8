"""Stage 7 for websockets: hand the handshake on, fail over until one is taken, then join the two ends.

As long as an upstream has not answered 101 nothing has reached the client, so a handshake is retried and failed over
as any request is, and a refused one is passed on as the HTTP answer that it is. What the upstream says of its usage is
added up as it comes.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

import msgspec

from gateway.attempts import Attempts
from gateway.calls import API_PREFIX, upstream_headers
from gateway.core.errors import Refusal, render_error
from gateway.core.routing.azure import azure_target
from gateway.core.routing.breaker import Event
from gateway.core.routing.routes import Route
from gateway.core.wire.headers import Headers
from gateway.core.wire.provider_keys import mask_body
from gateway.core.wire.realtime import MAX_EVENT_BYTES, added, usage_of_event
from gateway.core.wire.upgrade import flaw_of_switch, handshake_headers, switch_headers, with_model
from gateway.core.wire.usage import Usage
from gateway.exchange import Duplex, Exchange
from gateway.ports import Health, SocketUpstream, UpstreamAnswer, UpstreamCall, UpstreamFault
from gateway.relays import begun, headers_for_client
from gateway.tunnel import SocketLimits, Tunnel

SWITCHING = 101
_MAX_ERROR_BYTES = 65_536
_SHOWN_CHARS = 500
Charge = Callable[[Exchange, Usage], None]


@dataclass(slots=True)
class _Reply:
    """An answer to a handshake; `wire` is there if it was taken."""

    answer: UpstreamAnswer
    route: Route
    wire: Duplex | None


class ForwardSocketStage:
    """Writes `outcome`.

    Args:
        upstream: the way to upstreams.
        health: how they have answered lately.
        limits: of a websocket.
        charge: takes what was used off a client's limits while the websocket is open; None where there are none.
    """

    def __init__(
        self, upstream: SocketUpstream, health: Health, limits: SocketLimits, charge: Charge | None = None
    ) -> None:
        self._upstream = upstream
        self._health = health
        self._limits = limits
        self._charge = charge
        self._attempts = Attempts(health, self._ask)

    async def __call__(self, exchange: Exchange) -> None:
        reply = await self._attempts.reply(exchange, can_repeat=True)
        exchange.outcome.upstream, exchange.outcome.status = reply.route.name, reply.answer.status
        try:
            if reply.wire is None:
                await _pass_refusal(exchange, reply.answer)
            else:
                await self._join(exchange, reply, reply.wire)
        finally:
            if reply.wire is not None:
                reply.wire.close()
            reply.answer.close()

    async def _ask(self, exchange: Exchange, route: Route) -> _Reply:
        """One handshake.

        Raises:
            UpstreamFault: no answer came, or none to this question.
        """
        exchange.outcome.attempts += 1
        asked_s = time.perf_counter()
        call = _call(exchange, route)
        try:
            answer, wire = await self._upstream.open(call)
        finally:
            exchange.outcome.upstream_s += time.perf_counter() - asked_s
        flaw = None if answer.status >= 400 else f"it answered the handshake with {answer.status}"
        if wire is not None:
            flaw = flaw_of_switch(call.headers, answer.headers)
        if flaw is None:
            return _Reply(answer, route, wire)
        if wire is not None:
            wire.close()
        answer.close()
        raise UpstreamFault("protocol", flaw, is_retryable=False)

    async def _join(self, exchange: Exchange, reply: _Reply, upstream: Duplex) -> None:
        assert exchange.switch is not None
        outcome = exchange.outcome
        client = await exchange.switch(switch_headers(headers_for_client(exchange, reply.answer)))
        outcome.first_byte_s = time.perf_counter() - exchange.started_s
        key = random.getrandbits(32).to_bytes(4, "big")

        def watch(message: bytes) -> None:
            if (usage := usage_of_event(message)) is not None:
                outcome.usage = added(outcome.usage, usage)
                if self._charge is not None:
                    self._charge(exchange, usage)

        tunnel = Tunnel(client, upstream, self._limits, key, watch, MAX_EVENT_BYTES)
        try:
            outcome.fault = await tunnel.run()
        except asyncio.CancelledError:
            outcome.fault = await tunnel.stop(is_client_there=exchange.outbound.is_open)
            if outcome.fault == "client_gone":
                raise
        if outcome.fault == "cut":
            self._health.report(reply.route, exchange.request.model if exchange.request else "", Event.FAILURE)


def _call(exchange: Exchange, route: Route) -> UpstreamCall:
    target, model = exchange.target, exchange.request.model if exchange.request is not None else ""
    name = route.known_as(model)
    if name != model:
        target = with_model(target, name)
    target = target.removeprefix(API_PREFIX)
    if route.azure_version:
        target = f"{azure_target(target, '', route.azure_version)}&deployment={quote(name, safe='')}"
    headers = upstream_headers(exchange, route, is_metered=True)
    return UpstreamCall(route, "GET", target, handshake_headers(headers), None, route.timeouts_for(model))


async def _pass_refusal(exchange: Exchange, answer: UpstreamAnswer) -> None:
    """Pass on a handshake's refusal; one that is not in OpenAI's form is put into it."""
    headers = headers_for_client(exchange, answer)
    body = mask_body(await begun(answer, _MAX_ERROR_BYTES), [route.api_key for route in exchange.routes])
    if len(body) >= _MAX_ERROR_BYTES or not _is_error(body):
        headers, body = _in_form(headers, answer.status, body)
    await exchange.outbound.start(answer.status, headers, len(body))
    await exchange.outbound.end(body)


def _is_error(body: bytes) -> bool:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(found, dict) and isinstance(found.get("error"), dict)


def _in_form(headers: Headers, status: int, body: bytes) -> tuple[Headers, bytes]:
    kept = [(name, value) for name, value in headers if name.lower() not in ("content-type", "content-encoding")]
    said = " ".join(body[: 4 * _SHOWN_CHARS].decode("utf-8", "replace").split())[:_SHOWN_CHARS]
    message = f"The upstream refused the websocket with status {status}" + (f": {said}" if said else ".")
    error = render_error(Refusal(status, "websocket_refused", message))
    return [*kept, ("Content-Type", "application/json")], error

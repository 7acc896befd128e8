"""The data port: one handler that turns an HTTP request into an exchange and lets the pipeline walk it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast
from urllib.parse import unquote

from aiohttp import hdrs, web

from gateway.core.coded_errors import render_coded_error
from gateway.core.errors import Refusal, render_error
from gateway.core.routing.azure import read_azure
from gateway.core.wire.origin import OriginRules, decide_origin
from gateway.core.wire.paths import METERED_PATHS, endpoint_of, is_of_memory, is_of_vision, local_methods
from gateway.core.wire.request import READ_BY_STAGES, Endpoint
from gateway.core.wire.upgrade import asks_for_websocket, decide_upgrade
from gateway.exchange import Exchange
from gateway.shell.http.cors import answer_preflight, is_preflight
from gateway.shell.http.inbound import BufferPool, HttpInbound
from gateway.shell.http.outbound import HttpOutbound

Walk = Callable[[Exchange], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class DataPortLimits:
    """Bounds of what a client may send."""

    max_body_bytes: int
    body_idle_s: float


class DataPort:
    """Handles every request of the data port.

    Args:
        walk: runs the pipeline over an exchange; it answers through the exchange's outbound side and never raises
            but for cancellation. An exchange that comes with a refusal is only refused, and recorded.
        pool: bound of all bodies held.
        limits: bounds of one body.
        origins: which web pages may call.
    """

    def __init__(self, walk: Walk, pool: BufferPool, limits: DataPortLimits, origins: OriginRules) -> None:
        self._walk = walk
        self._pool = pool
        self._limits = limits
        self._origins = origins

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        target, deployment = read_azure(request.raw_path)
        path = target.partition("?")[0]
        origin = request.headers.get(hdrs.ORIGIN)
        refusal = decide_origin(origin, request.headers.get(hdrs.HOST), self._origins)
        request_id = f"{random.getrandbits(128):032x}"  # an id, no secret: os.urandom is 20 us
        if refusal is None and is_preflight(request):
            return answer_preflight(request, request_id)
        inbound = HttpInbound(request, self._pool, self._limits.max_body_bytes, self._limits.body_idle_s)
        render = render_coded_error if is_of_memory(path) or is_of_vision(path) else render_error
        outbound = HttpOutbound(request, request_id, None if refusal else origin, render)
        exchange = Exchange(
            request_id=request_id,
            method=request.method,
            path=path,
            target=target,
            headers=list(request.headers.items()),
            endpoint=endpoint_of(request.method, path),
            inbound=inbound,
            outbound=outbound,
            started_s=time.perf_counter(),
            peer=request.remote or "",
            deployment=deployment,
        )
        refusal = refusal or decide_target(target, path)
        if refusal is None and exchange.endpoint is Endpoint.PASSTHROUGH and (methods := local_methods(path)):
            allowed = ", ".join(methods)
            message = f"{path[:200]} takes {allowed} only."
            refusal = Refusal(405, "method_not_allowed", message, headers=[("Allow", allowed)])
        may_upgrade = refusal is None and exchange.endpoint not in READ_BY_STAGES
        if may_upgrade and hdrs.UPGRADE in request.headers and asks_for_websocket(exchange.headers):
            refusal = _expect_websocket(request, exchange, outbound)
        exchange.outcome.refusal = refusal
        try:
            await self._walk(exchange)
        finally:
            inbound.release()
        return _finished(outbound)


def _finished(outbound: HttpOutbound) -> web.StreamResponse:
    if not outbound.has_started:  # the pipeline always answers; without an answer there is nothing to keep alive
        raise asyncio.CancelledError
    return cast("web.StreamResponse", outbound)  # as far as aiohttp looks


def _expect_websocket(request: web.BaseRequest, exchange: Exchange, outbound: HttpOutbound) -> Refusal | None:
    """Make the exchange one of a websocket, or say why it is none."""
    refusal = decide_upgrade(request.method, exchange.headers, is_modern=request.version >= (1, 1))
    if refusal is None:
        exchange.endpoint = Endpoint.REALTIME
        exchange.switch = outbound.switch
        outbound.expect_switch()
    return refusal


def decide_target(target: str, path: str) -> Refusal | None:
    """Whether a request's target is one that the data port serves.

    Upstreams resolve `.` and `..`, and cut a fragment off: a path that holds any of them is not the path that they
    would serve, and is refused.

    Args:
        target: as it stands in the request line.
        path: the target without its query.
    """
    if target in METERED_PATHS or local_methods(path):
        return None
    if is_of_memory(path) or is_of_vision(path):
        message = f"There is nothing at {path[:200]!r}; a name in a path must be percent-encoded."
        return Refusal(404, "unknown_path", message)
    if not path.startswith("/v1/"):
        return Refusal(
            404,
            "unknown_path",
            f"Unknown path {path[:200]!r}: the data port serves /v1/... (does the client's base_url end in"
            " /v1?); metrics are on the admin port.",
        )
    plain = unquote(path)
    if "#" in target or "\\" in plain or not {".", ".."}.isdisjoint(plain.split("/")):
        return Refusal(400, "invalid_path", "The path must not hold '.' or '..' segments, a backslash, or a fragment.")
    return None

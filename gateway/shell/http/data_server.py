"""The data port: one handler that turns an HTTP request into an exchange and lets the pipeline walk it."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import unquote

from aiohttp import web

from gateway.core.errors import Refusal
from gateway.core.wire.origin import OriginRules, decide_origin
from gateway.core.wire.request import endpoint_of
from gateway.exchange import Exchange
from gateway.shell.http.inbound import BufferPool, HttpInbound
from gateway.shell.http.outbound import HttpOutbound

_log = logging.getLogger("gateway.http")
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
            but for cancellation.
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
        target = request.raw_path
        path = target.partition("?")[0]
        request_id = secrets.token_hex(16)
        inbound = HttpInbound(request, self._pool, self._limits.max_body_bytes, self._limits.body_idle_s)
        outbound = HttpOutbound(request, request_id)
        refusal = decide_origin(request.headers.get("Origin"), request.headers.get("Host"), self._origins)
        refusal = refusal or decide_path(path)
        if refusal is not None:
            await outbound.refuse(refusal, [])
            return _finished(outbound)
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
        )
        try:
            await self._walk(exchange)
        finally:
            inbound.release()
        return _finished(outbound)


def _finished(outbound: HttpOutbound) -> web.StreamResponse:
    if outbound.response is None:  # the pipeline always answers; without an answer there is nothing to send
        raise asyncio.CancelledError
    return outbound.response


def decide_path(path: str) -> Refusal | None:
    """Whether a path is one that the data port serves."""
    if not path.startswith("/v1/"):
        return Refusal(
            404,
            "unknown_path",
            f"Unknown path {path[:200]!r}: the data port serves /v1/... (metrics are on the admin port).",
        )
    if ".." in unquote(path).split("/") or "\\" in unquote(path):
        return Refusal(400, "invalid_path", "The path must not hold '..' or a backslash.")
    return None

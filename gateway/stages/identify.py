"""Stage 1: who asks, and for what?

Reads the body of a metered call. In own-key mode (an upstream without a key of its own) the client is the digest of
its Authorization, so that two users of one gateway never share a brief.
"""

from __future__ import annotations

import asyncio
import hashlib

from gateway.core.wire.overrides import read_overrides
from gateway.core.wire.request import Endpoint, MeteredRequest, kind_of_body, parse_metered
from gateway.exchange import Client, Exchange

_PARSE_INLINE_BYTES = 262_144
"""Bodies up to this size are parsed on the event loop: about 0.2 ms."""
DEFAULT_CLIENT = "default"


async def identify(exchange: Exchange) -> None:
    """Write `client`, and `overrides` and `request` of a metered call."""
    credentials = exchange.header("authorization") or exchange.header("api-key") or ""
    exchange.client = Client(DEFAULT_CLIENT, hashlib.sha256(credentials.encode("utf-8", "surrogateescape")).digest())
    if exchange.endpoint is not Endpoint.PASSTHROUGH:
        exchange.overrides = read_overrides(exchange.headers)
        body = await exchange.inbound.read()
        if len(body) > _PARSE_INLINE_BYTES:
            exchange.request = await asyncio.to_thread(_parse, exchange.endpoint, body)
        else:
            exchange.request = _parse(exchange.endpoint, body)


def _parse(endpoint: Endpoint, body: bytes) -> MeteredRequest:
    if endpoint is Endpoint.TOKENS_COUNT:
        endpoint = kind_of_body(body)
    elif endpoint is Endpoint.INPUT_TOKENS:
        endpoint = Endpoint.RESPONSES
    return parse_metered(endpoint, body)

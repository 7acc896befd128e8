"""Stage 1: who asks, and for what?

Reads the body of a metered call. In own-key mode (an upstream without a key of its own) the client is the digest of
its Authorization, so that two users of one gateway never share a brief.
"""

from __future__ import annotations

import asyncio
import hashlib

from gateway.core.wire.overrides import read_overrides
from gateway.core.wire.prefix import PrefixMemo
from gateway.core.wire.request import Endpoint, MeteredRequest, kind_of_body, parse_after, parse_metered
from gateway.exchange import Client, Exchange

_PARSE_INLINE_BYTES = 262_144
"""Bodies up to this size are parsed on the event loop: about 0.2 ms."""
DEFAULT_CLIENT = "default"


class IdentifyStage:
    """Writes `client`, and `overrides` and `request` of a metered call.

    Args:
        prefixes: what was read of earlier bodies.
    """

    def __init__(self, prefixes: PrefixMemo) -> None:
        self._prefixes = prefixes

    async def __call__(self, exchange: Exchange) -> None:
        credentials = exchange.header("authorization") or exchange.header("api-key") or ""
        scope = hashlib.sha256(credentials.encode("utf-8", "surrogateescape")).digest()
        exchange.client = Client(DEFAULT_CLIENT, scope)
        if exchange.endpoint in (Endpoint.PASSTHROUGH, Endpoint.SESSIONS):
            return
        exchange.overrides = read_overrides(exchange.headers)
        body = await exchange.inbound.read()
        if exchange.endpoint is Endpoint.CHAT and (beginning := self._prefixes.find(body)):
            exchange.request = parse_after(body, beginning)
        if exchange.request is None:
            is_long = len(body) > _PARSE_INLINE_BYTES
            parsing = asyncio.to_thread(_parse, exchange.endpoint, body) if is_long else None
            exchange.request = await parsing if parsing else _parse(exchange.endpoint, body)


def _parse(endpoint: Endpoint, body: bytes) -> MeteredRequest:
    if endpoint is Endpoint.TOKENS_COUNT:
        endpoint = kind_of_body(body)
    elif endpoint is Endpoint.INPUT_TOKENS:
        endpoint = Endpoint.RESPONSES
    return parse_metered(endpoint, body)

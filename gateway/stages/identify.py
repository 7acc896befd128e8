"""Stage 1: who asks, and for what?

Reads the body of a metered call. In own-key mode (an upstream without a key of its own) the client is the digest of
its Authorization, so that two users of one gateway never share a brief.
"""

from __future__ import annotations

import hashlib

from gateway.core.wire.request import Endpoint, parse_metered
from gateway.exchange import Client, Exchange

DEFAULT_CLIENT = "default"


async def identify(exchange: Exchange) -> None:
    """Write `client`, and `request` of a metered call."""
    credentials = exchange.header("authorization") or exchange.header("api-key") or ""
    exchange.client = Client(DEFAULT_CLIENT, hashlib.sha256(credentials.encode("utf-8", "surrogateescape")).digest())
    if exchange.endpoint is not Endpoint.PASSTHROUGH:
        exchange.request = parse_metered(exchange.endpoint, await exchange.inbound.read())

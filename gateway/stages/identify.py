"""Stage 1: who asks, and for what?

With clients configured, who presents no key of theirs is refused, and the key ends here: later stages, and so every
upstream, see the request without credentials. Without, all requests are one client's, `default`; in own-key mode (an
upstream without a key of its own) its scope is the digest of the request's Authorization, so that two users of one
gateway never share a brief. Reads the body of a metered call last, when all else is allowed; a websocket's model stands
in its query.
"""

from __future__ import annotations

import asyncio
import hashlib

from gateway.core.access import DEFAULT_CLIENT, Directory, decide_call, decide_model, decide_socket, scope_of
from gateway.core.routing.azure import with_model
from gateway.core.wire.headers import without_credentials
from gateway.core.wire.overrides import read_overrides
from gateway.core.wire.paths import endpoint_of
from gateway.core.wire.prefix import PrefixMemo
from gateway.core.wire.request import (
    READ_BY_STAGES,
    Endpoint,
    MeteredRequest,
    kind_of_body,
    parse_after,
    parse_metered,
)
from gateway.core.wire.upgrade import model_of_query, with_plain_key
from gateway.exchange import Client, Exchange

_PARSE_INLINE_BYTES = 262_144
"""Bodies up to this size are parsed on the event loop: about 0.2 ms."""
_UNREAD = frozenset({Endpoint.PASSTHROUGH, Endpoint.SESSIONS, Endpoint.MODELS})
_SHARED = Client(DEFAULT_CLIENT, scope_of(DEFAULT_CLIENT))


class IdentifyStage:
    """Writes `client`, `overrides`, and `request` of a metered call.

    Args:
        prefixes: what was read of earlier bodies.
        directory: of clients; None where none are configured.
        has_own_keys: without a directory, whether clients bring keys that tell them apart.
    """

    def __init__(self, prefixes: PrefixMemo, directory: Directory | None = None, *, has_own_keys: bool = True) -> None:
        self._prefixes = prefixes
        self._directory = directory
        self._has_own_keys = has_own_keys

    async def __call__(self, exchange: Exchange) -> None:
        if exchange.endpoint is Endpoint.REALTIME:
            exchange.headers = with_plain_key(exchange.headers)
        if self._directory is not None:
            self._recognise(exchange, self._directory)
        elif self._has_own_keys:
            credentials = exchange.header("authorization") or exchange.header("api-key") or ""
            if other := exchange.header("x-api-key"):
                credentials += "\0" + other  # it passes to upstreams too, and may be all that tells two users apart
            scope = hashlib.sha256(credentials.encode("utf-8", "surrogateescape")).digest()
            exchange.client = Client(DEFAULT_CLIENT, scope)
        else:
            exchange.client = _SHARED
        await self._read(exchange)

    def _recognise(self, exchange: Exchange, directory: Directory) -> None:
        found = directory.identify(exchange.headers, exchange.peer)
        exchange.client = Client(found.name, found.scope, found.grants)
        if refusal := decide_call(exchange.endpoint, exchange.headers, found):
            raise refusal
        exchange.headers = without_credentials(exchange.headers)

    async def _read(self, exchange: Exchange) -> None:
        assert exchange.client is not None
        if exchange.endpoint in _UNREAD:
            return
        if exchange.endpoint is Endpoint.REALTIME:
            exchange.request = _read_query(exchange, exchange.client)
            return
        exchange.overrides = read_overrides(exchange.headers)
        if exchange.endpoint in READ_BY_STAGES:
            return
        body = await exchange.inbound.read()
        if exchange.deployment:
            body = with_model(body, exchange.deployment)
        if exchange.endpoint is Endpoint.CHAT and (beginning := self._prefixes.find(body)):
            exchange.request = parse_after(body, beginning)
        if exchange.request is None:
            is_long = len(body) > _PARSE_INLINE_BYTES
            parsing = asyncio.to_thread(_parse, exchange.endpoint, body) if is_long else None
            exchange.request = await parsing if parsing else _parse(exchange.endpoint, body)
        if refusal := decide_model(exchange.request.model, exchange.client.grants):
            raise refusal


def _read_query(exchange: Exchange, client: Client) -> MeteredRequest | None:
    """What is known of a websocket: its model, if it names one."""
    model = model_of_query(exchange.target)
    is_metered = endpoint_of("POST", exchange.path) is not Endpoint.PASSTHROUGH
    if refusal := decide_socket(model, client.grants, is_metered=is_metered):
        raise refusal
    return MeteredRequest(Endpoint.REALTIME, model, b"", {}) if model is not None else None


def _parse(endpoint: Endpoint, body: bytes) -> MeteredRequest:
    if endpoint is Endpoint.TOKENS_COUNT:
        endpoint = kind_of_body(body)
    elif endpoint is Endpoint.INPUT_TOKENS:
        endpoint = Endpoint.RESPONSES
    return parse_metered(endpoint, body)

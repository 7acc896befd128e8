"""Calls that the gateway makes on a request's account: to whom, with whose key, and the answer read whole.

An endpoint of its own gets its own key or none; the request's own upstream gets its key, or else the client's, for this
one call and nowhere else.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace

from gateway.core.routing.aliases import as_known_to
from gateway.core.routing.azure import azure_target
from gateway.core.routing.routes import Route
from gateway.core.wire.headers import Headers, credential
from gateway.exchange import Exchange
from gateway.ports import Upstream, UpstreamCall

_CREDENTIALS = frozenset({"authorization", "api-key", "x-api-key", "openai-organization", "openai-project"})


def side_headers(exchange: Exchange | None, route: Route, *, is_own_upstream: bool) -> Headers:
    """The headers of such a call.

    Args:
        exchange: on whose account; None for nobody's.
        route: where to.
        is_own_upstream: the route is one of the request's own.
    """
    headers: Headers = [("Content-Type", "application/json"), ("Accept-Encoding", "identity")]
    if route.api_key:
        headers.append(credential(route.api_key, route.key_header))
    elif is_own_upstream and exchange is not None:
        headers += [(name, value) for name, value in exchange.headers if name.lower() in _CREDENTIALS]
    return headers


def known_there(call: UpstreamCall, model: str) -> UpstreamCall:
    """The call with the name and the path by which its upstream knows the model."""
    route = call.route
    if not isinstance(call.body, bytes) or not (route.aliases or route.azure_version):
        return call
    call = replace(call, body=as_known_to(route, model, call.body))
    if route.azure_version:
        call = replace(call, target=azure_target(call.target, route.known_as(model), route.azure_version))
    return call


async def ask(upstream: Upstream, call: UpstreamCall, max_bytes: int) -> tuple[int, bytes]:
    """The answer's status and body; of a body beyond all measure, nothing.

    Raises:
        UpstreamFault: there was no whole answer.
    """
    answer = await upstream.send(call)
    try:
        body = bytearray()
        async with aclosing(answer.chunks()) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > max_bytes:
                    return answer.status, b""
        return answer.status, bytes(body)
    finally:
        answer.close()

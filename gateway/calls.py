"""A request as one upstream is to see it: its path, its key, its name for the model."""

from __future__ import annotations

from collections.abc import AsyncIterator

from gateway.core.routing.aliases import as_known_to
from gateway.core.routing.azure import azure_target
from gateway.core.routing.routes import Route
from gateway.core.wire.body import ask_for_usage, object_spans, splice
from gateway.core.wire.headers import Headers, forwardable_request_headers
from gateway.exchange import Exchange
from gateway.ports import UpstreamCall

API_PREFIX = "/v1"


def call_of(exchange: Exchange, route: Route, *, asks_for_usage: bool) -> UpstreamCall:
    """The call of one upstream.

    Args:
        exchange: whose request it is.
        route: the upstream.
        asks_for_usage: of a stream whose client does not ask for it.
    """
    request = exchange.request
    body: bytes | AsyncIterator[bytes] | None
    if request is not None:
        body = exchange.prompt if exchange.prompt is not None else request.body
        if asks_for_usage:
            spans = request.spans if exchange.prompt is None else object_spans(body)
            body = splice(body, [ask_for_usage(body, spans)])
        if route.aliases:
            body = as_known_to(route, request.model, body)
    elif exchange.small_body is not None:
        body = exchange.small_body
    else:
        body = exchange.inbound.stream() if exchange.inbound.has_body else None
    headers = upstream_headers(exchange, route, is_metered=request is not None)
    if request is None and exchange.small_body is None and (length := exchange.header("content-length")) is not None:
        headers.append(("Content-Length", length))
    target = exchange.target.removeprefix(API_PREFIX)
    if route.azure_version:
        model = request.model if request is not None else exchange.deployment
        target = azure_target(target, route.known_as(model), route.azure_version)
    timeouts = route.timeouts_for(request.model if request is not None else "")
    return UpstreamCall(route, exchange.method, target, headers, body, timeouts)


def upstream_headers(exchange: Exchange, route: Route, *, is_metered: bool) -> Headers:
    """The client's headers as this upstream may see them, with its own key.

    Args:
        exchange: whose request it is.
        route: the upstream.
        is_metered: the body is sent decoded, and the answer is read here: it must come unencoded.
    """
    return forwardable_request_headers(
        exchange.headers,
        is_metered=is_metered,
        upstream_key=route.api_key,
        request_id=exchange.request_id,
        key_header=route.key_header,
    )

"""`GET /v1/models` and `/v1/models/{model}`: what can be asked for here, over all upstreams.

With one upstream whose models are all served its own answer is passed on; otherwise each is asked, at the same time,
and those that do not answer are left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import quote, unquote

import msgspec

from gateway.calls import upstream_headers
from gateway.core.access import ALL_GRANTS, decide_model, model_not_found
from gateway.core.errors import Refusal
from gateway.core.routing.azure import azure_target
from gateway.core.routing.models import Listing, is_plain, merge_listings, read_listing
from gateway.core.routing.routes import Route, routes_for
from gateway.core.wire.headers import Headers
from gateway.exchange import Exchange
from gateway.ports import Upstream, UpstreamCall, UpstreamFault

_PATH = "/v1/models"
_MAX_BYTES = 8 * 1024 * 1024
_JSON: Headers = [("Content-Type", "application/json")]


class ListModelsStage:
    """Answers.

    Args:
        upstream: the way to upstreams.
        forward: passes an upstream's own answer on.
    """

    def __init__(self, upstream: Upstream, forward: Callable[[Exchange], Awaitable[None]]) -> None:
        self._upstream = upstream
        self._forward = forward

    async def __call__(self, exchange: Exchange) -> None:
        grants = exchange.client.grants if exchange.client is not None else ALL_GRANTS
        if is_plain(exchange.routes, grants):
            await self._forward(exchange)
            return
        name = unquote(exchange.path.removeprefix(_PATH).strip("/"))
        if name:
            await self._answer_one(exchange, name)
            return
        found = await asyncio.gather(*(self._ask(exchange, route, _PATH) for route in exchange.routes))
        listings = [
            Listing(route, listed)
            for route, body in zip(exchange.routes, found, strict=True)
            if body is not None and (listed := _listed(body)) is not None
        ]
        if not listings and not any(route.aliases for route in exchange.routes):
            names = ", ".join(route.name for route in exchange.routes)
            raise Refusal(502, "upstream_error", f"No upstream has said which models it serves. Asked: {names}.")
        known = [listing.route for listing in listings]
        listings += [Listing(route, ()) for route in exchange.routes if route not in known]
        listings.sort(key=lambda listing: exchange.routes.index(listing.route))
        await _answer(exchange, {"object": "list", "data": merge_listings(listings, grants)})

    async def _answer_one(self, exchange: Exchange, name: str) -> None:
        grants = exchange.client.grants if exchange.client is not None else ALL_GRANTS
        if refusal := decide_model(name, grants):
            raise refusal
        for route in routes_for(name, exchange.routes):
            known_as = route.known_as(name)
            path = exchange.path if known_as == name else f"{_PATH}/{quote(known_as, safe='')}"
            body = await self._ask(exchange, route, path)
            if body is not None and (described := _listed(b'{"data":[' + body + b"]}")):
                exchange.outcome.upstream = route.name
                await _answer(exchange, {**described[0], "id": name})
                return
        raise model_not_found(name)

    async def _ask(self, exchange: Exchange, route: Route, path: str) -> bytes | None:
        """The body of an upstream's answer; None where it fails, or says no."""
        target = path.removeprefix("/v1")
        if route.azure_version:
            target = azure_target(target, "", route.azure_version)
        call = UpstreamCall(route, "GET", target, upstream_headers(exchange, route, is_metered=True), None)
        exchange.outcome.attempts += 1
        try:
            answer = await self._upstream.send(call)
        except UpstreamFault:
            return None
        try:
            body = await answer.begin(_MAX_BYTES)
            return body if answer.status == 200 else None
        except UpstreamFault:
            return None
        finally:
            answer.close()


def _listed(body: bytes) -> list[dict[str, object]] | None:
    try:
        return read_listing(body)
    except ValueError:
        return None


async def _answer(exchange: Exchange, told: dict[str, object]) -> None:
    body = msgspec.json.encode(told)
    exchange.outcome.status = 200
    await exchange.outbound.start(200, _JSON, len(body))
    await exchange.outbound.end(body)

"""Stage 3: which upstreams may answer, in which order?

By priority; among equal ones a conversation always has the same order, and conversations are spread by weight. What
lives at one upstream only (a stored response, a file, a batch) is asked for there.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.access import allowed_routes, model_not_found
from gateway.core.errors import Refusal
from gateway.core.routing.balance import conversation_key, has_equals, order_by_weight
from gateway.core.routing.ids import ids_in_body, ids_in_path, ids_in_values
from gateway.core.routing.routes import Route, routes_for
from gateway.core.wire.request import Endpoint
from gateway.exchange import Exchange
from gateway.ports import IdMemory

_KEYS = ("previous_response_id", "conversation")
_SMALL_BYTES = 65_536
_MAX_MODELS = 1000
"""Model names that are remembered; clients may make up any number."""


class RouteStage:
    """Writes `routes`.

    Args:
        routes: every upstream, in configured order.
        ids: which upstream knows what; None where there is but one.
    """

    def __init__(self, routes: Sequence[Route], ids: IdMemory | None = None) -> None:
        self._routes = routes
        self._ids = ids
        self._has_equals = has_equals(routes)
        self._by_model: dict[str | None, Sequence[Route]] = {}

    async def __call__(self, exchange: Exchange) -> None:
        model = exchange.request.model if exchange.request else None
        exchange.routes = self._routes_for(model or None)
        if not exchange.routes:
            raise Refusal(
                404,
                "model_not_found",
                f"No upstream of this gateway serves the model {model!r}; `models` of an upstream says which it does.",
                param="model",
            )
        if exchange.client is not None:
            exchange.routes = allowed_routes(exchange.routes, exchange.client.grants)
            if not exchange.routes:
                raise model_not_found(model or "")
        if self._ids is not None and len(exchange.routes) > 1 and await self._is_at_home(exchange, self._ids):
            return
        if self._has_equals and exchange.request is not None and has_equals(exchange.routes):
            scope = exchange.client.scope if exchange.client is not None else b""
            key = conversation_key(exchange.request, scope, exchange.overrides.session)
            exchange.routes = order_by_weight(exchange.routes, key or exchange.request_id.encode())

    async def _is_at_home(self, exchange: Exchange, ids: IdMemory) -> bool:
        """Whether it names what lives at one of its upstreams; then that is the only one."""
        named = await _ids_named(exchange)
        name = await ids.upstream_of(named) if named else None
        home = [route for route in exchange.routes if route.name == name]
        exchange.routes = home or exchange.routes
        return bool(home)

    def _routes_for(self, model: str | None) -> Sequence[Route]:
        found = self._by_model.get(model)
        if found is None:
            found = routes_for(model, self._routes)
            if len(self._by_model) < _MAX_MODELS:
                self._by_model[model] = found
        return found


async def _ids_named(exchange: Exchange) -> list[str]:
    """Ids in the path, and in a body that says what it is about."""
    request = exchange.request
    if request is not None:
        spans = [request.spans[key] for key in _KEYS if key in request.spans]
        return ids_in_values(request.body[span.start : span.end] for span in spans)
    named = ids_in_path(exchange.path)
    if not named and exchange.endpoint is Endpoint.PASSTHROUGH and _is_small_json(exchange):
        exchange.small_body = await exchange.inbound.read()
        named = ids_in_body(exchange.small_body)
    return named


def _is_small_json(exchange: Exchange) -> bool:
    length = exchange.header("content-length") or ""
    is_small = length.isdigit() and 0 < int(length) <= _SMALL_BYTES
    is_json = "json" in (exchange.header("content-type") or "").lower()
    return is_small and is_json and exchange.header("content-encoding") is None

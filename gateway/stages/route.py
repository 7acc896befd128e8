"""Stage 3: which upstreams may answer, in which order?

By priority; among equal ones a conversation always has the same order, and conversations are spread by weight.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.access import allowed_routes, model_not_found
from gateway.core.errors import Refusal
from gateway.core.routing.balance import conversation_key, has_equals, order_by_weight
from gateway.core.routing.routes import Route, routes_for
from gateway.exchange import Exchange

_MAX_MODELS = 1000
"""Model names that are remembered; clients may make up any number."""


class RouteStage:
    """Writes `routes`.

    Args:
        routes: every upstream, in configured order.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = routes
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
        if self._has_equals and exchange.request is not None and has_equals(exchange.routes):
            scope = exchange.client.scope if exchange.client is not None else b""
            key = conversation_key(exchange.request, scope, exchange.overrides.session)
            exchange.routes = order_by_weight(exchange.routes, key or exchange.request_id.encode())

    def _routes_for(self, model: str | None) -> Sequence[Route]:
        found = self._by_model.get(model)
        if found is None:
            found = routes_for(model, self._routes)
            if len(self._by_model) < _MAX_MODELS:
                self._by_model[model] = found
        return found

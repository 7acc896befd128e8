"""Stage 3: which upstreams may answer, in which order?"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.errors import Refusal
from gateway.core.routing.routes import Route, routes_for
from gateway.exchange import Exchange


class RouteStage:
    """Writes `routes`.

    Args:
        routes: every upstream, in configured order.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = routes

    async def __call__(self, exchange: Exchange) -> None:
        model = exchange.request.model if exchange.request else None
        exchange.routes = routes_for(model or None, self._routes)
        if not exchange.routes:
            raise Refusal(
                404,
                "model_not_found",
                f"No upstream of this gateway serves the model {model!r}; `models` of an upstream says which it does.",
                param="model",
            )

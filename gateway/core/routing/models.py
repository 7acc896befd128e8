"""Which models a client is told of: those of all upstreams that it may use, under the names by which it may ask.

Source of the forms: OpenAI API reference, models (2026-01).

Invariants, each with a test of its own:
  1. A model is listed once, and only if a request for it would find an upstream.
  2. What an upstream says of a model is passed on, but for the name of one that it knows by another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from gateway.core.access import Grants, decide_model
from gateway.core.routing.routes import Route, routes_for


class Listing(NamedTuple):
    """What one upstream lists: each model as it describes it."""

    route: Route
    models: Sequence[Mapping[str, Any]]


def read_listing(body: bytes) -> list[dict[str, Any]]:
    """The models in an upstream's answer, in its order; what is no model's description is left out.

    Raises:
        ValueError: it is no list of models.
    """
    try:
        told = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError("no JSON") from error
    data = told.get("data") if isinstance(told, dict) else told
    if not isinstance(data, list):
        raise ValueError("no list of models")
    return [model for model in data if isinstance(model, dict) and isinstance(model.get("id"), str)]


def merge_listings(listings: Sequence[Listing], grants: Grants) -> list[dict[str, Any]]:
    """The models of all upstreams.

    Args:
        listings: in order of priority; the first one's description of a model counts.
        grants: what the client may use.
    """
    merged: dict[str, dict[str, Any]] = {}
    for route, models in listings:
        by_name = {model["id"]: model for model in models}
        for name, sent in route.aliases:
            usual = {"object": "model", "created": 0, "owned_by": route.name}
            merged.setdefault(name, {**by_name.get(sent, usual), "id": name})
        for name, model in by_name.items():
            if routes_for(name, [route]):
                merged.setdefault(name, dict(model))
    return [model for name, model in merged.items() if decide_model(name, grants) is None]


def is_plain(routes: Sequence[Route], grants: Grants) -> bool:
    """Whether the one upstream's own list is what there is."""
    return len(routes) == 1 and not routes[0].aliases and routes[0].models == ("*",) and grants.models == ("*",)

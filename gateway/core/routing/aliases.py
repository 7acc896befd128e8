"""Under which name an upstream knows a model: the one change to a body between our own bytes and the upstream's.

Only the value of the top-level `model` is replaced; the answer is passed on with whatever name the upstream gives.

Invariants, each with a test of its own:
  1. No byte but the model's name changes, and none at all where the upstream has no alias for it.
  2. An alias is looked up once: what it leads to is not looked up again.
"""

from __future__ import annotations

import msgspec

from gateway.core.routing.routes import Route
from gateway.core.wire.body import Edit, object_spans, splice


def rename_model(body: bytes, model: str) -> bytes:
    """The body of a request for another model.

    Args:
        body: a JSON object without duplicate keys, which names a model.
        model: the other.
    """
    span = object_spans(body)["model"]
    return splice(body, [Edit(span.start, span.end, msgspec.json.encode(model))])


def as_known_to(route: Route, model: str, body: bytes) -> bytes:
    """The body as this upstream takes it.

    Args:
        route: the upstream.
        model: as the body names it.
        body: as for `rename_model`.
    """
    sent = alias_of(route, model)
    return body if sent is None else rename_model(body, sent)


def alias_of(route: Route, model: str) -> str | None:
    """This upstream's own name for a model, None where it has none."""
    return next((sent for name, sent in route.aliases if name == model), None)

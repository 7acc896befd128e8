"""Which of several equal upstreams a conversation goes to: always the same, so that its provider's cache stays warm.

Rendezvous hashing: each upstream draws a number from the conversation's key and its own name, stretched by its weight,
and the smallest wins (Thaler and Ravishankar 1998; weighted as in Schindelhauer and Schomaker 2005).

Invariants, each with a test of its own:
  1. The same conversation has the same order, however the upstreams are listed.
  2. Without one upstream only its own conversations move.
  3. Over many conversations each has a share by its weight.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence

from gateway.core.routing.routes import Route
from gateway.core.wire.request import MeteredRequest

_MAX_KEY_BYTES = 4096
_LOOKED_AT = 8
_is_pinned = re.compile(rb'"role"\s*:\s*"(?:system|developer)"').search


def conversation_key(request: MeteredRequest, scope: bytes, session: str | None) -> bytes | None:
    """What a conversation is known by from its first request to its last; None where it has no beginning.

    That is its session's name, or its first message that is not a system message: those may hold the time.

    Args:
        request: any of its requests.
        scope: the client's.
        session: as the request names it, or None.
    """
    if session is not None:
        return scope + b"\0" + session.encode("utf-8", "surrogatepass")
    for raw in request.messages[:_LOOKED_AT]:
        head = bytes(memoryview(raw)[:_MAX_KEY_BYTES])
        if not _is_pinned(head):
            return scope + head
    return None


def order_by_weight(routes: Sequence[Route], key: bytes) -> list[Route]:
    """The routes by priority, and among equal ones in the order in which a conversation asks them."""
    return sorted(routes, key=lambda route: (route.priority, _draw(route, key)))


def _draw(route: Route, key: bytes) -> float:
    digest = hashlib.blake2b(route.name.encode() + b"\0" + key, digest_size=8).digest()
    share = (int.from_bytes(digest, "big") + 1) / 2**64
    return -math.log(share) / route.weight


def has_equals(routes: Sequence[Route]) -> bool:
    """Whether two of them have one priority, so that there is something to choose."""
    return len({route.priority for route in routes}) < len(routes)

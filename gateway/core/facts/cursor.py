"""Where a client goes on in a list: a position that holds for one question of one client, and for no other.

It is no secret and gives nothing that the client could not ask for; but one that was made up, changed, cut, or meant
for another question, memory or client is noticed, so that nobody takes a wrong page for the next one.

Invariants, each with a test of its own:
  1. A cursor comes back as the position that it was made of, for the same scope and question.
  2. Any other text, scope or question is a refusal.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

import msgspec

from gateway.core.facts.memory import Position, Scope, Wanted
from gateway.core.facts.wire_json import wrong_field

_DIGEST_BYTES = 16
_MAX_CHARS = 512


def render_cursor(scope: Scope, wanted: Wanted, position: Position) -> str:
    """The position as a client holds it."""
    packed = msgspec.msgpack.encode(position)
    return base64.urlsafe_b64encode(_digest(scope, wanted, packed) + packed).decode().rstrip("=")


def parse_cursor(scope: Scope, wanted: Wanted, cursor: str) -> Position:
    """The position that a client goes on from.

    Raises:
        Refusal: 400, it is none of this question.
    """
    try:
        data = base64.urlsafe_b64decode(cursor[:_MAX_CHARS].encode("ascii") + b"==")
    except (ValueError, binascii.Error):
        data = b""
    digest, packed = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    if packed and digest == _digest(scope, wanted, packed):
        position = msgspec.msgpack.decode(packed, type=Position)
        if render_cursor(scope, wanted, position) == cursor:  # base64 has many spellings
            return position
    raise wrong_field("cursor", "a next_cursor of this very query, memory and client", "another text")


def _digest(scope: Scope, wanted: Wanted, packed: bytes) -> bytes:
    asked = msgspec.msgpack.encode((scope.owner, scope.name, msgspec.to_builtins(wanted), packed))
    return hashlib.sha256(asked).digest()[:_DIGEST_BYTES]

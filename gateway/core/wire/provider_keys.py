"""Providers' keys, masked in what clients are told: some upstreams quote the key that they refuse.

Only errors of metered calls are looked through, whose bodies are held whole: an answer that succeeded does not quote
its key, and looking for it in streams would hold bytes back.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.core.wire.headers import Headers

MASK = "[hidden]"
_MIN_CHARS = 8
"""Shorter "keys" are words that local servers are given, such as `EMPTY` or `x`, and no secrets."""


def mask_body(body: bytes, keys: Iterable[str]) -> bytes:
    """The body with every occurrence of a key masked."""
    for key in keys:
        if len(key) >= _MIN_CHARS:
            body = body.replace(key.encode("utf-8", "surrogateescape"), MASK.encode())
    return body


def mask_headers(headers: Headers, keys: Iterable[str]) -> Headers:
    """The headers with every occurrence of a key in a value masked."""
    for key in keys:
        if len(key) >= _MIN_CHARS and any(key in value for _, value in headers):
            headers = [(name, value.replace(key, MASK)) for name, value in headers]
    return headers

"""The digest that keys what was counted: 128 bits, fast, for this process only.

The seed is random, so nobody outside can make two messages collide; what is stored or shared is keyed by SHA-256.
"""

from __future__ import annotations

import os

import msgspec
import xxhash

_SEED = int.from_bytes(os.urandom(8), "big")


def message_digest(raw: msgspec.Raw | bytes) -> bytes:
    """128 bits over bytes, for this process only."""
    return xxhash.xxh3_128_digest(memoryview(raw), _SEED)

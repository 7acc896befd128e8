"""The digest that keys what was counted: 128 bits, fast, for this process only.

The seed is random, so nobody outside can make two messages collide; what is stored or shared is keyed by SHA-256.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec
import xxhash

_SEED = int.from_bytes(os.urandom(8), "big")


def message_digests(raws: Sequence[msgspec.Raw | bytes | memoryview], salt: int) -> list[bytes]:
    """128 bits over the bytes of each, for this process only; other salts give other digests."""
    digest, seed = xxhash.xxh3_128_digest, _SEED ^ salt
    return [digest(raw, seed) for raw in raws]

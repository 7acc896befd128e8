"""What is decided around whoever decodes: by what a decoding is known, whether to try again, and when.

Invariants, each with a test of its own:
  1. Two decodings share a key only if document, region, fidelity and backend are the same.
  2. What will fail again is not tried again; pauses double, and never pass the longest.
"""

from __future__ import annotations

import hashlib

from gateway.core.vision.document import Fidelity

MAX_PAUSE_S = 10.0


def decoding_key(document_hash: str, region_id: str, fidelity: Fidelity, version: str) -> bytes:
    """By what a decoding is known: each part with its length before it."""
    joined = hashlib.sha256()
    for part in (document_hash, region_id, fidelity.value, version):
        data = part.encode("utf-8", "surrogatepass")
        joined.update(len(data).to_bytes(8) + data)
    return joined.digest()


def is_passing(status: int) -> bool:
    """Whether another try may be answered better than with this status."""
    return status >= 500 or status in (408, 429)


def pause_s(tries: int, unit_s: float, jitter: float) -> float:
    """Seconds before the next try: the unit, doubled each time, times 0.5 to 1.

    Args:
        tries: made so far, from 1.
        unit_s: of the first pause.
        jitter: 0 to 1.
    """
    return float(min(MAX_PAUSE_S, unit_s * 2.0 ** min(tries - 1, 32)) * (0.5 + 0.5 * jitter))

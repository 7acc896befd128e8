"""The C heap's free parts, given back to the system from time to time.

glibc gives back only what lies at the heap's end; between what lives on, much that is free stays resident after bursts.
Where the C library has no `malloc_trim` (musl), nothing is done.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable


def find_trim() -> Callable[[], object] | None:
    """What gives back free memory: some ms, without Python's lock; None where there is no such thing."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
    trim.argtypes = [ctypes.c_size_t]
    return lambda: trim(0)


async def trim_every(period_s: float) -> None:
    """Give back free memory, until cancelled."""
    trim = find_trim()
    while trim is not None:
        await asyncio.sleep(period_s)
        await asyncio.to_thread(trim)

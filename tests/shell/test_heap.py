"""Memory that is free goes back to the system, also where something lives on behind it."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from gateway.shell.heap import find_trim, trim_every

LITTERED = """
import resource, sys
from gateway.shell.heap import find_trim

def resident_kib():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1])

pieces = [bytes(3000) for _ in range(30_000)]
kept = pieces[::1000]
del pieces
before = resident_kib()
find_trim()()
print(before - resident_kib(), len(kept))
"""


@pytest.mark.skipif(find_trim() is None, reason="this C library has no malloc_trim")
def test_what_is_free_is_given_back() -> None:
    """90 MB in small pieces, of which a few live on here and there."""
    code = [sys.executable, "-c", LITTERED]
    given_back_kib = int(subprocess.run(code, capture_output=True, text=True, check=True).stdout.split()[0])

    assert given_back_kib > 30_000


@pytest.mark.asyncio
async def test_it_goes_on_until_cancelled() -> None:
    """And ends at once where there is nothing to call."""
    trimming = asyncio.create_task(trim_every(0.001))
    await asyncio.sleep(0.02)
    is_going_on = not trimming.done()
    trimming.cancel()

    assert is_going_on is (find_trim() is not None)

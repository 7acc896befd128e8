"""What counting holds in memory: the process as it loads, and the cache beside its own estimate."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc

from gateway.core.context.count_caches import FACTS_ENTRY_BYTES, ITEM_ENTRY_BYTES, SECTION_ENTRY_BYTES
from gateway.core.context.facts import MessageFacts
from gateway.core.context.items import LearnedItem
from gateway.core.tokens.cache import TwoGenerationCache
from gateway.core.tokens.items import CountedItem, Kind

CACHE_BYTES = 16 * 2**20
_MEASURED = """
import time
def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))
before, began = resident(), time.perf_counter()
import tiktoken
imported = time.perf_counter()
from gateway.shell.tokens.rank_files import load_rank_file
kept = [load_rank_file(name) for name in {names!r}]
print(resident() - before, (time.perf_counter() - imported) * 1e3, (imported - began) * 1e3)
"""


def memory_rows() -> list[list[str]]:
    """Encodings in a fresh process each, then caches that were filled three times over."""
    rows = [row for names in (["o200k_base"], ["o200k_base", "cl100k_base"]) for row in encoding_rows(names)]
    for name, entry_bytes, make in (
        ("facts of a text message", FACTS_ENTRY_BYTES, lambda number: facts(number, 0)),
        ("facts of a tool call", FACTS_ENTRY_BYTES, lambda number: facts(number, 1)),
        ("a Responses item", ITEM_ENTRY_BYTES, item),
        ("a section's tokens", SECTION_ENTRY_BYTES, lambda number: 1000 + number),
    ):
        estimated, measured = fill(entry_bytes, make)
        rows.append([f"cache full of {name}, by its own estimate", f"{estimated / 1e6:.1f}"])
        rows.append([f"cache full of {name}, at most measured", f"{measured / 1e6:.1f}"])
    return rows


def encoding_rows(names: list[str]) -> list[list[str]]:
    """What a fresh process grows by; Linux only."""
    if not os.path.exists("/proc/self/status"):
        return []
    code = _MEASURED.format(names=names)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kilobytes, load_ms, import_ms = map(float, done.stdout.split())
    loaded = f"tiktoken and {' and '.join(names)} (import {import_ms:.0f} ms, load {load_ms:.0f} ms)"
    return [[loaded, f"{kilobytes * 1024 / 1e6:.1f}"]]


def facts(number: int, calls: int) -> MessageFacts:
    """As the count stage keeps them."""
    ids = tuple(f"call_{number:023d}{call}" for call in range(calls))
    return MessageFacts("assistant" if calls else "user", 1000 + number, os.urandom(32), ids)


def item(number: int) -> LearnedItem:
    """A call, as the count stage keeps it."""
    return LearnedItem(CountedItem(1000 + number, Kind.CALL), facts(number, 1))


def fill(entry_bytes: int, make: object) -> tuple[int, int]:
    """The most that a cache told to hold, and did hold, while it was filled three times over."""
    assert callable(make)
    tracemalloc.start()
    cache: TwoGenerationCache[object] = TwoGenerationCache(CACHE_BYTES, entry_bytes)
    entries = CACHE_BYTES // entry_bytes
    estimated = measured = 0
    for number in range(3 * entries):
        cache.put(os.urandom(16), make(number))
        if number % (entries // 100) == 0:
            estimated = max(estimated, cache.held_bytes)
            measured = max(measured, tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    return estimated, measured

"""`ports.AnswerStore` in this process's memory, through aiocache's memory backend.

aiocache keeps the values and lets each go when its time is over. It bounds neither how many there are nor how large
they are, so a ledger of sizes beside it does; what was not used for longest goes first.

Invariants, each with a test of its own:
  1. Never more entries, and never more bytes, than the bounds.
  2. What has expired is neither found nor counted.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable

from aiocache import SimpleMemoryCache

from gateway.core.cache.answer import Record, read_record, write_record

_ENTRY_BYTES = 600
"""What an entry costs beside its value: key, timer, ledger."""


class MemoryAnswers:
    """Answers in memory.

    Args:
        ttl_s: how long an answer may be used.
        max_entries: bound of their number.
        max_bytes: bound of their size.
        clock: seconds, never going back, as the event loop's.
    """

    def __init__(
        self, ttl_s: float, max_entries: int, max_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ttl_s = ttl_s
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._clock = clock
        self._cache = SimpleMemoryCache(timeout=None)
        self._sizes: OrderedDict[bytes, tuple[int, float]] = OrderedDict()
        self._held_bytes = 0
        self.evicted = 0
        self.faults: Counter[str] = Counter()

    @property
    def held_bytes(self) -> int:
        """Size of what may still be used."""
        self._drop_expired()
        return self._held_bytes

    async def open(self) -> None:
        """Nothing is to be opened."""

    async def close(self) -> None:
        """Let all go, with their timers."""
        for key in list(self._sizes):
            await self._drop(key)

    async def get(self, key: bytes) -> Record | None:
        known = self._sizes.get(key)
        if known is None:
            return None
        value = await self._cache.get(key) if known[1] > self._clock() else None
        if value is None:
            await self._drop(key)
            return None
        self._sizes.move_to_end(key)
        return read_record(value)

    async def put(self, key: bytes, record: Record) -> None:
        value = write_record(record)
        size = len(value) + _ENTRY_BYTES
        await self._drop(key)
        if size > self._max_bytes:
            self.faults["full"] += 1
            return
        self._drop_expired()
        while len(self._sizes) >= self._max_entries or self._held_bytes + size > self._max_bytes:
            await self._drop(next(iter(self._sizes)))
            self.evicted += 1
        self._sizes[key] = (size, self._clock() + self._ttl_s)
        self._held_bytes += size
        await self._cache.set(key, value, ttl=self._ttl_s)

    async def _drop(self, key: bytes) -> None:
        known = self._sizes.pop(key, None)
        if known is not None:
            self._held_bytes -= known[0]
            await self._cache.delete(key)

    def _drop_expired(self) -> None:
        """Take what has expired out of the ledger; aiocache's own timers let the values go."""
        now_s = self._clock()
        for key in [key for key, (_, until_s) in self._sizes.items() if until_s <= now_s]:
            self._held_bytes -= self._sizes.pop(key)[0]

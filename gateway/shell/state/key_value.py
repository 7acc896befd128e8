"""`ports.StateStore` in this process's memory, and what every such store shares.

Invariants, each with a test of its own that every implementation passes:
  1. What is held never exceeds `max_bytes`; of what must go, the least recently used goes first.
  2. What has expired is not found, not listed, and does not stand in the way of `put_if_absent`.
  3. Spaces do not see each other, and neither do keys of which one begins like the other.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Protocol

from gateway.ports import StateStore

ENTRY_BYTES = 120
"""Charged for each entry beside its key and value."""


class ManagedStore(StateStore, Protocol):
    """A store with what its owner needs: a beginning, an end, and figures.

    Attributes:
        held_bytes: size of all entries.
        evicted: entries that made room for others.
        faults: operations that were lost, by reason.
    """

    held_bytes: int
    evicted: int
    faults: Counter[str]

    async def open(self) -> None:
        """Get ready; trouble is logged, not raised."""

    async def close(self) -> None:
        """Finish what is pending and let go."""


def size_of(space: str, key: bytes, value: bytes) -> int:
    """What an entry counts against the bound."""
    return ENTRY_BYTES + len(space) + len(key) + len(value)


def after_prefix(prefix: bytes) -> bytes | None:
    """The first key that is greater than all keys that begin so; None where there is no such key."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None


class MemoryStateStore:
    """`ports.StateStore` that ends with the process.

    Args:
        max_bytes: bound of everything together.
        clock: seconds, for expiry.
    """

    def __init__(self, max_bytes: int, clock: Callable[[], float] = time.time) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._entries: OrderedDict[tuple[str, bytes], tuple[bytes, float | None]] = OrderedDict()
        self.held_bytes = 0
        self.evicted = 0
        self.faults: Counter[str] = Counter()

    async def open(self) -> None:
        """Nothing is to be opened."""

    async def close(self) -> None:
        """Nothing is to be closed."""

    async def get(self, space: str, key: bytes) -> bytes | None:
        return self._find(space, key)

    async def get_many(self, space: str, keys: Sequence[bytes]) -> list[bytes | None] | None:
        return [self._find(space, key) for key in keys]

    async def put(self, space: str, key: bytes, value: bytes, ttl_s: float | None = None) -> None:
        self._drop(space, key)
        size = size_of(space, key, value)
        if size > self._max_bytes:
            self.faults["full"] += 1
            return
        self._entries[space, key] = (value, None if ttl_s is None else self._clock() + ttl_s)
        self.held_bytes += size
        if self.held_bytes > self._max_bytes:
            self._make_room()

    async def put_if_absent(self, space: str, key: bytes, value: bytes, ttl_s: float | None = None) -> bytes:
        present = self._find(space, key)
        if present is not None:
            return present
        await self.put(space, key, value, ttl_s)
        return value

    async def prolong(self, space: str, keys: Sequence[bytes], ttl_s: float) -> None:
        for key in keys:
            value = self._find(space, key)
            if value is not None:
                self._entries[space, key] = (value, self._clock() + ttl_s)

    async def delete(self, space: str, key: bytes) -> None:
        self._drop(space, key)

    async def delete_prefix(self, space: str, prefix: bytes) -> int:
        found = [key for inside, key in self._entries if inside == space and key.startswith(prefix)]
        for key in found:
            self._drop(space, key)
        return len(found)

    async def scan(self, space: str, prefix: bytes = b"") -> AsyncGenerator[tuple[bytes, bytes], None]:
        for key in sorted(key for inside, key in self._entries if inside == space and key.startswith(prefix)):
            value = self._find(space, key)
            if value is not None:
                yield key, value

    def _find(self, space: str, key: bytes) -> bytes | None:
        found = self._entries.get((space, key))
        if found is None:
            return None
        value, expires_s = found
        if expires_s is not None and expires_s <= self._clock():
            self._drop(space, key)
            return None
        self._entries.move_to_end((space, key))
        return value

    def _drop(self, space: str, key: bytes) -> None:
        found = self._entries.pop((space, key), None)
        if found is not None:
            self.held_bytes -= size_of(space, key, found[0])

    def _make_room(self) -> None:
        now_s = self._clock()
        expired = [place for place, (_, until_s) in self._entries.items() if until_s is not None and until_s <= now_s]
        for space, key in expired:
            self._drop(space, key)
        while self.held_bytes > self._max_bytes:
            space, key = next(iter(self._entries))
            self._drop(space, key)
            self.evicted += 1

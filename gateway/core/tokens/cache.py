"""What was counted once, kept for the next time the same bytes come: a chat resends its history.

Bounded by bytes, with two generations instead of a list of uses: a hit in the old one moves the entry to the young
one, and when the young one is full the old one is dropped whole. One dict look-up a hit, no bookkeeping beside.

Invariants, each with a test of its own:
  1. It never holds more than `max_bytes`, by its own estimate of an entry.
  2. An entry used since the last turn of generations survives the next.
  3. What it gives back is the value that was last put.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

V = TypeVar("V")


class TwoGenerationCache(Generic[V]):
    """A bounded map from digest to value.

    Args:
        max_bytes: bound of both generations together.
        entry_bytes: estimated size of one entry with its key and its places in a dictionary.
        extra_bytes: what a value takes beside, for values that can be of any size; computed when one is put.
    """

    __slots__ = (
        "_entry_bytes",
        "_extra_bytes",
        "_max_young_bytes",
        "_old",
        "_old_bytes",
        "_young",
        "_young_bytes",
        "hits",
        "misses",
    )

    def __init__(self, max_bytes: int, entry_bytes: int, extra_bytes: Callable[[V], int] | None = None) -> None:
        self._max_young_bytes = max_bytes // 2
        self._entry_bytes = entry_bytes
        self._extra_bytes = extra_bytes
        self._young: dict[bytes, V] = {}
        self._old: dict[bytes, V] = {}
        self._young_bytes = 0
        self._old_bytes = 0
        self.hits = 0
        self.misses = 0

    @property
    def held_bytes(self) -> int:
        """What it holds now, by its own estimate; an entry that moved to the young generation counts twice."""
        return self._young_bytes + self._old_bytes

    def get(self, key: bytes) -> V | None:
        """The value, or None."""
        found = self._young.get(key)
        if found is not None:
            self.hits += 1
            return found
        found = self._old.get(key)
        if found is None:
            self.misses += 1
            return None
        self.hits += 1
        self.put(key, found)
        return found

    def get_many(self, keys: Sequence[bytes]) -> list[V | None]:
        """The value or None for each key, in order."""
        young = self._young
        found = [young.get(key) for key in keys]
        absent = [place for place, value in enumerate(found) if value is None]
        self.hits += len(found) - len(absent)
        for place in absent:
            found[place] = self.get(keys[place])
        return found

    def put(self, key: bytes, value: V) -> None:
        """Keep a value; the eldest go when there is no room, and one that is bigger than half of it is not kept."""
        before = self._young.pop(key, None)
        if before is not None:
            self._young_bytes -= self._size(before)
        size = self._size(value)
        if size > self._max_young_bytes:
            stale = self._old.pop(key, None)
            self._old_bytes -= 0 if stale is None else self._size(stale)
            return
        if self._young_bytes + size > self._max_young_bytes:
            self._old, self._young = self._young, {}
            self._old_bytes, self._young_bytes = self._young_bytes, 0
        self._young[key] = value
        self._young_bytes += size

    def _size(self, value: V) -> int:
        return self._entry_bytes + (self._extra_bytes(value) if self._extra_bytes else 0)

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

"""What was counted once, kept for the next time the same bytes come: a chat resends its history.

Bounded by bytes, with two generations instead of a list of uses: a hit in the old one moves the entry to the young
one, and when the young one is full the old one is dropped whole. One dict look-up a hit, no bookkeeping beside.

Invariants, each with a test of its own:
  1. It never holds more than `max_bytes`, by its own estimate of an entry.
  2. An entry used since the last turn of generations survives the next.
  3. What it gives back is the value that was last put.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

V = TypeVar("V")


class TwoGenerationCache(Generic[V]):
    """A bounded map from digest to value.

    Args:
        max_bytes: bound of both generations together.
        entry_bytes: estimated size of one entry with its key.
    """

    __slots__ = ("_max_young", "_old", "_young", "hits", "misses")

    def __init__(self, max_bytes: int, entry_bytes: int) -> None:
        self._max_young = max_bytes // (2 * entry_bytes)
        self._young: dict[bytes, V] = {}
        self._old: dict[bytes, V] = {}
        self.hits = 0
        self.misses = 0

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
        """Keep a value; the eldest go when there is no room."""
        if not self._max_young:
            return
        if len(self._young) >= self._max_young and key not in self._young:
            self._old, self._young = self._young, {}
        self._young[key] = value

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

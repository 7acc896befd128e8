"""Briefs in this process's memory: bounded by bytes, the least recently used go first.

Invariants, each with a test of its own:
  1. What is held never exceeds `max_bytes`, except that the newest brief is always held.
  2. What was applied first for a key stays applied; a better brief never takes its place, and goes when it goes.
"""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict
from collections.abc import Sequence

from gateway.core.context.brief import Brief

_ENTRY_OVERHEAD_BYTES = 600
_QUOTE_OVERHEAD_BYTES = 100


class MemoryBriefStore:
    """`ports.BriefStore`.

    Args:
        max_bytes: bound of all briefs together, by an estimate of their size.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._applied: OrderedDict[bytes, tuple[bytes, Brief]] = OrderedDict()
        self._better: dict[bytes, Brief] = {}
        self._scopes: Counter[bytes] = Counter()
        self.held_bytes = 0
        self.hits = 0
        self.misses = 0
        self.writes = 0
        self.newest: Brief | None = None

    def is_empty(self, scope: bytes) -> bool:
        return scope not in self._scopes

    async def find(self, chain: Sequence[bytes]) -> Brief | None:
        for key in reversed(chain):
            found = self._applied.get(key)
            if found is not None:
                self._applied.move_to_end(key)
                self.hits += 1
                return found[1]
        self.misses += 1
        return None

    async def put_if_absent(self, scope: bytes, key: bytes, brief: Brief) -> Brief:
        present = self._applied.get(key)
        if present is not None:
            self._applied.move_to_end(key)
            return present[1]
        self._applied[key] = (scope, brief)
        self._scopes[scope] += 1
        self._took(brief)
        return brief

    async def find_better(self, key: bytes) -> Brief | None:
        return self._better.get(key)

    async def put_better(self, key: bytes, brief: Brief) -> None:
        if key in self._applied and key not in self._better:
            self._better[key] = brief
            self._applied.move_to_end(key)
            self._took(brief)

    def __len__(self) -> int:
        return len(self._applied)

    def _took(self, brief: Brief) -> None:
        self.held_bytes += _size_of(brief)
        self.writes += 1
        self.newest = brief
        while self.held_bytes > self._max_bytes and len(self._applied) > 1:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        key, (scope, brief) = self._applied.popitem(last=False)
        self.held_bytes -= _size_of(brief)
        if better := self._better.pop(key, None):
            self.held_bytes -= _size_of(better)
        self._scopes[scope] -= 1
        if not self._scopes[scope]:
            del self._scopes[scope]


def _size_of(brief: Brief) -> int:
    texts = [*(segment.body for segment in brief.segments), *(quote.text for quote in brief.ledger)]
    return _ENTRY_OVERHEAD_BYTES + sum(_QUOTE_OVERHEAD_BYTES + sys.getsizeof(text) for text in texts)

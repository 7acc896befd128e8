"""Briefs in this process's memory: bounded by bytes, the least recently used go first.

Invariants, each with a test of its own:
  1. What is held never exceeds `max_bytes`, except that the newest brief is always held.
  2. What was applied first for a key stays applied; one that waits never takes its place, and goes when it goes.
"""

from __future__ import annotations

import enum
import sys
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.core.context.brief import Brief
from gateway.core.context.shorten import Arrangement
from gateway.ports import BriefStore

_ENTRY_OVERHEAD_BYTES = 600
_QUOTE_OVERHEAD_BYTES = 100
_SHORTENED_BYTES = 200


class Kind(enum.Enum):
    """What may be known of one prefix; the value is the attribute that holds it."""

    APPLIED = "applied"
    WAITING = "waiting"
    ARRANGEMENT = "arrangement"


class ManagedBriefStore(BriefStore, Protocol):
    """A store of briefs with its figures."""

    @property
    def held_bytes(self) -> int:
        """What is held in this process's memory."""

    @property
    def hits(self) -> int:
        """Look-ups that found an applied brief."""

    @property
    def misses(self) -> int:
        """Look-ups that did not."""

    @property
    def writes(self) -> int:
        """Briefs that were put."""

    @property
    def newest(self) -> Brief | None:
        """The brief that was put last."""

    @property
    def ignored(self) -> Counter[str]:
        """Stored records that could not be used, by reason."""


@dataclass(slots=True)
class _Entry:
    """What is known of one prefix."""

    scope: bytes
    applied: Brief | None = None
    waiting: Brief | None = None
    arrangement: Arrangement | None = None


class MemoryBriefStore:
    """`ports.BriefStore`.

    Args:
        max_bytes: bound of all briefs together, by an estimate of their size.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._scopes: Counter[bytes] = Counter()
        self.held_bytes = 0
        self.hits = 0
        self.misses = 0
        self.writes = 0
        self.newest: Brief | None = None
        self.ignored: Counter[str] = Counter()

    def is_empty(self, scope: bytes) -> bool:
        return scope not in self._scopes

    def place_of(self, chain: Sequence[bytes], kind: Kind) -> int | None:
        """The place in this chain of the last key of which this is known."""
        name = kind.value
        last = len(chain) - 1
        for back, entry in enumerate(map(self._entries.get, reversed(chain))):
            if entry is not None and getattr(entry, name) is not None:
                return last - back
        return None

    def holds(self, key: bytes) -> bool:
        """Whether anything is known of a key."""
        return key in self._entries

    async def find(self, scope: bytes, chain: Sequence[bytes]) -> Brief | None:
        entry = self._deepest(chain, Kind.APPLIED)
        if entry is None:
            self.misses += 1
            return None
        self.hits += 1
        return entry.applied

    async def put_if_absent(self, scope: bytes, key: bytes, brief: Brief) -> Brief:
        entry = self._entry_of(scope, key)
        if entry.applied is not None:
            return entry.applied
        entry.applied = brief
        if entry.arrangement is None:
            self._scopes[scope] += 1
        if entry.waiting is brief:
            entry.waiting = None
        else:
            self._took(brief)
        return brief

    async def find_waiting(self, scope: bytes, chain: Sequence[bytes]) -> Brief | None:
        entry = self._deepest(chain, Kind.WAITING)
        return entry.waiting if entry else None

    async def put_waiting(self, scope: bytes, key: bytes, brief: Brief) -> None:
        entry = self._entry_of(scope, key)
        if entry.waiting is None:
            entry.waiting = brief
            self._took(brief)

    async def find_arrangement(self, scope: bytes, chain: Sequence[bytes]) -> Arrangement | None:
        entry = self._deepest(chain, Kind.ARRANGEMENT)
        return entry.arrangement if entry else None

    async def put_arrangement(self, scope: bytes, key: bytes, arrangement: Arrangement) -> None:
        entry = self._entry_of(scope, key)
        if entry.arrangement is not None:
            self.held_bytes -= _size_of_arrangement(entry.arrangement)
        elif entry.applied is None:
            self._scopes[scope] += 1
        entry.arrangement = arrangement
        self.held_bytes += _size_of_arrangement(arrangement)
        self._make_room()

    async def forget(self, scope: bytes) -> int:
        return self.drop_scope(scope)

    def drop_scope(self, scope: bytes) -> int:
        """Let everything of a scope go; returns how many records went."""
        keys = [key for key, entry in self._entries.items() if entry.scope == scope]
        return sum(self._drop(key) for key in keys)

    def __len__(self) -> int:
        return len(self._entries)

    def _deepest(self, chain: Sequence[bytes], kind: Kind) -> _Entry | None:
        place = self.place_of(chain, kind)
        if place is None:
            return None
        self._entries.move_to_end(chain[place])
        return self._entries[chain[place]]

    def _entry_of(self, scope: bytes, key: bytes) -> _Entry:
        entry = self._entries.setdefault(key, _Entry(scope))
        self._entries.move_to_end(key)
        return entry

    def _took(self, brief: Brief) -> None:
        self.held_bytes += _size_of(brief)
        self.writes += 1
        self.newest = brief
        self._make_room()

    def _make_room(self) -> None:
        while self.held_bytes > self._max_bytes and len(self._entries) > 1:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: bytes) -> int:
        """Let all go that is known of a prefix; returns how much it was."""
        entry = self._entries.pop(key)
        briefs = [brief for brief in (entry.applied, entry.waiting) if brief is not None]
        self.held_bytes -= sum(map(_size_of, briefs))
        if entry.arrangement is not None:
            self.held_bytes -= _size_of_arrangement(entry.arrangement)
        if entry.applied is not None or entry.arrangement is not None:
            self._scopes[entry.scope] -= 1
            if not self._scopes[entry.scope]:
                del self._scopes[entry.scope]
        return len(briefs) + (entry.arrangement is not None)


def _size_of(brief: Brief) -> int:
    texts = [*(segment.body for segment in brief.segments), *(quote.text for quote in brief.ledger)]
    return _ENTRY_OVERHEAD_BYTES + sum(_QUOTE_OVERHEAD_BYTES + sys.getsizeof(text) for text in texts)


def _size_of_arrangement(arrangement: Arrangement) -> int:
    names = sum(map(sys.getsizeof, arrangement.names))
    return _ENTRY_OVERHEAD_BYTES + names + _SHORTENED_BYTES * len(arrangement.shortened)

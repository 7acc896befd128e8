"""`ports.BriefStore` over a state store: briefs that outlive the process, or that replicas share.

This process's memory stands in front. Each scope has a mark in the store, which changes with everything that is put
there: while it stands, what memory knows of a chain is the truth, and a request costs at most one round trip, for the
mark and for the chain's new keys. When it has changed, the keys behind the brief are asked for again, many at a time.

Invariants, each with a test of its own:
  1. Of all processes that fold one prefix, each ends with the brief that was applied first, while the store answers.
  2. A record that cannot be read is counted, is as good as absent, and is written over.
  3. Where the store does not answer, what this process holds still serves; nothing raises.
  4. A known chain takes one round trip, an unknown one of n keys about log n; within `fresh_s` a known one takes none.
  5. What is forgotten is gone here at once, and in other processes after `fresh_s`.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.core.context.brief import Brief
from gateway.core.context.shorten import Arrangement
from gateway.core.tokens.cache import TwoGenerationCache
from gateway.ports import StateStore
from gateway.shell.state.memory import Kind, MemoryBriefStore
from gateway.shell.state.records import Record, UnusableRecord, parse_record, render_record

SPACE = "brief"
FRESH_S = 0.1
"""How long what was learned of a scope's mark is believed."""
_MAX_SCOPES = 20_000
_FIRST_KEYS = 64
_ASKED_BYTES, _ENTRY_BYTES = 8 * 1024 * 1024, 200
_RENEWALS = 8
"""In its time to live, how often a record that is used is given a new one."""
_ID_BYTES = 8


@dataclass(slots=True)
class _Scope:
    """What this process knows of a scope's mark.

    Attributes:
        origin: made with the scope's first record; a different one means that all before was forgotten; b"" for none.
        version: made with its latest record.
        epoch: names this version among all that this process has seen of any scope.
        fresh_until_s: until when that is believed.
    """

    origin: bytes = b""
    version: bytes = b""
    epoch: int = 0
    fresh_until_s: float = 0.0


class StoredBriefs:
    """Briefs in a state store, with memory in front.

    Args:
        store: where they are kept.
        max_bytes: bound of what is held in memory.
        ttl_s: how long one lives that is not used.
        fresh_s: how long another process's change may go unnoticed.
        clock: seconds, for freshness.
    """

    def __init__(
        self,
        store: StateStore,
        max_bytes: int,
        ttl_s: float,
        fresh_s: float = FRESH_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._near = MemoryBriefStore(max_bytes)
        self._ttl_s = ttl_s
        self._fresh_s = fresh_s
        self._clock = clock
        self._scopes: OrderedDict[bytes, _Scope] = OrderedDict()
        self._epochs = itertools.count(1)
        self._asked = TwoGenerationCache[int](_ASKED_BYTES, _ENTRY_BYTES)  # 2 * epoch, and 1 if something was there
        self._renewed = TwoGenerationCache[float](_ASKED_BYTES, _ENTRY_BYTES)
        self.writes = 0
        self.newest: Brief | None = None
        self.ignored: Counter[str] = Counter()

    @property
    def held_bytes(self) -> int:
        """Size of what is held in memory."""
        return self._near.held_bytes

    @property
    def hits(self) -> int:
        """Look-ups that found an applied brief."""
        return self._near.hits

    @property
    def misses(self) -> int:
        """Look-ups that did not."""
        return self._near.misses

    def is_empty(self, scope: bytes) -> bool:
        if not self._near.is_empty(scope):
            return False
        known = self._scopes.get(scope)
        return known is not None and not known.version and self._clock() < known.fresh_until_s

    async def find(self, scope: bytes, chain: Sequence[bytes]) -> Brief | None:
        place = await self._place_of(scope, chain, Kind.APPLIED)
        return await self._near.find(scope, () if place is None else chain[place : place + 1])

    async def find_waiting(self, scope: bytes, chain: Sequence[bytes]) -> Brief | None:
        place = await self._place_of(scope, chain, Kind.WAITING)
        return None if place is None else await self._near.find_waiting(scope, chain[place : place + 1])

    async def find_arrangement(self, scope: bytes, chain: Sequence[bytes]) -> Arrangement | None:
        place = await self._place_of(scope, chain, Kind.ARRANGEMENT)
        return None if place is None else await self._near.find_arrangement(scope, chain[place : place + 1])

    async def put_if_absent(self, scope: bytes, key: bytes, brief: Brief) -> Brief:
        if self._near.place_of([key], Kind.APPLIED) is not None:
            brief = await self._near.find(scope, [key]) or brief  # the store may have lost it
        standing = await self._put_first(scope, key, Kind.APPLIED, brief)
        was_waiting = await self._near.find_waiting(scope, [key]) is brief
        applied = await self._near.put_if_absent(scope, key, standing)
        if was_waiting:
            await self._store.delete(SPACE, _name(scope, key, Kind.WAITING))
        return applied

    async def put_waiting(self, scope: bytes, key: bytes, brief: Brief) -> None:
        standing = await self._put_first(scope, key, Kind.WAITING, brief)
        await self._near.put_waiting(scope, key, standing)

    async def put_arrangement(self, scope: bytes, key: bytes, arrangement: Arrangement) -> None:
        name = _name(scope, key, Kind.ARRANGEMENT)
        data = self._rendered(name, arrangement)
        if data is not None:
            await self._store.put(SPACE, name, data, self._ttl_s)
            await self._change_mark(scope)
        await self._near.put_arrangement(scope, key, arrangement)

    async def forget(self, scope: bytes) -> int:
        here = self._near.drop_scope(scope)
        has_mark = await self._store.get(SPACE, scope) is not None
        gone = await self._store.delete_prefix(SPACE, scope)
        self._scopes.pop(scope, None)
        return max(here, gone - has_mark)

    # What the store knows and memory does not

    async def _place_of(self, scope: bytes, chain: Sequence[bytes], kind: Kind) -> int | None:
        """The place in this chain of the last key of which this is known, in memory then; None where there is none."""
        known = self._known(scope)
        if self._clock() >= known.fresh_until_s:
            await self._refresh(scope, known, chain)
        place = self._near.place_of(chain, kind)
        if known.version:
            place = await self._learn(scope, known.epoch, chain, kind, place)
        if place is not None:
            await self._renew(scope, chain[place], kind)
        return place

    async def _refresh(self, scope: bytes, known: _Scope, chain: Sequence[bytes]) -> None:
        """Look at the mark, and with it at the newest keys that were never asked for."""
        keys = self._unknown(known.epoch, chain[-_FIRST_KEYS:]) if known.version else []
        values = await self._store.get_many(SPACE, [scope, *_names(scope, keys)])
        known.fresh_until_s = self._clock() + self._fresh_s
        if values is not None:
            self._take_mark(scope, known, values[0])
            await self._take_in(scope, known.epoch, keys, values[1:])

    async def _learn(
        self, scope: bytes, epoch: int, chain: Sequence[bytes], kind: Kind, place: int | None
    ) -> int | None:
        """Ask for what is not known behind the place that is; without one, the newest first, until there is one."""
        end, step = len(chain), _FIRST_KEYS
        while end > 0:
            start = max(0, end - step) if place is None else place
            part = chain[start:end]
            unknown = self._unknown(epoch, part)
            if unknown:
                values = await self._store.get_many(SPACE, _names(scope, unknown))
                if values is None:
                    return place
                await self._take_in(scope, epoch, unknown, values)
                found = self._near.place_of(part, kind)
                place = place if found is None else start + found
            if place is not None:
                return place
            end, step = start, 4 * step
        return None

    def _unknown(self, epoch: int, keys: Sequence[bytes]) -> list[bytes]:
        """Those of these keys that were not asked for since, or that memory has had no room for."""
        asked = zip(keys, self._asked.get_many(keys), strict=True)
        return [key for key, at in asked if at != 2 * epoch and not (at == 2 * epoch + 1 and self._near.holds(key))]

    async def _take_in(self, scope: bytes, epoch: int, keys: Sequence[bytes], values: Sequence[bytes | None]) -> None:
        """Take into memory what was found; the values are as `_names` orders them."""
        width = len(_ENDINGS)
        for place, key in enumerate(keys):
            is_there = False
            for kind, value in zip(_ENDINGS, values[width * place : width * (place + 1)], strict=True):
                if value is not None:
                    is_there |= await self._take_record(scope, key, kind, value)
            self._asked.put(key, 2 * epoch + is_there)

    async def _take_record(self, scope: bytes, key: bytes, kind: Kind, value: bytes) -> bool:
        if kind is not Kind.ARRANGEMENT and self._near.place_of([key], kind) is not None:
            return True  # a brief stays as it is; an arrangement may have been decided anew
        record = self._parsed(kind, _name(scope, key, kind), value)
        if isinstance(record, Arrangement):
            await self._near.put_arrangement(scope, key, record)
        elif record is not None and kind is Kind.APPLIED:
            await self._near.put_if_absent(scope, key, record)
        elif record is not None:
            await self._near.put_waiting(scope, key, record)
        return record is not None

    async def _renew(self, scope: bytes, key: bytes, kind: Kind) -> None:
        """Let a record that is used live on, with its scope's mark."""
        now_s, name = self._clock(), _name(scope, key, kind)
        last_s = self._renewed.get(name)
        if last_s is None or now_s - last_s >= self._ttl_s / _RENEWALS:
            self._renewed.put(name, now_s)
            await self._store.prolong(SPACE, [scope, name], self._ttl_s)

    # Records

    async def _put_first(self, scope: bytes, key: bytes, kind: Kind, brief: Brief) -> Brief:
        """Store a brief unless one is there; returns the one that stands."""
        name = _name(scope, key, kind)
        data = self._rendered(name, brief)
        if data is not None:
            standing = await self._store.put_if_absent(SPACE, name, data, self._ttl_s)
            if standing != data:
                other = self._parsed(kind, name, standing)
                if isinstance(other, Brief):
                    return other
                await self._store.put(SPACE, name, data, self._ttl_s)
            self._renewed.put(name, self._clock())
            await self._change_mark(scope)
        if self._near.place_of([key], kind) is None:
            self.writes += 1
            self.newest = brief
        return brief

    def _rendered(self, name: bytes, record: Record) -> bytes | None:
        try:
            return render_record(name, record)
        except UnusableRecord as unusable:
            self.ignored[unusable.reason] += 1
            return None

    def _parsed(self, kind: Kind, name: bytes, value: bytes) -> Record | None:
        try:
            return parse_record(kind, name, value)
        except UnusableRecord as unusable:
            self.ignored[unusable.reason] += 1
            return None

    # Marks

    def _take_mark(self, scope: bytes, known: _Scope, mark: bytes | None) -> None:
        if mark is not None and len(mark) != 2 * _ID_BYTES:
            self.ignored["mark"] += 1
            mark = None
        origin, version = (mark[:_ID_BYTES], mark[_ID_BYTES:]) if mark else (b"", b"")
        if known.origin and origin != known.origin:
            self._near.drop_scope(scope)
        if version != known.version:
            known.epoch = next(self._epochs)
        known.origin, known.version = origin, version

    async def _change_mark(self, scope: bytes) -> None:
        """Tell all processes that there is something new; this one asks again too, for what came at the same time."""
        known = self._known(scope)
        found = await self._store.get_many(SPACE, [scope])
        if found is None:
            return
        self._take_mark(scope, known, found[0])
        known.origin = known.origin or os.urandom(_ID_BYTES)
        known.version = os.urandom(_ID_BYTES)
        known.epoch = next(self._epochs)
        known.fresh_until_s = self._clock() + self._fresh_s
        await self._store.put(SPACE, scope, known.origin + known.version, self._ttl_s)

    def _known(self, scope: bytes) -> _Scope:
        known = self._scopes.get(scope)
        if known is None:
            known = self._scopes[scope] = _Scope()
            if len(self._scopes) > _MAX_SCOPES:
                dropped, _ = self._scopes.popitem(last=False)
                self._near.drop_scope(dropped)  # whether it is forgotten elsewhere could not be noticed any more
        self._scopes.move_to_end(scope)
        return known


def _names(scope: bytes, keys: Sequence[bytes]) -> list[bytes]:
    """What all records of these keys are stored under."""
    return [scope + key + ending for key in keys for ending in _ENDINGS.values()]


_ENDINGS = {Kind.APPLIED: b"a", Kind.WAITING: b"w", Kind.ARRANGEMENT: b"s"}


def _name(scope: bytes, key: bytes, kind: Kind) -> bytes:
    """What a record is stored under: all of a scope begin with it."""
    return scope + key + _ENDINGS[kind]

"""`ports.Journal` over a state store: what named sessions have said, kept for those who do not resend it.

A session is a head and segments. A segment holds the new messages of one request, is written once (put-if-absent, so
that replicas never overwrite each other's) and never changes; the head says where the segments begin and about where
they end. Memory stands in front: a known session costs one round trip, for its head and the segments that may have
come since. Writing happens in the background, one request of a session after the other.

Invariants, each with a test of its own:
  1. A session's messages come back in the order in which they were first seen, each once.
  2. What is held of a session stays within its bounds once it is written; the oldest go first.
  3. What was forgotten, here or by another process, is not found again; what has not been used for `ttl_s` neither.
  4. Where the store does not answer, nothing is kept and nothing found; nothing raises.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from gateway.core.context.facts import MessageFacts
from gateway.core.context.journal import Kept, choose_new, keep_message
from gateway.exchange import Session
from gateway.ports import Forgotten, StateStore
from gateway.shell.state.records import UnusableRecord, seal, unseal
from gateway.tasks import TaskGroup

SPACE = "journal"
_SEGMENT, _SCOPE = b"m", b"s"
_PROBE, _PAGE = 2, 64
_SEGMENT_MESSAGES, _SEGMENT_BYTES = 64, 262_144
_TRIES = 8
_RENEWALS = 8
"""In its time to live, how often a session that is used is given a new one."""
_PATIENCE_S = 0.25
"""How long a request waits for what the request before it has left to be written."""
_SESSION_BYTES = 600
_PAUSE_EVERY, _PAUSE_S = 32, 1e-5
Raws = Sequence[msgspec.Raw | bytes]


class _Head(msgspec.Struct, frozen=True, array_like=True):
    """A session in the store: made at random with it, its first segment, and the one after the last, or fewer."""

    origin: bytes
    first: int
    end: int


class _Segment(msgspec.Struct, frozen=True, array_like=True):
    messages: tuple[Kept, ...]


@dataclass(slots=True)
class _Known:
    """What this process knows of a session; `end` is the next segment to ask for."""

    origin: bytes = b""
    end: int = 0
    messages: dict[bytes, Kept] = field(default_factory=dict)
    segments: deque[tuple[int, tuple[Kept, ...]]] = field(default_factory=deque)
    scopes: set[bytes] = field(default_factory=set)
    renewed_s: float = 0.0
    size_bytes: int = 0
    charged_bytes: int = 0
    last_number: int = 0


_heads = msgspec.msgpack.Decoder(_Head)
_segments = msgspec.msgpack.Decoder(_Segment)


class StoredJournal:
    """`ports.Journal`.

    Args:
        store: where sessions are kept.
        tasks: where writing goes on after the request.
        ttl_s: how long a session lives that is not used.
        max_messages: bound of one session.
        max_bytes: bound of one session.
        max_near_bytes: bound of what is held in memory of all of them.
        clock: seconds, for renewals.
    """

    def __init__(
        self,
        store: StateStore,
        tasks: TaskGroup,
        ttl_s: float,
        max_messages: int,
        max_bytes: int,
        max_near_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._tasks = tasks
        self._ttl_s = ttl_s
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._max_near_bytes = max_near_bytes
        self._clock = clock
        self._near: OrderedDict[bytes, _Known] = OrderedDict()
        self._writing: dict[bytes, asyncio.Task[None]] = {}
        self.held_bytes = 0
        self.writes = 0
        self.ignored: Counter[str] = Counter()

    async def read(self, session: bytes) -> Sequence[Kept]:
        writing = self._writing.get(session)
        if writing is not None:
            await asyncio.wait({writing}, timeout=_PATIENCE_S)
        known = await self._refresh(session)
        if known is None or not known.origin:
            return ()
        if self._clock() - known.renewed_s >= self._ttl_s / _RENEWALS:
            known.renewed_s = self._clock()
            self._tasks.spawn(self._renew(session, known), "journal renewal")
        return list(known.messages.values())

    def keep(self, session: Session, raws: Raws, facts: Sequence[MessageFacts]) -> None:
        known = self._near.get(session.key)
        is_known = known is not None and bool(known.origin) and session.brief_scope in known.scopes
        if known and is_known and not self._chosen(raws, facts, known):
            return
        before = self._writing.get(session.key)
        writing = self._tasks.spawn(self._keep(before, session, raws, facts), "journal")
        self._writing[session.key] = writing
        writing.add_done_callback(lambda done: self._wrote(session.key, done))

    async def forget(self, session: bytes) -> Forgotten | None:
        while (writing := self._writing.get(session)) is not None and not writing.done():
            await asyncio.wait({writing})
        scopes = [name.removeprefix(session + _SCOPE) async for name, _ in self._store.scan(SPACE, session + _SCOPE)]
        gone = await self._store.delete_prefix(SPACE, session)
        self._drop(session)
        left = await self._store.get_many(SPACE, [session])
        return Forgotten(gone > 0, tuple(scopes)) if left == [None] else None

    # Reading

    async def _refresh(self, session: bytes) -> _Known | None:
        """What is known of a session, as the store has it now; None where the store cannot be asked."""
        known = self._near.get(session) or _Known()
        start = known.end
        values = await self._store.get_many(SPACE, [session, *_names(session, range(start, start + _PROBE))])
        if values is None:
            return None
        head = self._head_of(session, values[0])
        if head is None or head.origin != known.origin:
            known = _Known() if head is None else _Known(head.origin, head.first)
            start, values = known.end, []
        if head is not None:
            self._drop_before(known, head.first)
            if not await self._load(session, known, start, values[1:], head.end):
                return None
        self._remember(session, known)
        return known

    async def _load(self, session: bytes, known: _Known, start: int, values: Sequence[bytes | None], end: int) -> bool:
        """Take in the segments from `start` on: these, and all up to `end` and beyond it that there are."""
        at, part = start, list(values)
        while True:
            for value in part:
                if value is None and at >= end:
                    return True
                self._take(session, known, at, value)
                at += 1
            more = await self._store.get_many(SPACE, _names(session, range(at, at + _PAGE)))
            if more is None:
                return False
            part = more

    def _take(self, session: bytes, known: _Known, place: int, value: bytes | None) -> None:
        """Take in a segment, unless that was done; one that is gone or cannot be read is passed over."""
        if place < known.end:
            return
        known.end = place + 1
        if value is None:
            return
        try:
            segment = _segments.decode(unseal(_name(session, place), value))
        except UnusableRecord as unusable:
            self.ignored[unusable.reason] += 1
            return
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self.ignored["unreadable"] += 1
            return
        fresh = tuple(each for each in segment.messages if each.canonical not in known.messages)
        known.segments.append((place, fresh))
        for each in fresh:
            known.messages[each.canonical] = each
            known.size_bytes += each.size_bytes
            known.last_number = max(known.last_number, each.number)

    def _head_of(self, session: bytes, value: bytes | None) -> _Head | None:
        if value is None:
            return None
        try:
            return _heads.decode(unseal(session, value))
        except (UnusableRecord, msgspec.MsgspecError):
            self.ignored["head"] += 1
            return None

    # Writing

    async def _keep(
        self, before: asyncio.Task[None] | None, session: Session, raws: Raws, facts: Sequence[MessageFacts]
    ) -> None:
        if before is not None:
            await asyncio.wait({before})
        known = await self._refresh(session.key)
        if known is None:
            return
        chosen = self._chosen(raws, facts, known)
        messages = await asyncio.to_thread(_kept, raws, facts, chosen)
        if not known.origin:
            await self._begin(session.key, known)
        if session.brief_scope not in known.scopes:
            known.scopes.add(session.brief_scope)
            await self._store.put(SPACE, session.key + _SCOPE + session.brief_scope, b"", self._ttl_s)
        for part in _parts(messages):
            await self._append(session.key, known, part)
        if messages:
            first = await self._make_room(session.key, known)
            await self._put_head(session.key, _Head(known.origin, first, known.end))
            self.writes += len(messages)
        self._remember(session.key, known)

    def _chosen(self, raws: Raws, facts: Sequence[MessageFacts], known: _Known) -> list[int]:
        return choose_new(raws, facts, known.messages, self._max_messages, self._max_bytes)

    async def _begin(self, session: bytes, known: _Known) -> None:
        made = _Head(os.urandom(8), 0, 0)
        data = seal(session, msgspec.msgpack.encode(made))
        standing = await self._store.put_if_absent(SPACE, session, data, self._ttl_s)
        head = self._head_of(session, standing)
        if head is None:
            await self._store.put(SPACE, session, data, self._ttl_s)  # over what nobody can read
            head = made
        known.origin, known.end, known.renewed_s = head.origin, head.first, self._clock()

    async def _put_head(self, session: bytes, head: _Head) -> None:
        await self._store.put(SPACE, session, seal(session, msgspec.msgpack.encode(head)), self._ttl_s)

    async def _append(self, session: bytes, known: _Known, messages: Sequence[Kept]) -> None:
        """Write a segment after all others; where another process was faster, after its."""
        for _ in range(_TRIES):
            place, number = known.end, known.last_number
            numbered = tuple(msgspec.structs.replace(each, number=number + at) for at, each in enumerate(messages, 1))
            data = seal(_name(session, place), msgspec.msgpack.encode(_Segment(numbered)))
            standing = await self._store.put_if_absent(SPACE, _name(session, place), data, self._ttl_s)
            self._take(session, known, place, standing)
            if standing == data or not await self._load(session, known, known.end, (), known.end):
                return
            messages = [each for each in messages if each.canonical not in known.messages]
            if not messages:
                return

    async def _make_room(self, session: bytes, known: _Known) -> int:
        """Let the oldest segments go as long as there is too much; returns the first that stays."""
        first = known.segments[0][0] if known.segments else known.end
        while len(known.segments) > 1 and self._is_over(known):
            await self._store.delete(SPACE, _name(session, known.segments[0][0]))
            first = known.segments[1][0]
            self._drop_before(known, first)
        return first

    def _is_over(self, known: _Known) -> bool:
        return len(known.messages) > self._max_messages or known.size_bytes > self._max_bytes

    async def _renew(self, session: bytes, known: _Known) -> None:
        names = [session, *_names(session, [place for place, _ in known.segments])]
        names += [session + _SCOPE + scope for scope in known.scopes]
        await self._store.prolong(SPACE, names, self._ttl_s)

    def _wrote(self, session: bytes, done: object) -> None:
        if self._writing.get(session) is done:
            del self._writing[session]

    # Memory

    @staticmethod
    def _drop_before(known: _Known, first: int) -> None:
        while known.segments and known.segments[0][0] < first:
            _, messages = known.segments.popleft()
            for each in messages:
                del known.messages[each.canonical]
                known.size_bytes -= each.size_bytes

    def _remember(self, session: bytes, known: _Known) -> None:
        self._drop(session)
        known.charged_bytes = _SESSION_BYTES + known.size_bytes
        self._near[session] = known
        self.held_bytes += known.charged_bytes
        while self.held_bytes > self._max_near_bytes and len(self._near) > 1:
            self._drop(next(iter(self._near)))

    def _drop(self, session: bytes) -> None:
        known = self._near.pop(session, None)
        if known is not None:
            self.held_bytes -= known.charged_bytes


def _kept(raws: Raws, facts: Sequence[MessageFacts], chosen: Sequence[int]) -> list[Kept]:
    """Messages as they are kept, with pauses, in which the event loop gets Python's lock."""
    kept = []
    for place, index in enumerate(chosen):
        if place % _PAUSE_EVERY == 0:
            time.sleep(_PAUSE_S)
        kept.append(keep_message(raws[index], facts[index]))
    return kept


def _parts(messages: Sequence[Kept]) -> Iterable[Sequence[Kept]]:
    """The messages by segment."""
    part: list[Kept] = []
    size = 0
    for each in messages:
        if part and (len(part) == _SEGMENT_MESSAGES or size + each.size_bytes > _SEGMENT_BYTES):
            yield part
            part, size = [], 0
        part.append(each)
        size += each.size_bytes
    if part:
        yield part


def _name(session: bytes, place: int) -> bytes:
    return session + _SEGMENT + place.to_bytes(8)


def _names(session: bytes, places: Iterable[int]) -> list[bytes]:
    return [_name(session, place) for place in places]

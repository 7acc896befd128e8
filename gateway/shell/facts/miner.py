"""`ports_memory.Miner`: what folded messages say goes to the memory that the request names, in the background.

A message is mined once for each memory, however often its chat comes again; what this process has forgotten to have
mined, the store knows by what it says. Facts of one fold are observed a microsecond apart, in the order in which they
were said, so that of two that differ the later one holds.

Invariants, each with a test of its own:
  1. Nothing is mined for a request that names no memory, and nothing reaches another's.
  2. A message that comes again is not mined again.
  3. No request waits for mining, and none fails by it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from gateway.core.context.brief import Stated
from gateway.core.context.terms import terms_of
from gateway.core.facts.memory import (
    Anchor,
    Kind,
    Memory,
    Origin,
    Scope,
    Source,
    fact_hash,
    fact_key,
    topic_key,
)
from gateway.core.facts.mine import MAX_A_TURN, Mined, mine_turns
from gateway.core.facts.statements import is_single
from gateway.core.tokens.cache import TwoGenerationCache
from gateway.exchange import Exchange
from gateway.ports_memory import Folded
from gateway.tasks import TaskGroup

_MEMO_BYTES, _ENTRY_BYTES = 16 << 20, 140
_STATED_CONFIDENCE = 0.8
_BATCH = 500
_PAUSE_EVERY, _PAUSE_S = 16, 1e-5


class PutLater(Protocol):
    """Takes memories that are to be stored as soon as that can be."""

    def put_later(self, scope: Scope, memories: Sequence[Memory]) -> None: ...


class FoldMiner:
    """`ports_memory.Miner`.

    Args:
        store: takes what was found.
        tasks: where the work goes on.
        ttl_s: how long mined facts are kept; None for ever.
        threshold: facts below this confidence are not kept.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        store: PutLater,
        tasks: TaskGroup,
        ttl_s: float | None,
        threshold: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._tasks = tasks
        self._ttl_s = ttl_s
        self._threshold = threshold
        self._clock = clock
        self._seen = TwoGenerationCache[bool](_MEMO_BYTES, _ENTRY_BYTES)
        self._next_us = 0
        self.mined = 0

    def note(self, exchange: Exchange, folded: Folded) -> None:
        fold = _name(folded.scope, folded.key)
        if self._seen.get(fold):
            return
        self._seen.put(fold, True)
        names = [_name(folded.scope, digest) for digest in folded.digests]
        fresh = [place for place, known in enumerate(self._seen.get_many(names)) if not known]
        for place in fresh:
            self._seen.put(names[place], True)
        digests = dict(zip(folded.numbers, folded.digests, strict=True))
        stated = []
        for each in folded.statements:
            name = _name(folded.scope, digests.get(each.number, b"") + repr(each).encode())
            if each.number in digests and not self._seen.get(name):
                self._seen.put(name, True)
                stated.append(each)
        if fresh or stated:
            moment_us = self._moment_us(MAX_A_TURN * len(fresh) + len(stated))
            self._tasks.spawn(self._mine(folded, fresh, stated, moment_us), "mining")

    def _moment_us(self, most: int) -> int:
        """When so many facts, or fewer, begin to be observed: after those of the folds before, whatever the clock."""
        moment_us = max(int(self._clock() * 1e6), self._next_us)
        self._next_us = moment_us + most
        return moment_us

    async def _mine(self, folded: Folded, fresh: Sequence[int], stated: Sequence[Stated], moment_us: int) -> None:
        mined = await asyncio.to_thread(_found, folded, fresh, stated)
        memories = await asyncio.to_thread(self._memories, folded, mined, moment_us)
        self.mined += len(memories)
        for start in range(0, len(memories), _BATCH):
            self._store.put_later(folded.scope, memories[start : start + _BATCH])

    def _memories(self, folded: Folded, mined: Sequence[Mined], moment_us: int) -> list[Memory]:
        expires_us = None if self._ttl_s is None else moment_us + int(self._ttl_s * 1e6)
        sure = [each for each in mined if each.confidence >= self._threshold]
        return [_memory(each, folded.session, moment_us + place, expires_us) for place, each in enumerate(sure)]


def _found(folded: Folded, fresh: Sequence[int], stated: Sequence[Stated]) -> list[Mined]:
    """What these messages say, and what was stated about them."""
    turns = []
    for place in fresh:
        turns.append(folded.read(place))
        if len(turns) % _PAUSE_EVERY == 0:
            time.sleep(_PAUSE_S)  # the event loop gets its turn
    by_place = dict(zip(fresh, mine_turns(turns), strict=True))
    by_number: dict[int, list[Stated]] = {}
    for each in stated:
        by_number.setdefault(each.number, []).append(each)
    mined: list[Mined] = []
    for place, (number, digest) in enumerate(zip(folded.numbers, folded.digests, strict=True)):
        mined += by_place.get(place, ())
        mined += [_mined(each, digest) for each in by_number.get(number, ())]
    return mined


def _mined(stated: Stated, digest: bytes) -> Mined:
    origin = Origin(digest.hex(), stated.start, stated.end, stated.role)
    return Mined(
        stated.subject, stated.predicate, stated.object, origin, _STATED_CONFIDENCE, is_single(stated.predicate)
    )


def _memory(mined: Mined, session: bytes, observed_us: int, expires_us: int | None) -> Memory:
    subject, predicate, object_ = mined.subject, mined.predicate, mined.object
    return Memory(
        id=os.urandom(16).hex(),
        kind=Kind.FACT,
        subject=subject,
        predicate=predicate,
        object=object_,
        key=fact_key(subject, predicate, object_),
        topic=topic_key(subject, predicate) if mined.is_single else b"",
        sources=(Source(fact_hash(subject, predicate, object_, Anchor()), None, Anchor(), mined.origin),),
        confidence=mined.confidence,
        observed_us=observed_us,
        expires_us=expires_us,
        session=session,
        terms=terms_of(f"{subject} {object_}"),
    )


def _name(scope: Scope, of: bytes) -> bytes:
    parts = (scope.owner, scope.name.encode("utf-8", "surrogatepass"), of)
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()

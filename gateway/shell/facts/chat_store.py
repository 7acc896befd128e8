"""A store of memories as chats use it: searches that are never waited for long, and writes that are made later.

A search has a short deadline, and after a fault the store is left alone for a growing pause (`core.routing.breaker`):
a chat never waits for a store that is down. What a chat gives to remember is put later, from a bounded queue, in the
background; that is safe to try again, because a put is known by the ids of its memories.

Invariants, each with a test of its own:
  1. A search ends by its deadline, also if the store does not let go.
  2. What was given to put later is stored as soon as the store can be asked, or is counted in `dropped`.
  3. After a fault searches cost nothing until the pause is over, and one of them finds out that it is.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from gateway.core.facts.memory import Found, Memory, Scope, Sought
from gateway.core.routing.breaker import CLOSED, BreakerRules, BreakerState, Event, after, ask, give_back
from gateway.ports_memory import MemoryFault, MemoryStore
from gateway.tasks import TaskGroup

T = TypeVar("T")
_log = logging.getLogger("gateway.facts")
_FIRST_PAUSE_S, _MAX_PAUSE_S = 0.05, 1.0
_RULES = BreakerRules(failures=1, reset_s=0.5)
_WRITERS = 4
_TOGETHER = 256


class ChatMemoryStore:
    """A store, and how long chats bear with it.

    Args:
        store: to ask.
        search_s: of a search.
        max_later: memories that may wait to be put later; above that the oldest are dropped.
        clock: for the pauses of searches.
        chance: 0 to 1, for jitter.
    """

    def __init__(
        self,
        store: MemoryStore,
        search_s: float = 0.25,
        max_later: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._search_s = search_s
        self._max_later = max_later
        self._clock = clock
        self._chance = chance
        self._breaker = CLOSED
        self._tasks = TaskGroup()
        self._later: deque[tuple[Scope, Sequence[Memory]]] = deque()
        self._writers = 0
        self.waiting = 0
        self.dropped = 0
        self.faults: Counter[str] = Counter()
        """By kind, of single tries; `resting` are searches that were not made."""

    @property
    def is_resting(self) -> bool:
        """Whether searches leave the store alone now."""
        return self._breaker.state is not BreakerState.CLOSED

    async def search(self, scope: Scope, sought: Sought, limit: int) -> Sequence[Found]:
        """As the store does, within the time of a search.

        Raises:
            MemoryFault: it did not answer in time, or is left alone after a fault.
        """
        self._breaker, may_ask = ask(self._breaker, self._clock())
        if not may_ask:
            self.faults["resting"] += 1
            raise MemoryFault("down", "the store of memories is left alone for a while after a fault")
        task = self._tasks.spawn(_settled(self._store.search(scope, sought, limit)), "facts-search")
        try:
            await asyncio.wait({task}, timeout=self._search_s)
        finally:
            if not task.done():
                self._breaker = give_back(self._breaker)
                task.cancel()  # and not waited for: a connection may be slow to let go
        result = task.result() if task.done() else MemoryFault("timeout", f"no answer in {self._search_s:g} s")
        event = Event.FAILURE if isinstance(result, MemoryFault) else Event.SUCCESS
        self._breaker = after(self._breaker, event, _RULES, self._clock(), self._chance())
        if isinstance(result, MemoryFault):
            self.faults[result.kind] += 1
        if isinstance(result, Exception):
            raise result
        return result

    def put_later(self, scope: Scope, memories: Sequence[Memory]) -> None:
        """Have these stored in the background, as soon as may be."""
        if not memories:
            return
        self._later.append((scope, memories))
        self.waiting += len(memories)
        while self.waiting > self._max_later and self._later:
            self._drop(self._later.popleft()[1])
        if self._later and self._writers < _WRITERS:
            self._writers += 1
            self._tasks.spawn(self._write_later(), "facts-later")

    def _drop(self, memories: Sequence[Memory]) -> None:
        if not self.dropped:
            _log.error("memories that waited to be stored are dropped", extra={"waiting": self.waiting})
        self.waiting -= len(memories)
        self.dropped += len(memories)

    async def _write_later(self) -> None:
        """Store what waits, until nothing does."""
        try:
            while self._later:
                scope, memories = self._next_later()
                self.dropped += await self._refused(scope, memories)
                self.waiting -= len(memories)
        finally:
            self._writers -= 1

    def _next_later(self) -> tuple[Scope, list[Memory]]:
        """What waits the longest, with what waits behind it for the same scope."""
        scope, first = self._later.popleft()
        memories = list(first)
        while self._later and self._later[0][0] == scope and len(memories) + len(self._later[0][1]) <= _TOGETHER:
            memories += self._later.popleft()[1]
        return scope, memories

    async def _refused(self, scope: Scope, memories: Sequence[Memory]) -> int:
        """Store these, however long that takes; how many of them can be stored by no means."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                await self._store.put(scope, memories)
            except MemoryFault as fault:
                self.faults[fault.kind] += 1
            except ValueError as error:
                _log.warning("a memory cannot be stored", extra={"error": str(error)})
                if len(memories) == 1:
                    return 1
                return sum([await self._refused(scope, [memory]) for memory in memories])
            else:
                return 0
            await asyncio.sleep(pause_s * (0.5 + self._chance()))
            pause_s = min(2 * pause_s, _MAX_PAUSE_S)

    async def close(self, deadline_s: float = 5.0) -> None:
        """Store what waits, as far as that is done by the deadline; what is left is counted as dropped.

        The store itself is its owner's to close, after this.
        """
        await self._tasks.drain(deadline_s)
        self.dropped += self.waiting
        if self.waiting:
            _log.error("memories that waited to be stored are lost", extra={"memories": self.waiting})
        self.waiting = 0
        self._later.clear()


async def _settled(call: Awaitable[T]) -> T | Exception:
    """What a call comes to, as a value: whoever asked may have gone."""
    try:
        return await call
    except Exception as error:  # noqa: BLE001 - it is raised where somebody still waits for it
        return error

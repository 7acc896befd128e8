"""`ports_memory.Reminding` over a store: by words, and by vectors where an endpoint makes them.

Invariants, each with a test of its own:
  1. A store that is down, slow or refuses costs the request its reminders, and no more than the deadline.
  2. Only the scope that was asked for is looked at.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence, Set
from typing import Protocol

from gateway.core.facts.asked import terms_asked
from gateway.core.facts.memory import Found, Scope, Sought
from gateway.core.facts.reminders import Reminder, reminders_of
from gateway.exchange import Exchange
from gateway.ports_memory import Embedding, MemoryFault

CANDIDATES = 512
"""By words, and as many by vector; recall chooses among them."""
MAX_VECTOR_CHARS = 2_000
"""Of a message, its end: so much of it makes the vector of a question."""


class Search(Protocol):
    async def search(self, scope: Scope, sought: Sought, limit: int) -> Sequence[Found]: ...


class StoredReminding:
    """`ports_memory.Reminding`.

    Args:
        store: is asked.
        deadline_s: how long a chat waits.
        embedder: makes the vector of a question; None where there are none.
        observe_s: told how long each search took.
    """

    def __init__(
        self,
        store: Search,
        deadline_s: float,
        embedder: Embedding | None = None,
        observe_s: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._deadline_s = deadline_s
        self._embedder = embedder
        self.tally: Counter[str] = Counter()
        self._observe_s = observe_s

    async def find(self, exchange: Exchange, scope: Scope, asked: str, contained: Set[str]) -> Sequence[Reminder]:
        started_s = time.perf_counter()
        try:
            found = await self._search(exchange, scope, asked)
            self.tally["found" if found else "nothing"] += 1
        except (MemoryFault, TimeoutError) as fault:
            self.tally[fault.kind if isinstance(fault, MemoryFault) else "timeout"] += 1
            found = ()
        self._observe_s(time.perf_counter() - started_s)
        return reminders_of(found, contained)

    async def _search(self, exchange: Exchange, scope: Scope, asked: str) -> Sequence[Found]:
        vector = None
        if self._embedder is not None and asked.strip():
            (vector,) = await self._embedder.embed(exchange, [asked[-MAX_VECTOR_CHARS:]])
        terms, exact = terms_asked(asked)
        if not terms and not vector:
            return ()
        model = self._embedder.model if self._embedder is not None else ""
        sought = Sought(terms, exact, vector or b"", model, is_rough=True)
        async with asyncio.timeout(self._deadline_s):
            return await self._store.search(scope, sought, CANDIDATES)

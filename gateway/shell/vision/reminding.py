"""`ports_memory.Reminding` that looks into the documents of a memory, too.

Invariants, each with a test of its own:
  1. A store of documents that is down, slow or refuses costs the request what it would have found, and no more than the
     deadline; what memory finds is not touched.
  2. Only the scope that was asked for is looked at, and only for a client that may use vision.
  3. Where an endpoint makes vectors, what shares no word with the question is found, too; where it is late or down,
     what shares one is.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence, Set

from gateway.core.access import Permission
from gateway.core.facts.asked import terms_asked
from gateway.core.facts.memory import Scope
from gateway.core.facts.reminders import Reminder
from gateway.core.tokens.cache import TwoGenerationCache
from gateway.core.vision.document import FoundRegion, RegionsSought
from gateway.core.vision.shown import reminders_of_regions
from gateway.exchange import Exchange
from gateway.ports_memory import Embedding, Reminding
from gateway.ports_vision import DocumentStore, VisionFault
from gateway.shell.facts.reminding import MAX_VECTOR_CHARS

CANDIDATES = 64
"""Regions; recall chooses among them."""
_NAME_BYTES, _NAME_ENTRY_BYTES = 1 << 18, 300
_Found = tuple[Sequence[FoundRegion], dict[str, str]]
_NOTHING: _Found = ((), {})


class DocumentReminding:
    """`ports_memory.Reminding`.

    Args:
        memories: what a memory holds beside documents.
        store: of documents.
        deadline_s: how long a chat waits for it.
        embedder: makes the vector of a question; None where there are none.
        observe_s: told how long each search took.

    Attributes:
        tally: searches by what came of them: found, nothing, or the kind of a fault.
    """

    def __init__(
        self,
        memories: Reminding,
        store: DocumentStore,
        deadline_s: float,
        embedder: Embedding | None = None,
        observe_s: Callable[[float], None] = lambda _: None,
    ) -> None:
        self.tally: Counter[str] = Counter()
        self._memories = memories
        self._store = store
        self._deadline_s = deadline_s
        self._embedder = embedder
        self._observe_s = observe_s
        self._names = TwoGenerationCache[str](_NAME_BYTES, _NAME_ENTRY_BYTES)

    async def find(self, exchange: Exchange, scope: Scope, asked: str, contained: Set[str]) -> Sequence[Reminder]:
        assert exchange.client is not None
        if Permission.VISION not in exchange.client.grants.may:
            return await self._memories.find(exchange, scope, asked, contained)
        reminders, (found, names) = await asyncio.gather(
            self._memories.find(exchange, scope, asked, contained), self._look(exchange, scope, asked)
        )
        return [*reminders_of_regions(found, names, after=len(reminders)), *reminders] if found else reminders

    async def _look(self, exchange: Exchange, scope: Scope, asked: str) -> _Found:
        sought = await self._sought(exchange, asked)
        if not sought.terms and not sought.vector:
            return _NOTHING
        started_s = time.perf_counter()
        try:
            async with asyncio.timeout(self._deadline_s):
                found = await self._store.search(scope, sought, CANDIDATES)
                names = {
                    doc_id: await self._name_of(scope, doc_id) for doc_id in {each.region.doc_id for each in found}
                }
        except (VisionFault, TimeoutError) as fault:
            self.tally[fault.kind if isinstance(fault, VisionFault) else "timeout"] += 1
            return _NOTHING
        finally:
            self._observe_s(time.perf_counter() - started_s)
        self.tally["found" if found else "nothing"] += 1
        return found, names

    async def _sought(self, exchange: Exchange, asked: str) -> RegionsSought:
        """What a message asks for; the vector is that which memories are asked with, and comes once for both."""
        vector = None
        if self._embedder is not None and asked.strip():
            (vector,) = await self._embedder.embed(exchange, [asked[-MAX_VECTOR_CHARS:]])
        terms, exact = terms_asked(asked)
        if self._embedder is None or vector is None:
            return RegionsSought(terms, exact)
        return RegionsSought(terms, exact, vector=vector, model=self._embedder.model)

    async def _name_of(self, scope: Scope, doc_id: str) -> str:
        key = scope.owner + doc_id.encode()
        name = self._names.get(key)
        if name is None:
            document = await self._store.document(scope.owner, doc_id)
            name = document.source if document is not None else ""
            self._names.put(key, name)
        return name

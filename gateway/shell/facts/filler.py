"""Gives memories their vectors, in the background: whoever stores one never waits for an endpoint.

Invariants, each with a test of its own:
  1. Every memory has a vector in the end, while the endpoint answers; one that has one is not asked for again.
  2. An endpoint or a store that is down is asked again later, and not in a hurry.
  3. Those that get none, however often they are asked for, keep none from the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from gateway.core.facts.memory import Memory, Vector
from gateway.core.facts.reminders import said_by
from gateway.ports_memory import Embedding, MemoryFault

_AT_ONCE = 256
_PATIENCE_S = 60.0
_MAX_VAIN = 16_384


class Lacking(Protocol):
    async def lacking_vectors(self, model: str, limit: int) -> Sequence[Memory]: ...

    async def put_vectors(self, vectors: Sequence[Vector]) -> None: ...


class VectorFiller:
    """Fills one store.

    Args:
        store: of memories.
        embedder: makes vectors, on nobody's account.
        idle_s: between looks while nothing lacks one,
        rest_s: and after trouble.
    """

    def __init__(self, store: Lacking, embedder: Embedding, idle_s: float = 5.0, rest_s: float = 30.0) -> None:
        self._store = store
        self._embedder = embedder
        self._idle_s = idle_s
        self._rest_s = rest_s
        self.filled = 0
        self._vain: set[str] = set()
        """Memories that got none lately; they come again once all others have had their turn."""

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                wait_s = await self.fill_some()
            except MemoryFault:
                wait_s = self._rest_s
            await asyncio.sleep(wait_s)

    async def fill_some(self) -> float:
        """Fill some; returns how long to wait before the next.

        Raises:
            MemoryFault: the store cannot be asked.
        """
        model = self._embedder.model
        found = await self._store.lacking_vectors(model, _AT_ONCE + len(self._vain))
        lacking = [memory for memory in found if memory.id not in self._vain][:_AT_ONCE]
        if not lacking:
            self._vain.clear()
            return self._rest_s if found else self._idle_s
        made = await self._embedder.embed(None, [said_by(memory) for memory in lacking], _PATIENCE_S)
        vectors = [Vector(memory.id, model, data) for memory, data in zip(lacking, made, strict=True) if data]
        if vectors:
            await self._store.put_vectors(vectors)
        self.filled += len(vectors)
        if len(vectors) == len(lacking):
            return 0.0
        if len(self._vain) > _MAX_VAIN:
            self._vain.clear()
        self._vain.update(memory.id for memory, data in zip(lacking, made, strict=True) if not data)
        return self._rest_s

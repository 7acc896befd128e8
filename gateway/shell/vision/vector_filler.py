"""Gives regions of documents their vectors, in the background: whoever indexes one never waits for an endpoint.

Invariants, each with a test of its own:
  1. Every region that says something has a vector in the end, while the endpoint answers; one that was asked for with
     success is not asked for again, and one that says nothing is not asked for at all.
  2. An endpoint or a store that is down is asked again later, and not in a hurry.
  3. Those that get none, however often they are asked for, keep none from the others.
  4. Of several workers on one store one fills at a time; when it is done, or gone, another may.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Protocol

from gateway.core.facts.memory import Vector
from gateway.core.vision.document import Region
from gateway.core.vision.shown import said_in
from gateway.ports_memory import Embedding
from gateway.ports_vision import VisionFault

_AT_ONCE = 256
_PATIENCE_S = 60.0
_MAX_VAIN = 16_384
_LEASE_US = 90_000_000
"""Longer than one filling may take."""


class Lacking(Protocol):
    async def lacking_vectors(self, model: str, limit: int) -> Sequence[Region]: ...

    async def put_vectors(self, vectors: Sequence[Vector]) -> None: ...

    async def claim_filling(self, worker: str, lease_us: int) -> bool: ...


class RegionVectorFiller:
    """Fills one store.

    Args:
        store: of documents.
        embedder: makes vectors, on nobody's account.
        idle_s: between looks while nothing lacks one,
        rest_s: and after trouble.

    Attributes:
        filled: how many regions were given one.
    """

    def __init__(self, store: Lacking, embedder: Embedding, idle_s: float = 2.0, rest_s: float = 30.0) -> None:
        self._store = store
        self._embedder = embedder
        self._idle_s = idle_s
        self._rest_s = rest_s
        self._worker = os.urandom(8).hex()
        self._has_turn = False
        self.filled = 0
        self._vain: set[str] = set()
        """Regions that got none lately; they come again once all others have had their turn."""

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                wait_s = await self.fill_some()
            except VisionFault:
                wait_s = self._rest_s
            await asyncio.sleep(wait_s)

    async def fill_some(self) -> float:
        """Fill some; returns how long to wait before the next.

        Raises:
            VisionFault: the store cannot be asked, or is full.
        """
        model = self._embedder.model
        found = await self._store.lacking_vectors(model, _AT_ONCE + len(self._vain))
        lacking = [region for region in found if region.id not in self._vain][:_AT_ONCE]
        if not lacking:
            self._vain.clear()
            await self._end_turn()
            return self._rest_s if found else self._idle_s
        self._has_turn = await self._store.claim_filling(self._worker, _LEASE_US)
        if not self._has_turn:
            return self._idle_s
        return await self._fill(model, lacking)

    async def _end_turn(self) -> None:
        """Let another begin at once."""
        if self._has_turn:
            await self._store.claim_filling(self._worker, 0)
            self._has_turn = False

    async def _fill(self, model: str, lacking: Sequence[Region]) -> float:
        """Fill these; returns how long to wait before the next."""
        silent = [Vector(region.id, model, b"") for region in lacking if not said_in(region)]
        saying = [region for region in lacking if said_in(region)]
        made = await self._embedder.embed(None, [said_in(region) for region in saying], _PATIENCE_S)
        vectors = [Vector(region.id, model, data) for region, data in zip(saying, made, strict=True) if data]
        if vectors or silent:
            await self._store.put_vectors([*vectors, *silent])
        self.filled += len(vectors)
        if len(vectors) == len(saying):
            return 0.0
        if len(self._vain) > _MAX_VAIN:
            self._vain.clear()
        self._vain.update(region.id for region, data in zip(saying, made, strict=True) if not data)
        return self._rest_s

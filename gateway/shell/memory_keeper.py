"""Keeps a store of memories: opened at the start, swept and counted from time to time, closed at the end.

A store that is down stops nothing: it is asked again by whoever needs it, and here once a period.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Mapping
from typing import Protocol

from gateway.core.facts.memory import Kind
from gateway.ports_memory import MemoryFault, MemoryStore

_log = logging.getLogger("gateway.memory")
_FIRST_S = 1.0
_OPEN_S = 2.0
"""How long the start of a gateway waits for its store."""


class KeptStore(MemoryStore, Protocol):
    """A store that has a beginning and an end."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...


class MemoryKeeper:
    """Keeps one store.

    Args:
        store: of memories.
        tally: where faults are counted.
        period_s: between sweeps.
    """

    def __init__(self, store: KeptStore, tally: Counter[tuple[str, str]], period_s: float = 60.0) -> None:
        self._store = store
        self._tally = tally
        self._period_s = period_s
        self._keeping: asyncio.Task[None] | None = None
        self._was_tried = asyncio.Event()
        self.items: Mapping[Kind, int] = {}
        """How many memories there were when they were last counted."""

    async def open(self) -> None:
        """Begin to keep the store: opened within a moment, or tried again when it is needed."""
        self._keeping = asyncio.create_task(self._keep())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_OPEN_S):
                await self._was_tried.wait()

    async def close(self) -> None:
        """Sweep no more, and close the store."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
        await self._store.close()

    async def sweep(self) -> None:
        """Let go what has expired, and count what is left."""
        try:
            await self._store.sweep()
            await self._count()
        except MemoryFault as fault:
            self._note(fault, "the memory store could not be swept")

    async def _keep(self) -> None:
        try:
            await self._store.open()
        except MemoryFault as fault:
            self._note(fault, "the memory store cannot be opened; it is tried again when it is needed")
        finally:
            self._was_tried.set()
        await asyncio.sleep(min(_FIRST_S, self._period_s))
        while True:
            await self.sweep()
            await asyncio.sleep(self._period_s)

    async def _count(self) -> None:
        self.items = await self._store.totals()

    def _note(self, fault: MemoryFault, what: str) -> None:
        self._tally["fault", fault.kind] += 1
        _log.warning(what, extra={"kind": fault.kind, "reason": fault.message})

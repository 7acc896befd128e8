"""Keeps a store of documents: opened at the start, swept and counted from time to time, closed at the end.

A store that is down stops nothing: it is asked again by whoever needs it, and here once a period.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Protocol

from gateway.ports_vision import DocumentStore, VisionFault

_log = logging.getLogger("gateway.vision")
_OPEN_S = 2.0
"""How long the start of a gateway waits for its store."""
_SWEEP_TIMES = 6
"""It is counted so many times as often as it is swept."""


class KeptDocuments(DocumentStore, Protocol):
    """A store that has a beginning, an end, and a size."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def held_bytes(self) -> int: ...

    async def totals(self) -> tuple[int, int]: ...


class DocumentKeeper:
    """Keeps one store.

    Args:
        store: of documents.
        job_ttl_s: how long jobs that have ended are told of.
        period_s: between counts.
        clock: seconds since 1970.
    """

    def __init__(
        self, store: KeptDocuments, job_ttl_s: float, period_s: float = 10.0, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._job_ttl_s = job_ttl_s
        self._period_s = period_s
        self._clock = clock
        self._keeping: asyncio.Task[None] | None = None
        self._was_tried = asyncio.Event()
        self.documents = self.regions = self.held_bytes = self.waiting = 0

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

    async def count(self) -> None:
        """How much there is now."""
        self.documents, self.regions = await self._store.totals()
        self.held_bytes = await self._store.held_bytes()
        self.waiting = await self._store.waiting_jobs()

    async def _keep(self) -> None:
        try:
            await self._store.open()
        except VisionFault as fault:
            _note(fault, "the store of documents cannot be opened; it is tried again when it is needed")
        finally:
            self._was_tried.set()
        times = 0
        while True:
            try:
                await self.count()
                if times % _SWEEP_TIMES == 0:
                    await self._store.sweep(int((self._clock() - self._job_ttl_s) * 1e6))
            except VisionFault as fault:
                _note(fault, "the store of documents could not be swept")
            except Exception:  # noqa: BLE001 - a fault of our own must not end the sweeping
                _log.exception("the store of documents could not be swept")
            times += 1
            await asyncio.sleep(self._period_s)


def _note(fault: VisionFault, what: str) -> None:
    _log.warning(what, extra={"kind": fault.kind, "reason": fault.message})

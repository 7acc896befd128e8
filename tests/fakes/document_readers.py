"""Readers, fetchers and stores of documents that do as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from gateway.core.vision.document import Box, LaidPage, LaidRegion, PageSize, Reading, RegionType
from gateway.ports_vision import Inspected, VisionFault


class MadeReader:
    """Reads documents that are lines of text, a page each.

    Attributes:
        read: pages that were asked for.
        gate: while it is cleared, pages wait before they are read.
        gate_at: pages from this one on.
        faults: to raise at a page, 0 for `inspect`; each once.
        scans: pages that have no text layer.
        left: readings that were ended before their end.
    """

    def __init__(self) -> None:
        self.read: list[int] = []
        self.inspected = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.gate_at = 1
        self.arrived = asyncio.Event()
        self.faults: dict[int, BaseException] = {}
        self.scans: set[int] = set()
        self.left = 0

    async def inspect(self, data: bytes) -> Inspected:
        self.inspected += 1
        self._fail_at(0)
        return Inspected("text/x-made", len(data.splitlines()))

    async def pages(self, data: bytes, first: int) -> AsyncGenerator[LaidPage, None]:
        try:
            for number, line in enumerate(data.decode().splitlines(), 1):
                if number < first:
                    continue
                if number >= self.gate_at:
                    self.arrived.set()
                    await self.gate.wait()
                self._fail_at(number)
                self.read.append(number)
                has_text = number not in self.scans
                laid = LaidRegion(Box(1, 2, 3, 4), RegionType.TEXT, line, has_text_layer=has_text)
                yield LaidPage(PageSize(100, 200), [laid] if line else [])
        except (GeneratorExit, asyncio.CancelledError):
            self.left += 1
            raise

    def _fail_at(self, page: int) -> None:
        if (fault := self.faults.pop(page, None)) is not None:
            raise fault

    async def render(self, data: bytes, page: int, box: Box | None, max_side_px: int) -> bytes:
        raise NotImplementedError

    async def decode(self, data: bytes, page: int, box: Box, dpi: int) -> Reading:
        raise NotImplementedError

    async def close(self) -> None:
        """Nothing runs."""


class MadeFetcher:
    """Fetches what it is given, by URL; what is a fault is raised."""

    def __init__(self) -> None:
        self.documents: dict[str, bytes | VisionFault] = {}
        self.fetched: list[str] = []

    async def fetch(self, url: str) -> bytes:
        self.fetched.append(url)
        found = self.documents[url]
        if isinstance(found, VisionFault):
            raise found
        return found


class FlakyStore:
    """A store before another: calls by name fail so many times, before or after they were done.

    Attributes:
        failing: how many times each call still fails; those named `+name` are done first.
        kind: of the faults.
        calls: names, in order.
    """

    def __init__(self, store: Any) -> None:
        self._store = store
        self.failing: dict[str, int] = {}
        self.kind = "down"
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._store, name)

        async def call(*arguments: Any) -> Any:
            self.calls.append(name)
            if self._fails(name):
                raise VisionFault(self.kind, "the store is not there")
            result = await real(*arguments)
            if self._fails("+" + name):
                raise VisionFault(self.kind, "the store did not answer")
            return result

        return call

    def _fails(self, name: str) -> bool:
        left = self.failing.get(name, 0)
        if left > 0:
            self.failing[name] = left - 1
        return left > 0

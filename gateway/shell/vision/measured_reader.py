"""A reader whose pages are counted and timed."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from gateway.core.vision.document import Box, LaidPage, Reading
from gateway.ports_vision import Inspected, Reader

Observe = Callable[[str, float], None]
"""Told where a page's text came from (`document`, `picture`, or `none` of a blank one), and how long it took."""


class MeasuredReader:
    """`ports_vision.Reader` around another.

    Args:
        reader: that reads.
        observe: told of each page.
        clock: seconds.
    """

    def __init__(self, reader: Reader, observe: Observe, clock: Callable[[], float] = time.perf_counter) -> None:
        self._reader = reader
        self._observe = observe
        self._clock = clock

    async def inspect(self, data: bytes) -> Inspected:
        return await self._reader.inspect(data)

    async def pages(self, data: bytes, first: int) -> AsyncGenerator[LaidPage, None]:
        async with aclosing(self._reader.pages(data, first)) as pages:
            begun_s = self._clock()
            async for page in pages:
                self._observe(source_of(page), self._clock() - begun_s)
                yield page
                begun_s = self._clock()

    async def render(self, data: bytes, page: int, box: Box | None, max_side_px: int) -> bytes:
        return await self._reader.render(data, page, box, max_side_px)

    async def decode(self, data: bytes, page: int, box: Box, dpi: int) -> Reading:
        return await self._reader.decode(data, page, box, dpi)

    async def close(self) -> None:
        await self._reader.close()


def source_of(page: LaidPage) -> str:
    """Where a page's text came from: from its picture, if any of it did."""
    texts = [region for region in page.regions if region.text]
    if not texts:
        return "none"
    return "document" if all(region.has_text_layer for region in texts) else "picture"

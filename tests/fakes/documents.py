"""Fakes behind the ports of vision: a reader of documents that are lines of text, and a decoder that does as told."""

from __future__ import annotations

import asyncio
import io
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from PIL import Image

from gateway.core.vision.document import (
    Box,
    Fidelity,
    LaidPage,
    LaidRegion,
    PageSize,
    Reading,
    RegionType,
)
from gateway.exchange import Exchange
from gateway.ports_vision import Inspected, ToDecode, VisionFault

SIZE = PageSize(1224, 1584)


class LinesReader:
    """`ports_vision.Reader` of texts: form feeds end pages, each line is a region; anything else is unreadable."""

    async def inspect(self, data: bytes) -> Inspected:
        return Inspected("text/plain", len(_pages_of(data)))

    async def pages(self, data: bytes, first: int) -> AsyncGenerator[LaidPage, None]:
        for lines in _pages_of(data)[first - 1 :]:
            regions = []
            for number, line in enumerate(lines):
                kind = RegionType.TABLE if " | " in line else RegionType.TEXT
                regions.append(LaidRegion(Box(100, 100 + 50 * number, 800, 40), kind, line))
            yield LaidPage(SIZE, regions)

    async def render(self, data: bytes, page: int, box: Box | None, max_side_px: int) -> bytes:
        width, height = (box.w, box.h) if box is not None else (SIZE.width, SIZE.height)
        scale = max_side_px / max(width, height)
        picture = Image.new("RGB", (max(1, round(width * scale)), max(1, round(height * scale))), (page % 256, 0, 0))
        kept = io.BytesIO()
        picture.save(kept, "PNG")
        return kept.getvalue()

    async def decode(self, data: bytes, page: int, box: Box, dpi: int) -> Reading:
        line = _pages_of(data)[page - 1][(box.y - 100) // 50]
        if line.startswith("!"):
            raise VisionFault(line[1:], "as told")
        return Reading(f"{line} at {dpi}", 1.0)

    async def close(self) -> None:
        """Nothing runs."""


def _pages_of(data: bytes) -> list[list[str]]:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise VisionFault("unreadable", "The document is no text.") from None
    return [page.splitlines() for page in text.split("\f")]


@dataclass
class ToldDecoder:
    """`ports_vision.Decoder` that answers with what is next in `script`: a reading, a fault, or None for a hang."""

    script: deque[Reading | Exception | None] = field(default_factory=deque)
    version: str = "told"
    calls: int = 0
    running: int = 0
    most_running: int = 0
    cancelled: int = 0
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)

    async def decode(self, exchange: Exchange, wanted: ToDecode, fidelity: Fidelity) -> Reading:
        self.calls += 1
        number = self.calls
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        self.begun.set()
        try:
            told = self.script.popleft() if self.script else Reading(f"reading {number}", None)
            if told is None:
                await self.release.wait()
                return Reading(f"released {number}", None)
            await asyncio.sleep(0)
            if isinstance(told, Exception):
                raise told
            return told
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

"""What tests of decoders ask for: a region of a document that is a few lines of text."""

from __future__ import annotations

from typing import Any, cast

from gateway.core.vision.document import Box, LaidRegion, PageSize, Region, RegionType
from gateway.core.wire.request import Endpoint
from gateway.exchange import Exchange
from gateway.ports_vision import ToDecode

DATA = b"Invoice 2024-00917\nTea | 4.50\n!timeout\n!unreadable"


def exchange() -> Exchange:
    none = cast("Any", None)
    return Exchange("r", "POST", "/", "/", [], Endpoint.VISION_DECODE, none, none, 0.0)


def wanted(line: int = 0, hash_: str = "h", data: bytes = DATA, region: Region | None = None) -> ToDecode:
    async def fetch() -> bytes:
        return data

    kind = RegionType.TABLE if line == 1 else RegionType.TEXT
    laid = LaidRegion(Box(100, 100 + 50 * line, 800, 40), kind, "text")
    usual = Region(f"{line:032x}", "d" * 32, 1, laid, 10, PageSize(1224, 1584))
    return ToDecode(region or usual, hash_, fetch)

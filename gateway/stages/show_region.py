"""In place of the last stages: `GET /api/v1/vision/regions/{id}/image` shows what a region looks like, as a PNG.

A document's bytes are held for a few pictures at a time; others wait for their turn before anything is fetched.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.core.vision.wire_asked import MAX_SIDE_PX, parse_side
from gateway.core.wire.headers import Headers
from gateway.exchange import Exchange
from gateway.ports_vision import VisionFault
from gateway.remembering import owner_of
from gateway.seeing import Seeing, id_in_path, unknown

_PNG: Headers = [("Content-Type", "image/png"), ("Cache-Control", "private, no-store")]

_AT_ONCE = 4


class ShowRegionStage:
    """Answers with the picture, at the size that its box has, or whose longer side is as long as is asked.

    Args:
        seeing: the store and its rules.
    """

    def __init__(self, seeing: Seeing) -> None:
        self._seeing = seeing
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def __call__(self, exchange: Exchange) -> None:
        region_id, owner, seeing = id_in_path(exchange, "region"), owner_of(exchange), self._seeing
        side_px = parse_side(exchange.target)
        region = (await seeing.ask(seeing.store.regions(owner, [region_id]))).get(region_id)
        if region is None:
            raise unknown("region", region_id)
        box = region.laid.box
        side_px = side_px or min(MAX_SIDE_PX, max(box.w, box.h))
        async with self._turn():
            data = await seeing.ask(seeing.bytes_of(owner, region.doc_id))
            try:
                picture = await seeing.reader.render(data, region.page, box, side_px)
            except VisionFault as fault:
                raise seeing.refusal_of(fault) from None
        exchange.outcome.status = 200
        await exchange.outbound.start(200, _PNG, len(picture))
        await exchange.outbound.end(picture)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One of the places.

        Raises:
            Refusal: 504, none became free in time.
        """
        wait_s = self._seeing.rules.wait_s
        try:
            async with asyncio.timeout(wait_s):
                await self._places.acquire()
        except TimeoutError:
            late = VisionFault("timeout", f"{_AT_ONCE} pictures are being made; none was done in {wait_s:g} s.")
            raise self._seeing.refusal_of(late) from None
        try:
            yield
        finally:
            self._places.release()

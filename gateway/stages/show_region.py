"""In place of the last stages: `GET /api/v1/vision/regions/{id}/image` shows what a region looks like, as a PNG.

A document's bytes are held for a few pictures at a time; others wait for their turn before anything is fetched. One
that is given up is made all the same: to end it would be to end the process that also reads for others.
"""

from __future__ import annotations

import asyncio

from gateway.core.vision.document import Region
from gateway.core.vision.wire_asked import MAX_SIDE_PX, parse_side
from gateway.core.wire.headers import Headers
from gateway.exchange import Exchange
from gateway.ports_vision import VisionFault
from gateway.remembering import owner_of
from gateway.seeing import Seeing, id_in_path, unknown
from gateway.tasks import TaskGroup

_PNG: Headers = [("Content-Type", "image/png"), ("Cache-Control", "private, no-store")]

_AT_ONCE = 4


class ShowRegionStage:
    """Answers with the picture, at the size that its box has, or whose longer side is as long as is asked.

    Args:
        seeing: the store and its rules.
        tasks: where pictures are made that nobody waits for any longer.
    """

    def __init__(self, seeing: Seeing, tasks: TaskGroup) -> None:
        self._seeing = seeing
        self._tasks = tasks
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def __call__(self, exchange: Exchange) -> None:
        region_id, owner, seeing = id_in_path(exchange, "region"), owner_of(exchange), self._seeing
        side_px = parse_side(exchange.target)
        region = (await seeing.ask(seeing.store.regions(owner, [region_id]))).get(region_id)
        if region is None:
            raise unknown("region", region_id)
        box = region.laid.box
        side_px = side_px or min(MAX_SIDE_PX, max(box.w, box.h))
        picture = await self._picture(owner, region, side_px)
        exchange.outcome.status = 200
        await exchange.outbound.start(200, _PNG, len(picture))
        await exchange.outbound.end(picture)

    async def _picture(self, owner: bytes, region: Region, side_px: int) -> bytes:
        """Its picture, once there is a place for it.

        Raises:
            Refusal: there is none, or none in time.
        """
        seeing = self._seeing
        await self._take_place()
        try:
            data = await seeing.ask(seeing.bytes_of(owner, region.doc_id))
            making = self._tasks.spawn(self._made(data, region, side_px), "picture of a region")
        except BaseException:
            self._places.release()
            raise
        making.add_done_callback(lambda _: self._places.release())
        made = await asyncio.shield(making)
        if isinstance(made, VisionFault):
            raise seeing.refusal_of(made) from None
        return made

    async def _made(self, data: bytes, region: Region, side_px: int) -> bytes | VisionFault:
        try:
            return await self._seeing.reader.render(data, region.page, region.laid.box, side_px)
        except VisionFault as fault:
            return fault

    async def _take_place(self) -> None:
        wait_s = self._seeing.rules.wait_s
        try:
            async with asyncio.timeout(wait_s):
                await self._places.acquire()
        except TimeoutError:
            late = VisionFault("timeout", f"{_AT_ONCE} pictures are being made; none was done in {wait_s:g} s.")
            raise self._seeing.refusal_of(late) from None

"""In place of the last stages: `POST /api/v1/vision/decode` reads regions again, as finely as is asked.

A region that cannot be read fails none beside it; where all fail alike, so does the request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from gateway.core.coded_errors import told_error
from gateway.core.errors import Refusal
from gateway.core.vision.document import Document, Fidelity, Reading
from gateway.core.vision.wire_asked import parse_decoding
from gateway.core.vision.wire_told import told_reading, unknown_regions
from gateway.exchange import Exchange
from gateway.ports_vision import ToDecode, VisionFault
from gateway.remembering import answer_json, owner_of, read_body
from gateway.seeing import Seeing


class _FetchOnce:
    """A document's bytes, fetched when they are needed first, and once for all regions of a request."""

    def __init__(self, fetch: Callable[[], Awaitable[bytes]]) -> None:
        self._fetch = fetch
        self._turn = asyncio.Lock()
        self._data: bytes | None = None

    async def __call__(self) -> bytes:
        async with self._turn:
            if self._data is None:
                self._data = await self._fetch()
        return self._data


class DecodeRegionsStage:
    """Answers with what each region says, or why it could not be read, in the order that was asked for.

    Args:
        seeing: the store and its rules.
    """

    def __init__(self, seeing: Seeing) -> None:
        self._seeing = seeing

    async def __call__(self, exchange: Exchange) -> None:
        rules = self._seeing.rules
        asked = parse_decoding(await read_body(exchange), rules.max_regions, rules.fidelity)
        wanted = await self._find(exchange, list(dict.fromkeys(asked.region_ids)))
        decodings = [self._decode(exchange, each, asked.fidelity) for each in wanted.values()]
        read = dict(zip(wanted, await asyncio.gather(*decodings), strict=True))
        self._refuse_if_all_failed(list(read.values()))
        told = {region_id: self._told(region_id, found, asked.fidelity) for region_id, found in read.items()}
        await answer_json(exchange, {"results": [told[region_id] for region_id in asked.region_ids]})

    async def _find(self, exchange: Exchange, region_ids: list[str]) -> dict[str, ToDecode]:
        """What is to be read, by region.

        Raises:
            Refusal: 404, some regions are none of this client's.
        """
        seeing, owner = self._seeing, owner_of(exchange)
        regions = await seeing.ask(seeing.store.regions(owner, region_ids))
        doc_ids = list(dict.fromkeys(region.doc_id for region in regions.values()))
        documents: dict[str, Document] = {}
        for doc_id in doc_ids:
            document = await seeing.ask(seeing.store.document(owner, doc_id))
            if document is not None:
                documents[doc_id] = document
        if missing := [each for each in region_ids if each not in regions or regions[each].doc_id not in documents]:
            raise unknown_regions(missing)
        fetches = {doc_id: _FetchOnce(partial(self._seeing.bytes_of, owner, doc_id)) for doc_id in doc_ids}
        return {
            region_id: ToDecode(region, documents[region.doc_id].hash, fetches[region.doc_id])
            for region_id, region in ((region_id, regions[region_id]) for region_id in region_ids)
        }

    async def _decode(self, exchange: Exchange, wanted: ToDecode, fidelity: Fidelity) -> Reading | Refusal:
        try:
            return await self._seeing.decoder.decode(exchange, wanted, fidelity)
        except VisionFault as fault:
            return self._seeing.refusal_of(fault)

    def _refuse_if_all_failed(self, read: list[Reading | Refusal]) -> None:
        refusals = [found for found in read if isinstance(found, Refusal)]
        if len(refusals) == len(read) and len({refusal.code for refusal in refusals}) == 1:
            raise refusals[0]

    def _told(self, region_id: str, found: Reading | Refusal, fidelity: Fidelity) -> dict[str, Any]:
        if isinstance(found, Refusal):
            return {"region_id": region_id, "error": told_error(found)}
        return told_reading(region_id, found, fidelity.value)

"""In place of the last stages: `POST /api/v1/vision/search` finds the regions of documents that answer a question."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.vision.document import FoundRegion
from gateway.core.vision.wire_asked import parse_search
from gateway.core.vision.wire_told import told_found
from gateway.exchange import Exchange
from gateway.remembering import answer_json, read_body, scope_of
from gateway.seeing import Seeing


class SearchRegionsStage:
    """Answers with regions, best first.

    Args:
        seeing: the store and its rules.
    """

    def __init__(self, seeing: Seeing) -> None:
        self._seeing = seeing

    async def __call__(self, exchange: Exchange) -> None:
        seeing = self._seeing
        asked = parse_search(await read_body(exchange))
        found: Sequence[FoundRegion] = ()
        sought = await seeing.with_vector(exchange, asked.query, asked.sought)
        if sought.terms or sought.vector:
            found = await seeing.ask(seeing.store.search(scope_of(exchange), sought, asked.limit))
        regions = [told_found(each, asked.words) for each in found]
        await answer_json(exchange, {"regions": regions, "total": len(regions)})

"""In place of the last stages: `GET /api/v1/vision/documents` lists the documents of a memory, in pages."""

from __future__ import annotations

from gateway.core.facts.cursor import parse_cursor, render_cursor
from gateway.core.facts.memory import Wanted
from gateway.core.vision.wire_asked import parse_page
from gateway.core.vision.wire_told import told_document
from gateway.exchange import Exchange
from gateway.remembering import answer_json, scope_of
from gateway.seeing import Seeing

_ANY = Wanted()
"""No query of facts asks for memories of any kind: a cursor of one list is none of the other."""


class ListDocumentsStage:
    """Answers with a page.

    Args:
        seeing: the store and its rules.
    """

    def __init__(self, seeing: Seeing) -> None:
        self._seeing = seeing

    async def __call__(self, exchange: Exchange) -> None:
        scope, seeing = scope_of(exchange), self._seeing
        asked = parse_page(exchange.target)
        after = None if asked.cursor is None else parse_cursor(scope, _ANY, asked.cursor)
        page = await seeing.ask(seeing.store.documents(scope, after, asked.limit))
        following = None if page.next is None else render_cursor(scope, _ANY, page.next)
        documents = [told_document(document) for document in page.documents]
        await answer_json(exchange, {"documents": documents, "total": page.total, "next_cursor": following})

"""In place of the last stages: `GET` and `DELETE /api/v1/vision/documents/{id}`; its regions go with a document."""

from __future__ import annotations

from gateway.core.vision.wire_told import told_document
from gateway.exchange import Exchange
from gateway.remembering import answer_json, answer_nothing, owner_of
from gateway.seeing import Seeing, id_in_path, unknown


class AnswerDocumentStage:
    """Answers 200 with the document, 204 when it is gone, or 404.

    Args:
        seeing: the store and its rules.
    """

    def __init__(self, seeing: Seeing) -> None:
        self._seeing = seeing

    async def __call__(self, exchange: Exchange) -> None:
        doc_id, owner, seeing = id_in_path(exchange, "document"), owner_of(exchange), self._seeing
        if exchange.method == "DELETE":
            if not await seeing.ask(seeing.store.delete_document(owner, doc_id)):
                raise unknown("document", doc_id)
            await answer_nothing(exchange)
            return
        document = await seeing.ask(seeing.store.document(owner, doc_id))
        if document is None:
            raise unknown("document", doc_id)
        await answer_json(exchange, told_document(document))

"""In place of the last stages: `POST /api/v1/contexts/search` finds a memory's texts that answer a question best."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.facts.fusion import fuse
from gateway.core.facts.memory import Found
from gateway.core.facts.wire_contexts import parse_search, told_context
from gateway.exchange import Exchange
from gateway.remembering import Remembering, answer_json, read_body, scope_of


class SearchContextsStage:
    """Answers with texts, best first.

    Args:
        remembering: the store and its rules.
    """

    def __init__(self, remembering: Remembering) -> None:
        self._remembering = remembering

    async def __call__(self, exchange: Exchange) -> None:
        remembering, scope = self._remembering, scope_of(exchange)
        asked = parse_search(await read_body(exchange))
        sought = await remembering.with_vector(exchange, asked.query, asked.sought)
        found: Sequence[Found] = ()
        if sought.terms or sought.vector:
            found = await remembering.ask(lambda: remembering.store.search(scope, sought, asked.limit))
        contexts = [told_context(memory, round(score, 4)) for memory, score in fuse(found)[: asked.limit]]
        await answer_json(exchange, {"contexts": contexts, "total": len(contexts)})

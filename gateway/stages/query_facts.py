"""In place of the last stages: `POST /api/v1/facts/query` lists a memory's facts that a query asks for, in pages."""

from __future__ import annotations

from gateway.core.facts.cursor import parse_cursor, render_cursor
from gateway.core.facts.memory import Page
from gateway.core.facts.wire_facts import parse_question, told_fact
from gateway.exchange import Exchange
from gateway.remembering import Remembering, answer_json, read_body, scope_of


class QueryFactsStage:
    """Answers with a page.

    Args:
        remembering: the store and its rules.
    """

    def __init__(self, remembering: Remembering) -> None:
        self._remembering = remembering

    async def __call__(self, exchange: Exchange) -> None:
        scope, remembering = scope_of(exchange), self._remembering
        asked = parse_question(await read_body(exchange), remembering.facts)
        after = None if asked.cursor is None else parse_cursor(scope, asked.wanted, asked.cursor)
        page = Page((), 0)
        if asked.can_match:
            page = await remembering.ask(lambda: remembering.store.page(scope, asked.wanted, after, asked.limit))
        following = None if page.next is None else render_cursor(scope, asked.wanted, page.next)
        facts = [told_fact(memory) for memory in page.memories]
        await answer_json(exchange, {"facts": facts, "total": page.total, "next_cursor": following})

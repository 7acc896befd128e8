"""In place of the last stages: `POST /api/v1/contexts` stores a text in the memory that the request names."""

from __future__ import annotations

from gateway.bulk import count_stored
from gateway.core.facts.memory import Kind
from gateway.core.facts.times import told_time
from gateway.core.facts.wire_contexts import parse_context
from gateway.exchange import Exchange
from gateway.remembering import Remembering, answer_json, read_body, scope_of


class StoreContextStage:
    """Stores, and says under which id and until when.

    Args:
        remembering: the store and its rules.
    """

    def __init__(self, remembering: Remembering) -> None:
        self._remembering = remembering

    async def __call__(self, exchange: Exchange) -> None:
        remembering, scope = self._remembering, scope_of(exchange)
        value = await read_body(exchange)
        draft = parse_context(value, remembering.contexts, remembering.now_us(), remembering.new_id())
        (stored,) = await remembering.ask(lambda: remembering.store.put(scope, [draft.memory]))
        count_stored(remembering, draft, is_duplicate=stored.is_duplicate)
        expires_us = draft.memory.expires_us
        if stored.is_duplicate:  # the later of both lifetimes holds
            known = await remembering.ask(lambda: remembering.store.get(scope.owner, stored.id, Kind.CONTEXT))
            expires_us = known.expires_us if known is not None else expires_us
        told = {
            "context_id": stored.id,
            "duplicate": stored.is_duplicate,
            "expires_at": None if expires_us is None else told_time(expires_us),
        }
        await answer_json(exchange, told, 201)

"""In place of the last stages: `POST /api/v1/facts` stores one fact, or many, in the memory that the request names.

One is a JSON object, answered with 201. Many are a JSON list or, without bounds on the whole, lines of JSON
(`application/x-ndjson`); each is answered by a line.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from gateway.bulk import NDJSON_TYPES, count_stored, items_of, lines_of, store_lines
from gateway.core.facts.wire_facts import Draft, parse_fact
from gateway.exchange import Exchange
from gateway.remembering import Remembering, answer_json, media_type_of, read_value, scope_of


class InsertFactsStage:
    """Stores, and says under which ids.

    Args:
        remembering: the store and its rules.
    """

    def __init__(self, remembering: Remembering) -> None:
        self._remembering = remembering

    async def __call__(self, exchange: Exchange) -> None:
        store = partial(store_lines, exchange, self._remembering, scope_of(exchange))
        if media_type_of(exchange) in NDJSON_TYPES:
            await store(lines_of(exchange), self._parse)
            return
        body = await exchange.inbound.read()
        if body.lstrip(b" \t\r\n").startswith(b"["):
            await store(items_of(body), self._parse)
        else:
            await self._insert_one(exchange, body)

    async def _insert_one(self, exchange: Exchange, body: bytes) -> None:
        remembering, scope = self._remembering, scope_of(exchange)
        draft = self._parse(await read_value(body), remembering.now_us(), remembering.new_id())
        (stored,) = await remembering.ask(lambda: remembering.store.put(scope, [draft.memory]))
        count_stored(remembering, draft, is_duplicate=stored.is_duplicate)
        told = {"fact_id": stored.id, "hash": draft.hash, "duplicate": stored.is_duplicate}
        await answer_json(exchange, told, 201)

    def _parse(self, value: Any, now_us: int, memory_id: str) -> Draft:
        return parse_fact(value, self._remembering.facts, now_us, memory_id)

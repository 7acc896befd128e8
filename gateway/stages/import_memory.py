"""In place of the last stages: `POST /api/v1/memories/{name}/import` stores exported lines in a client's own memory.

Times, sources and lifetimes are the lines' own; ids and owners are not theirs to say.
"""

from __future__ import annotations

from typing import Any

from gateway.bulk import lines_of, store_lines
from gateway.core.facts.wire_facts import Draft
from gateway.core.facts.wire_portable import parse_portable
from gateway.exchange import Exchange
from gateway.remembering import Remembering, media_type_of, named_scope


class ImportMemoryStage:
    """Stores, and answers each line.

    Args:
        remembering: the store and its rules.
    """

    def __init__(self, remembering: Remembering) -> None:
        self._remembering = remembering

    async def __call__(self, exchange: Exchange) -> None:
        media_type_of(exchange)
        await store_lines(exchange, self._remembering, named_scope(exchange), lines_of(exchange), self._parse)

    def _parse(self, value: Any, now_us: int, memory_id: str) -> Draft:
        remembering = self._remembering
        return parse_portable(value, remembering.facts, remembering.contexts, now_us, memory_id)

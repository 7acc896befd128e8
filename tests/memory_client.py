"""A client of the gateway's memory, for tests: one line a call, the answer's status and value."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from typing import Any
from urllib.parse import quote

from tests.api_client import ApiClient, Json, Told

NDJSON = {"Content-Type": "application/x-ndjson"}


class MemoryClient(ApiClient):
    """Calls of memory with one key."""

    async def lines(self, path: str, lines: bytes | AsyncIterator[bytes]) -> Told:
        """A call with lines of JSON."""
        return await self._send("POST", path, lines, NDJSON)

    async def insert(self, subject: str, predicate: str, object_: str, **fields: Any) -> Json:
        """Store a fact."""
        told = await self.call(
            "POST", "/facts", {"subject": subject, "predicate": predicate, "object": object_, **fields}
        )
        assert told.status == 201, told.body
        found: Json = told.json
        return found

    async def query(self, cursor: str | None = None, **query: Any) -> Json:
        """One page."""
        told = await self.call("POST", "/facts/query", {"query": query, "cursor": cursor})
        assert told.status == 200, told.body
        found: Json = told.json
        return found

    async def all_facts(self, **query: Any) -> list[Json]:
        """Every page."""
        facts: list[Json] = []
        cursor = None
        while True:
            page = await self.query(cursor, **query)
            facts += page["facts"]
            cursor = page["next_cursor"]
            if cursor is None:
                return facts

    async def export(self, name: str) -> bytes:
        """All of a memory."""
        told = await self.call("GET", f"/memories/{quote(name, safe='')}/export")
        assert told.status == 200, told.body
        return told.body


def as_lines(rows: Iterable[Json]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)

"""A client of the gateway's memory, for tests: one line a call, the answer's status and value."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import aiohttp

from tests.gateway_process import GatewayProcess

Json = dict[str, Any]
NDJSON = {"Content-Type": "application/x-ndjson"}


@dataclass(frozen=True, slots=True)
class Told:
    """What was answered."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def rows(self) -> list[Json]:
        """Of an answer in lines."""
        return [json.loads(line) for line in self.body.splitlines()]


class MemoryClient:
    """Calls with one key.

    Args:
        web: sends.
        gateway: is asked.
        key: of the client.
        memory: that it names, or None.
    """

    def __init__(
        self, web: aiohttp.ClientSession, gateway: GatewayProcess, key: str, memory: str | None = None
    ) -> None:
        self._web = web
        self._root = gateway.base_url.removesuffix("/v1") + "/api/v1"
        self._headers = {"Authorization": f"Bearer {key}"} | ({"x-gateway-memory": memory} if memory else {})

    async def call(self, method: str, path: str, value: Any = None, **headers: str) -> Told:
        """A call with a JSON value, bytes as they are, or nothing."""
        data = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
        return await self._send(method, path, data, {"Content-Type": "application/json", **headers})

    async def lines(self, path: str, lines: bytes | AsyncIterator[bytes]) -> Told:
        """A call with lines of JSON."""
        return await self._send("POST", path, lines, NDJSON)

    async def _send(self, method: str, path: str, data: Any, headers: dict[str, str]) -> Told:
        sent = self._headers | headers
        async with self._web.request(method, self._root + path, data=data, headers=sent) as answer:
            return Told(
                answer.status, await answer.read(), {name.lower(): text for name, text in answer.headers.items()}
            )

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

"""A client of the gateway's own API, for tests: one line a call, the answer's status and value."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.gateway_process import GatewayProcess

Json = dict[str, Any]


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


class ApiClient:
    """Calls with one key.

    Args:
        web: sends.
        gateway: is asked.
        key: of the client.
        memory: that it names, or None.
    """

    below = "/api/v1"

    def __init__(
        self, web: aiohttp.ClientSession, gateway: GatewayProcess, key: str, memory: str | None = None
    ) -> None:
        self._web = web
        self._root = gateway.base_url.removesuffix("/v1") + self.below
        self._headers = {"Authorization": f"Bearer {key}"} | ({"x-gateway-memory": memory} if memory else {})

    async def call(self, method: str, path: str, value: Any = None, **headers: str) -> Told:
        """A call with a JSON value, bytes as they are, or nothing."""
        data = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
        return await self._send(method, path, data, {"Content-Type": "application/json", **headers})

    async def _send(self, method: str, path: str, data: Any, headers: dict[str, str]) -> Told:
        sent = self._headers | headers
        async with self._web.request(method, self._root + path, data=data, headers=sent) as answer:
            told = {name.lower(): text for name, text in answer.headers.items()}
            return Told(answer.status, await answer.read(), told)

"""The answer to a client, over aiohttp: the head leaves with the first bytes, and a broken body is never whole."""

from __future__ import annotations

import math

from aiohttp import hdrs, web

from gateway.core.errors import Refusal, render_error
from gateway.core.wire.headers import Headers
from gateway.shell.http.cors import allow_origin
from gateway.shell.http.protocol import Connection

_SERVER = "llm-gateway"


class _HeldResponse(web.StreamResponse):
    """A response whose head waits for the first bytes of the body, and leaves in one packet with them."""

    _send_headers_immediately = False

    async def _prepare_headers(self) -> None:
        """As aiohttp does it, but an answer without a content type stays without."""
        has_type = hdrs.CONTENT_TYPE in self._headers
        await super()._prepare_headers()
        if not has_type:
            self._headers.popall(hdrs.CONTENT_TYPE, None)


class HttpOutbound:
    """`exchange.Outbound` over an aiohttp request.

    Args:
        request: what is answered.
        request_id: sent with every answer.
        origin: of the web page that asks and may read the answer, or None.
    """

    __slots__ = ("_origin", "_request", "_request_id", "response")

    def __init__(self, request: web.BaseRequest, request_id: str, origin: str | None = None) -> None:
        self._request = request
        self._request_id = request_id
        self._origin = origin
        self.response: web.StreamResponse | None = None

    @property
    def has_started(self) -> bool:
        return self.response is not None and self.response.prepared

    @property
    def is_open(self) -> bool:
        transport = self._request.transport
        return transport is not None and not transport.is_closing()

    async def start(self, status: int, headers: Headers, length: int | None) -> None:
        response = _HeldResponse(status=status, headers=headers)
        response.headers["x-gateway-request-id"] = self._request_id
        response.headers.setdefault(hdrs.SERVER, _SERVER)
        if self._origin is not None:
            allow_origin(response.headers, self._origin)
        if length is not None:
            response.content_length = length
        connection = self._request.protocol
        if isinstance(connection, Connection) and connection.is_last:
            response.force_close()
        self.response = response

    async def write(self, chunk: bytes) -> None:
        await (await self._prepared()).write(chunk)

    async def end(self, chunk: bytes = b"") -> None:
        await (await self._prepared()).write_eof(chunk)

    async def _prepared(self) -> web.StreamResponse:
        """The response, ready to be written to; until then another may take its place."""
        assert self.response is not None
        if not self.response.prepared:
            await self.response.prepare(self._request)
        return self.response

    async def refuse(self, refusal: Refusal, headers: Headers) -> None:
        body = render_error(refusal)
        sent = [*headers, ("Content-Type", "application/json")]
        if refusal.retry_after_s is not None:
            sent.append(("Retry-After", str(math.ceil(refusal.retry_after_s))))
        await self.start(refusal.status, sent, len(body))
        assert self.response is not None
        if not self._request.content.is_eof():
            self.response.force_close()  # what is left of the body would be read as the next request
        await self.end(body)

    async def abort(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()

"""The answer to a client, over aiohttp: the head leaves with the first bytes, and a broken body is never whole."""

from __future__ import annotations

from aiohttp import web
from multidict import CIMultiDict

from gateway.core.errors import Refusal, render_error
from gateway.core.wire.headers import Headers


class _HeldResponse(web.StreamResponse):
    """A response whose head waits for the first bytes of the body, and leaves in one packet with them."""

    _send_headers_immediately = False


class HttpOutbound:
    """`ports.Outbound` over an aiohttp request."""

    __slots__ = ("_request", "_request_id", "response")

    def __init__(self, request: web.BaseRequest, request_id: str) -> None:
        self._request = request
        self._request_id = request_id
        self.response: web.StreamResponse | None = None

    @property
    def has_started(self) -> bool:
        return self.response is not None

    async def start(self, status: int, headers: Headers, length: int | None) -> None:
        response = _HeldResponse(status=status, headers=CIMultiDict(headers))
        response.headers["x-gateway-request-id"] = self._request_id
        if length is not None:
            response.content_length = length
        elif self._request.version < (1, 1):
            response.force_close()
        self.response = response
        await response.prepare(self._request)

    async def write(self, chunk: bytes) -> None:
        assert self.response is not None
        await self.response.write(chunk)

    async def end(self, chunk: bytes = b"") -> None:
        assert self.response is not None
        await self.response.write_eof(chunk)

    async def refuse(self, refusal: Refusal, headers: Headers) -> None:
        body = render_error(refusal)
        sent = [*headers, ("Content-Type", "application/json")]
        if refusal.retry_after_s is not None:
            sent.append(("Retry-After", f"{refusal.retry_after_s:g}"))
        await self.start(refusal.status, sent, len(body))
        assert self.response is not None
        if not self._request.content.is_eof():
            self.response.force_close()  # what is left of the body would be read as the next request
        await self.end(body)

    async def abort(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()

"""The answer to a client: the head leaves with the first bytes, and a broken body is never whole.

Written straight to aiohttp's connection, head and body in one piece where they are there together: aiohttp's own
response object builds, copies and takes apart what is known here already, and that is a sixth of a small request.
It counts as a response towards aiohttp, which asks four things of one: `prepare`, `write_eof`, `keep_alive` and
`force_close`; a test holds that.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from aiohttp import hdrs, web
from aiohttp.helpers import rfc822_formatted_time
from multidict import CIMultiDict

from gateway.core.errors import Refusal, render_error
from gateway.core.wire.headers import Headers
from gateway.core.wire.http1 import LAST_CHUNK, render_chunk, render_response_head
from gateway.shell.http.cors import allow_origin
from gateway.shell.http.protocol import Connection
from gateway.shell.wire import Wire

_SERVER = "llm-gateway"
_BODILESS = frozenset({204, 304})


class HttpOutbound:
    """`exchange.Outbound` over an aiohttp request.

    Args:
        request: what is answered.
        request_id: sent with every answer.
        origin: of the web page that asks and may read the answer, or None.
        render: the form of errors.
    """

    __slots__ = (
        "_has_body",
        "_head",
        "_is_chunked",
        "_origin",
        "_render",
        "_request",
        "_request_id",
        "_wire",
        "has_started",
        "keep_alive",
    )

    def __init__(
        self,
        request: web.BaseRequest,
        request_id: str,
        origin: str | None = None,
        render: Callable[[Refusal], bytes] = render_error,
    ) -> None:
        self._request = request
        self._request_id = request_id
        self._origin = origin
        self._render = render
        self._head: bytes | None = None
        self._is_chunked = False
        self._has_body = True
        self._wire: Wire | None = None
        self.keep_alive = request.keep_alive
        self.has_started = False

    @property
    def is_open(self) -> bool:
        transport = self._request.transport
        return transport is not None and not transport.is_closing()

    async def start(self, status: int, headers: Headers, length: int | None) -> None:
        sent = [*headers, ("x-gateway-request-id", self._request_id)]
        if self._origin is not None:
            sent = _for_page(sent, self._origin)
        self._has_body = status not in _BODILESS and self._request.method != hdrs.METH_HEAD
        self._frame(sent, status, length)
        named = [name for name, _ in headers]
        if not _is_named("Date", "date", named):
            sent.append(("Date", rfc822_formatted_time()))
        if not _is_named("Server", "server", named):
            sent.append(("Server", _SERVER))
        self._head = render_response_head(status, sent)

    def _frame(self, headers: Headers, status: int, length: int | None) -> None:
        """Say where the body will end (RFC 9112, section 6), and whether the connection lives on after it."""
        connection = self._request.protocol
        is_modern = self._request.version >= (1, 1)
        if isinstance(connection, Connection) and connection.is_last:
            self.keep_alive = False
        self._is_chunked = length is None and self._has_body and is_modern
        if self._is_chunked:
            headers.append(("Transfer-Encoding", "chunked"))
        elif length is not None and status not in _BODILESS:
            headers.append(("Content-Length", str(length)))
        elif self._has_body:
            self.keep_alive = False  # only the connection's end can end this body
        if not self.keep_alive:
            headers.append(("Connection", "close"))
        elif not is_modern:
            headers.append(("Connection", "keep-alive"))

    async def write(self, chunk: bytes) -> None:
        if chunk and self._has_body:
            await self._send(render_chunk(chunk) if self._is_chunked else chunk)

    async def end(self, chunk: bytes = b"") -> None:
        last = chunk if self._has_body else b""
        if self._is_chunked:
            last = render_chunk(last) + LAST_CHUNK if last else LAST_CHUNK
        await self._send(last)

    async def _send(self, data: bytes) -> None:
        connection = self._request.protocol
        transport = connection.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has left")
        if not self.has_started:
            assert self._head is not None
            data = self._head + data
            self.has_started = True
        if data:
            transport.write(data)
        if connection.writing_paused:
            await self._request.writer.drain()

    async def refuse(self, refusal: Refusal, headers: Headers) -> None:
        body = self._render(refusal)
        sent = [*headers, *refusal.headers, ("Content-Type", "application/json")]
        if refusal.retry_after_s is not None:
            sent.append(("Retry-After", str(math.ceil(refusal.retry_after_s))))
        if not self._request.content.is_eof():
            self.keep_alive = False  # what is left of the body would be read as the next request
        await self.start(refusal.status, sent, len(body))
        await self.end(body)

    async def abort(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()

    def expect_switch(self) -> None:
        """The request is a handshake: what comes behind it is no HTTP, and is bounded, whatever the answer will be."""
        self.keep_alive = False
        connection = self._request.protocol
        self._wire = Wire(connection, lambda: None)  # aiohttp closes it once the request is handled
        connection.set_parser(self._wire)  # type: ignore[arg-type]

    async def switch(self, headers: Headers) -> Wire:
        """`exchange.Switch`."""
        assert self._wire is not None
        sent = [*headers, ("x-gateway-request-id", self._request_id)]
        self.has_started = True
        await self._wire.write(render_response_head(101, sent))
        return self._wire

    async def prepare(self, request: web.BaseRequest) -> None:
        """aiohttp's question to a response; everything was written already."""

    async def write_eof(self) -> None:
        """aiohttp's question to a response; everything was written already."""

    def force_close(self) -> None:
        """The connection ends with this answer."""
        self.keep_alive = False


def _is_named(usual: str, lower: str, names: list[str]) -> bool:
    """Whether a header of this name is among these, in the usual spelling as a rule."""
    return usual in names or lower in names or any(name.lower() == lower for name in names)


def _for_page(headers: Headers, origin: str) -> Headers:
    """The headers, as a web page of this origin may read them."""
    shown = CIMultiDict(headers)
    allow_origin(shown, origin)
    return list(shown.items())

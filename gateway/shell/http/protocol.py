"""aiohttp's HTTP server, with our own word where its own is plain text: malformed requests, heads that never end.

Relies on three details of aiohttp's `RequestHandler`, each held by a test: `handle_error` builds the answer to a
malformed request, `data_received` sees every byte, and the keep-alive timer also runs before a first request.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from gateway.core.errors import Refusal, render_error

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_log = logging.getLogger("gateway.http")
_TIMED_OUT = render_error(Refusal(408, "request_timeout", "The head of the request did not arrive in time."))
_TIMED_OUT_ANSWER = (
    b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b"Content-Length: " + str(len(_TIMED_OUT)).encode() + b"\r\n\r\n" + _TIMED_OUT
)


class Connection(web.RequestHandler):
    """One client connection."""

    __slots__ = ("has_partial_head",)

    def data_received(self, data: bytes) -> None:
        self.has_partial_head = True
        super().data_received(data)

    def force_close(self) -> None:
        transport = self.transport
        if getattr(self, "has_partial_head", False) and self._waiter and transport and not transport.is_closing():
            transport.write(_TIMED_OUT_ANSWER)
        super().force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to bytes that are no HTTP request; what handlers raise never comes here."""
        _log.info("malformed request", extra={"reason": (message or str(exc))[:200]})
        text = f"The bytes received are not a valid HTTP request: {(message or str(exc)).splitlines()[0][:200]}"
        body = render_error(Refusal(status, "malformed_request", text))
        response = web.Response(status=status, body=body, content_type="application/json")
        response.force_close()
        return response


class HttpServer(web.Server):
    """aiohttp's low-level server (no router, no middleware) over `Connection`.

    Args:
        handler: answers every request.
        keepalive_s: how long a connection may idle, and how long a request's head may take.
    """

    def __init__(self, handler: Handler, keepalive_s: float) -> None:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            connection = request.protocol
            assert isinstance(connection, Connection)
            connection.has_partial_head = False
            try:
                return await handler(request)
            finally:
                connection.has_partial_head = False

        super().__init__(handle, handler_cancellation=True)
        self._connection_options = {
            "keepalive_timeout": keepalive_s,
            "access_log": None,
            "auto_decompress": False,
            "max_field_size": 32_768,
            "max_line_size": 16_384,
        }

    def __call__(self) -> web.RequestHandler:
        return Connection(self, loop=self._loop, **self._connection_options)  # type: ignore[arg-type]

"""aiohttp's HTTP server, with our own word where its own is plain text, and with a drain that keeps what runs whole.

Relies on four details of aiohttp's `RequestHandler`, each held by a test: `handle_error` builds the answer to a
malformed request, `data_received` sees every byte, the keep-alive timer also runs before a first request, and
`_waiter` is set while a connection waits for its next request.

Its own shutdown is replaced, because it stops reading bodies that are still arriving, and waits twice.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from gateway.core.errors import Refusal, render_error

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_log = logging.getLogger("gateway.http")
_MAX_FIELD_BYTES = 32_768
_MAX_LINE_BYTES = 16_384
_LAST_WORDS_S = 1.0
"""What cancelled requests have to end their answers with an error."""
_CLOSING_S = 0.1
_FIRST_REQUEST_S = 0.2
"""What a connection that was accepted just before the end has to send its request."""
_TIMED_OUT = render_error(Refusal(408, "request_timeout", "The head of the request did not arrive in time."))
_TIMED_OUT_ANSWER = (
    b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b"Content-Length: " + str(len(_TIMED_OUT)).encode() + b"\r\n\r\n" + _TIMED_OUT
)


class Connection(web.RequestHandler):
    """One client connection."""

    __slots__ = ("has_partial_head", "is_last", "is_new")

    has_partial_head: bool
    is_last: bool
    is_new: bool

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.has_partial_head = False
        self.is_last = False
        self.is_new = True
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self.has_partial_head = True
        super().data_received(data)

    def close_if_idle(self) -> None:
        """Close now, or after the request that is being handled or, on a new connection, should be on its way."""
        self.is_last = True
        if self._waiter is not None and not self._waiter.done() and not self.is_new:
            self.has_partial_head = False
            self.force_close()

    def force_close(self) -> None:
        transport = self.transport
        if self.has_partial_head and self._waiter and transport and not transport.is_closing():
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
        refusal = _malformed(status, exc, message)
        request_id = secrets.token_hex(16)
        _log.info("malformed request", extra={"request_id": request_id, "reason": refusal.message[:200]})
        response = web.Response(status=refusal.status, body=render_error(refusal), content_type="application/json")
        response.headers["x-gateway-request-id"] = request_id
        response.force_close()
        return response


def _malformed(status: int, exc: BaseException | None, message: str | None) -> Refusal:
    if isinstance(exc, LineTooLong):
        text = f"The request line may hold {_MAX_LINE_BYTES} bytes and a header {_MAX_FIELD_BYTES}; one is longer."
        return Refusal(431, "request_header_too_large", text)
    reason = (message or str(exc) or type(exc).__name__).splitlines()[0][:200].rstrip(".:")
    return Refusal(status, "malformed_request", f"The bytes received are not a valid HTTP request: {reason}.")


class HttpServer(web.Server):
    """aiohttp's low-level server (no router, no middleware) over `Connection`.

    Args:
        handler: answers every request.
        keepalive_s: how long a connection may idle, and how long a request's head may take.
    """

    def __init__(self, handler: Handler, keepalive_s: float) -> None:
        self._handle = handler
        self._running: set[asyncio.Task[object]] = set()
        self._connection_options = {
            "keepalive_timeout": keepalive_s,
            "access_log": None,
            "auto_decompress": False,
            "max_field_size": _MAX_FIELD_BYTES,
            "max_line_size": _MAX_LINE_BYTES,
        }
        super().__init__(self._run, handler_cancellation=True)

    def __call__(self) -> web.RequestHandler:
        return Connection(self, loop=self._loop, **self._connection_options)  # type: ignore[arg-type]

    async def _run(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)
        connection.has_partial_head = connection.is_new = False
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            response = await self._handle(request)
            if connection.is_last:
                response.force_close()
            return response
        except ConnectionError:  # the client left; aiohttp would make an answer of it
            raise asyncio.CancelledError from None
        finally:
            self._running.discard(task)
            connection.has_partial_head = False

    def pre_shutdown(self) -> None:
        """Called once nothing new is accepted: close what idles, and the rest after its present request."""
        for connection in self.connections:
            if isinstance(connection, Connection):
                connection.close_if_idle()

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - aiohttp's signature
        """Let running requests end within `timeout` seconds; cancel the rest, with a moment for their last words."""
        if timeout and any(isinstance(each, Connection) and each.is_new for each in self.connections):
            await asyncio.sleep(min(timeout, _FIRST_REQUEST_S))
        if self._running:
            await asyncio.wait(self._running, timeout=timeout)
        late = set(self._running)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=_LAST_WORDS_S)
        await super().shutdown(_CLOSING_S)

"""The way to upstreams, on aiohttp's client: bytes as they are, deadlines per phase, faults in our own words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import Protocol

import aiohttp
from aiohttp import hdrs
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict
from yarl import URL

from gateway.core.routing.routes import Route, Timeouts
from gateway.core.wire.headers import Headers
from gateway.ports import UpstreamCall, UpstreamFault
from gateway.shell.deadlines import Deadlines
from gateway.shell.upstream.origin import MAX_FIELD_BYTES, READ_BUFFER_BYTES, SWITCHING, Origin, read_answer
from gateway.shell.upstream.pool import SilentConnector
from gateway.shell.wire import Wire

_NOT_ADDED: CIMultiDict[None] = CIMultiDict({"Content-Type": None})
_FAULTS = (TimeoutError, aiohttp.ClientError, HttpProcessingError, OSError, ValueError)
_WHOLE_BYTES = 262_144
"""A body up to this size is written at once; a larger one in pieces, so that the event loop is not held by it."""


class _PlainRequest(aiohttp.ClientRequest):
    """A request that carries the headers it was given and no others."""

    def update_auto_headers(self, skip_auto_headers: Iterable[str] | None) -> None:
        self._skip_auto_headers = _NOT_ADDED


class HttpUpstream:
    """`ports.Upstream`; one connection pool for all upstreams.

    A request whose body is at hand is written whole to a connection of the pool; one that is uploaded while it
    arrives, or is too large to be written at once, goes through aiohttp's session.
    """

    def __init__(self, base_urls: dict[str, str] | None = None) -> None:
        self._builtin = base_urls or {}
        self._origins: dict[tuple[str, float], Origin] = {}
        self._connector: aiohttp.TCPConnector | None = None
        self._session: aiohttp.ClientSession | None = None
        self._deadlines = Deadlines()

    async def __aenter__(self) -> HttpUpstream:
        self._connector = SilentConnector(limit=0, keepalive_timeout=30, ttl_dns_cache=30)
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            request_class=_PlainRequest,
            timeout=aiohttp.ClientTimeout(total=None),
            read_bufsize=READ_BUFFER_BYTES,
            max_field_size=MAX_FIELD_BYTES,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, call: UpstreamCall) -> HttpAnswer:
        limits, body = call.timeouts, call.body
        if body is not None and not isinstance(body, bytes):
            return await self._upload(call, _Upload(body), limits.total_s)
        if body is not None and len(body) > _WHOLE_BYTES:
            return await self._upload(call, _Upload(_in_pieces(body)), limits.header_s)
        deadline = asyncio.get_running_loop().time() + limits.total_s
        connection: Connection | None = None
        try:
            with self._deadlines.within(limits.header_s):
                origin = self._origin_of(call.route, limits.connect_s)
                connection = await origin.connect()
                origin.write(connection, call.method, call.target, call.headers, body)
                assert connection.protocol is not None
                message, content = await read_answer(connection.protocol)
        except BaseException as error:
            if connection is not None:
                connection.close()
            if isinstance(error, _FAULTS):
                raise _fault_of(error, limits.connect_s, limits.header_s) from None
            raise
        return HttpAnswer(message.code, message.headers, content, connection, limits, deadline, self._deadlines)

    async def open(self, call: UpstreamCall) -> tuple[HttpAnswer, Wire | None]:
        """`ports.SocketUpstream`."""
        answer = await self.send(call)
        return answer, answer.switched() if answer.status == SWITCHING else None

    async def _upload(self, call: UpstreamCall, upload: _Upload, wait_s: float) -> HttpAnswer:
        """Send a body piece by piece; while it is uploaded only the deadline of the whole call holds."""
        assert self._session is not None
        limits = call.timeouts
        deadline = asyncio.get_running_loop().time() + limits.total_s
        headers = CIMultiDict(call.headers)
        if isinstance(call.body, bytes):
            headers[hdrs.CONTENT_LENGTH] = str(len(call.body))
        request = self._session.request(
            call.method,
            URL(self._base_url_of(call.route) + call.target, encoded=True),
            headers=headers,
            data=upload.chunks(),
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=limits.connect_s),
        )
        try:
            with self._deadlines.within(wait_s):
                response = await request
        except _FAULTS as error:
            if upload.failure:
                raise upload.failure from None
            raise _fault_of(error, limits.connect_s, wait_s) from None
        content = response.content
        return HttpAnswer(response.status, response.headers, content, response, limits, deadline, self._deadlines)

    def _base_url_of(self, route: Route) -> str:
        return self._builtin.get(route.base_url, route.base_url)

    def _origin_of(self, route: Route, connect_s: float) -> Origin:
        key = (route.base_url, connect_s)
        origin = self._origins.get(key)
        if origin is None:
            assert self._connector is not None
            assert self._session is not None
            origin = Origin(self._base_url_of(route), self._connector, self._session, connect_s)
            self._origins[key] = origin
        return origin


async def _in_pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _WHOLE_BYTES):
        yield body[start : start + _WHOLE_BYTES]


class _Upload:
    """A client's body on its way to the upstream; `failure` is what was wrong on the client's side, if anything."""

    def __init__(self, body: AsyncIterator[bytes]) -> None:
        self._body = body
        self.failure: Exception | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._body:
                yield chunk
        except Exception as error:
            self.failure = error
            raise


def _fault_of(error: Exception, connect_s: float, wait_s: float) -> UpstreamFault:
    """What kept an answer's head from coming, in our own words."""
    if isinstance(error, aiohttp.ServerTimeoutError):
        return UpstreamFault("connect_timeout", f"no connection within {connect_s:g} s", is_retryable=True)
    if isinstance(error, TimeoutError):
        return UpstreamFault("header_timeout", f"no answer within {wait_s:g} s", is_retryable=False)
    if isinstance(error, aiohttp.ClientConnectorError):
        return UpstreamFault("connect", f"cannot connect: {_said(error)}", is_retryable=True)
    if isinstance(error, aiohttp.ServerDisconnectedError | OSError):
        reason = f"the connection broke before an answer: {_said(error)}"
        return UpstreamFault("disconnected", reason, is_retryable=True)
    return UpstreamFault("protocol", f"the answer is no valid HTTP: {_said(error)}", is_retryable=False)


class _Held(Protocol):
    """What an answer's body comes over, to be given back or cut."""

    def release(self) -> object: ...

    def close(self) -> None: ...


class HttpAnswer:
    """`ports.UpstreamAnswer` over an aiohttp connection."""

    __slots__ = (
        "_begun",
        "_content",
        "_deadline",
        "_deadlines",
        "_has_begun",
        "_held",
        "_limits",
        "_size",
        "headers",
        "status",
    )

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        content: aiohttp.StreamReader,
        held: _Held,
        limits: Timeouts,
        deadline: float,
        deadlines: Deadlines,
    ) -> None:
        self.status = status
        self.headers: Headers = list(headers.items())
        self._content = content
        self._held = held
        self._limits = limits
        self._deadlines = deadlines
        self._deadline = deadline
        self._begun = _arrived(content)
        self._has_begun = bool(self._begun)
        self._size = sum(map(len, self._begun))

    async def begin(self, min_bytes: int) -> bytes:
        self._check_size()  # all of it may have come with the head
        begun = self._begun
        size = sum(map(len, begun))
        while size < min_bytes and not self._content.at_eof() and (chunk := await self._next()):
            begun.append(chunk)
            size += len(chunk)
        return begun[0] if len(begun) == 1 else b"".join(begun)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        self._check_size()
        for chunk in self._begun:
            yield chunk
        while chunk := await self._next():
            yield chunk

    async def _next(self) -> bytes:
        """The next bytes; none at the end. Bytes that are here already cost no deadline."""
        content, limits = self._content, self._limits
        wait_s = limits.idle_s if self._has_begun else limits.first_token_s
        try:
            chunk: bytes = content.read_nowait(-1)
            if not chunk and not content.is_eof():
                left_s = self._deadline - asyncio.get_running_loop().time()
                with self._deadlines.within(min(wait_s, left_s)):
                    chunk = await content.readany()
        except TimeoutError:
            raise self._silence(wait_s) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UpstreamFault("cut", f"the answer broke off: {_said(error)}", is_retryable=False) from None
        self._has_begun = True
        self._size += len(chunk)
        self._check_size()
        return chunk

    def _check_size(self) -> None:
        most = self._limits.max_bytes
        if most and self._size > most:
            raise UpstreamFault("too_large", f"the answer has more than {most} bytes", is_retryable=False)

    def _silence(self, wait_s: float) -> UpstreamFault:
        """Which deadline has passed."""
        if asyncio.get_running_loop().time() >= self._deadline:
            return UpstreamFault("total_timeout", "the answer took too long as a whole", is_retryable=False)
        kind = "idle_timeout" if self._has_begun else "first_token_timeout"
        return UpstreamFault(kind, f"no byte for {wait_s:g} s", is_retryable=False)

    def switched(self) -> Wire:
        """The connection, once its head has said that it speaks HTTP no longer."""
        assert isinstance(self._held, Connection)
        protocol = self._held.protocol
        assert protocol is not None
        wire = Wire(protocol, self._held.close)
        protocol.set_parser(wire, wire.stream)
        return wire

    def close(self) -> None:
        self._held.release() if self._content.is_eof() else self._held.close()


def _arrived(content: aiohttp.StreamReader) -> list[bytes]:
    """What came together with the head, as most whole answers do."""
    if content.exception() is not None:
        return []
    chunk = content.read_nowait(-1)
    return [chunk] if chunk else []


def _said(error: BaseException) -> str:
    """An error's own words on one line."""
    return " ".join(str(error).split()) or type(error).__name__

"""The way to upstreams, on aiohttp's client: bytes as they are, deadlines per phase, faults in our own words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from types import TracebackType

import aiohttp
from aiohttp import hdrs
from multidict import CIMultiDict
from yarl import URL

from gateway.core.routing.routes import Route, Timeouts
from gateway.core.wire.headers import Headers
from gateway.ports import UpstreamCall, UpstreamFault
from gateway.shell.deadlines import Deadlines

_NOT_ADDED: CIMultiDict[None] = CIMultiDict({"Content-Type": None})
_MAX_CACHED_URLS = 512
_WHOLE_BYTES = 262_144
"""A body up to this size is written at once; a larger one in pieces, so that the event loop is not held by it."""


class _PlainRequest(aiohttp.ClientRequest):
    """A request that carries the headers it was given and no others."""

    def update_auto_headers(self, skip_auto_headers: Iterable[str] | None) -> None:
        self._skip_auto_headers = _NOT_ADDED


class HttpUpstream:
    """`ports.Upstream`; one connection pool for all upstreams."""

    def __init__(self, base_urls: dict[str, str] | None = None) -> None:
        self._builtin = base_urls or {}
        self._urls: dict[str, URL] = {}
        self._timeouts: dict[float, aiohttp.ClientTimeout] = {}
        self._session: aiohttp.ClientSession | None = None
        self._deadlines = Deadlines()

    async def __aenter__(self) -> HttpUpstream:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30, ttl_dns_cache=30)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            request_class=_PlainRequest,
            timeout=aiohttp.ClientTimeout(total=None),
            read_bufsize=2**18,
            max_field_size=32_768,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, call: UpstreamCall) -> HttpAnswer:
        assert self._session is not None
        limits = call.route.timeouts
        deadline = asyncio.get_running_loop().time() + limits.total_s
        upload = _Upload(call.body) if isinstance(call.body, AsyncIterator) else None
        headers, body = CIMultiDict(call.headers), call.body
        if isinstance(body, bytes) and len(body) > _WHOLE_BYTES:
            headers[hdrs.CONTENT_LENGTH] = str(len(body))
            body = _in_pieces(body)
        request = self._session.request(
            call.method,
            self._url_of(call.route, call.target),
            headers=headers,
            data=upload.chunks() if upload else body,
            allow_redirects=False,
            timeout=self._timeout_of(limits.connect_s),
        )
        # A body that is still being uploaded has the total deadline; only then does the head's begin.
        wait_s = limits.total_s if upload else limits.header_s
        try:
            with self._deadlines.within(wait_s):
                response = await request
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            if upload and upload.failure:
                raise upload.failure from None
            raise _fault_of(error, limits.connect_s, wait_s) from None
        return HttpAnswer(response, limits, deadline, self._deadlines)

    def _timeout_of(self, connect_s: float) -> aiohttp.ClientTimeout:
        found = self._timeouts.get(connect_s)
        if found is None:
            found = aiohttp.ClientTimeout(total=None, sock_connect=connect_s)
            self._timeouts[connect_s] = found
        return found

    def _url_of(self, route: Route, target: str) -> URL:
        text = self._builtin.get(route.base_url, route.base_url) + target
        url = self._urls.get(text)
        if url is None:
            url = URL(text, encoded=True)
            if len(self._urls) < _MAX_CACHED_URLS:
                self._urls[text] = url
        return url


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


class HttpAnswer:
    """`ports.UpstreamAnswer` over an aiohttp response."""

    __slots__ = ("_begun", "_deadline", "_deadlines", "_has_begun", "_limits", "_response", "headers", "status")

    def __init__(
        self, response: aiohttp.ClientResponse, limits: Timeouts, deadline: float, deadlines: Deadlines
    ) -> None:
        self._response = response
        self.status = response.status
        self.headers: Headers = list(response.headers.items())
        self._limits = limits
        self._deadlines = deadlines
        self._deadline = deadline
        self._begun = _arrived(response.content)
        self._has_begun = bool(self._begun)

    async def begin(self, min_bytes: int) -> bytes:
        begun = self._begun
        size = sum(map(len, begun))
        while size < min_bytes and (chunk := await self._next()):
            begun.append(chunk)
            size += len(chunk)
        return begun[0] if len(begun) == 1 else b"".join(begun)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        for chunk in self._begun:
            yield chunk
        while chunk := await self._next():
            yield chunk

    async def _next(self) -> bytes:
        """The next bytes; none at the end. Bytes that are here already cost no deadline."""
        content, limits = self._response.content, self._limits
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
        return chunk

    def _silence(self, wait_s: float) -> UpstreamFault:
        """Which deadline has passed."""
        if asyncio.get_running_loop().time() >= self._deadline:
            return UpstreamFault("total_timeout", "the answer took too long as a whole", is_retryable=False)
        kind = "idle_timeout" if self._has_begun else "first_token_timeout"
        return UpstreamFault(kind, f"no byte for {wait_s:g} s", is_retryable=False)

    def close(self) -> None:
        self._response.close() if not self._response.content.is_eof() else self._response.release()


def _arrived(content: aiohttp.StreamReader) -> list[bytes]:
    """What came together with the head, as most whole answers do."""
    if content.exception() is not None:
        return []
    chunk = content.read_nowait(-1)
    return [chunk] if chunk else []


def _said(error: BaseException) -> str:
    """An error's own words on one line."""
    return " ".join(str(error).split()) or type(error).__name__

"""The way to upstreams, on aiohttp's client: bytes as they are, deadlines per phase, faults in our own words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from types import TracebackType

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from gateway.core.routing.routes import Route
from gateway.core.wire.headers import Headers
from gateway.ports import UpstreamCall, UpstreamFault

_SKIPPED_AUTO_HEADERS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
_MAX_CACHED_URLS = 512


class HttpUpstream:
    """`ports.Upstream`; one connection pool for all upstreams."""

    def __init__(self, base_urls: dict[str, str] | None = None) -> None:
        self._builtin = base_urls or {}
        self._urls: dict[str, URL] = {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> HttpUpstream:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30, ttl_dns_cache=30)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=_SKIPPED_AUTO_HEADERS,
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
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=limits.connect_s, connect=limits.connect_s)
        request = self._session.request(
            call.method,
            self._url_of(call.route, call.target),
            headers=CIMultiDict(call.headers),
            data=call.body,
            allow_redirects=False,
            timeout=timeout,
        )
        try:
            # A body that is still being uploaded has the total deadline; only then does the head's begin.
            wait_s = limits.header_s if not isinstance(call.body, AsyncIterator) else limits.total_s
            async with asyncio.timeout(wait_s):
                response = await request
        except TimeoutError as error:
            if isinstance(error, aiohttp.ServerTimeoutError):
                raise UpstreamFault(
                    "connect_timeout", f"no connection within {limits.connect_s:g} s", is_retryable=True
                ) from None
            raise UpstreamFault("header_timeout", f"no answer within {wait_s:g} s", is_retryable=False) from None
        except aiohttp.ClientConnectorError as error:
            raise UpstreamFault("connect", f"cannot connect: {error}", is_retryable=True) from None
        except (aiohttp.ServerDisconnectedError, OSError) as error:
            raise UpstreamFault(
                "disconnected", f"the connection broke before an answer: {error}", is_retryable=True
            ) from None
        except (aiohttp.ClientError, ValueError) as error:
            raise UpstreamFault("protocol", f"the answer is no valid HTTP: {error}", is_retryable=False) from None
        return HttpAnswer(response, limits.first_token_s, limits.idle_s, deadline)

    def _url_of(self, route: Route, target: str) -> URL:
        text = self._builtin.get(route.base_url, route.base_url) + target
        url = self._urls.get(text)
        if url is None:
            url = URL(text, encoded=True)
            if len(self._urls) < _MAX_CACHED_URLS:
                self._urls[text] = url
        return url


class HttpAnswer:
    """`ports.UpstreamAnswer` over an aiohttp response."""

    __slots__ = ("_deadline", "_first_token_s", "_idle_s", "_response")

    def __init__(self, response: aiohttp.ClientResponse, first_token_s: float, idle_s: float, deadline: float) -> None:
        self._response = response
        self._first_token_s = first_token_s
        self._idle_s = idle_s
        self._deadline = deadline

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def headers(self) -> Headers:
        return list(self._response.headers.items())

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        loop = asyncio.get_running_loop()
        content = self._response.content
        wait_s, kind = self._first_token_s, "first_token_timeout"
        while True:
            left_s = self._deadline - loop.time()
            try:
                async with asyncio.timeout(min(wait_s, left_s)):
                    chunk = await content.readany()
            except TimeoutError:
                if left_s < wait_s:
                    raise UpstreamFault(
                        "total_timeout", "the answer took too long as a whole", is_retryable=False
                    ) from None
                raise UpstreamFault(kind, f"no byte for {wait_s:g} s", is_retryable=False) from None
            except (aiohttp.ClientError, OSError, ValueError) as error:
                raise UpstreamFault("cut", f"the answer broke off: {error}", is_retryable=False) from None
            if not chunk:
                return
            wait_s, kind = self._idle_s, "idle_timeout"
            yield chunk

    def close(self) -> None:
        self._response.close() if not self._response.content.is_eof() else self._response.release()

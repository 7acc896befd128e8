"""`ports_vision.Fetcher`: brings documents from the web, and from a folder of this machine.

A URL is read strictly and held against the allow-list (`core/vision/sources`). The host's addresses are looked up
here, each is checked, and only these are connected to: what a name is said to be a moment later makes no difference.
Once more, each socket is made for an address that may be connected to, or not at all. The name stays what the server
is asked for, in the request and in TLS. Redirects are followed by hand, each checked like the first URL. No proxies,
cookies, or passwords of the environment are used. Messages say nothing of addresses, nor of what answers there.

Invariants, each with a test of its own:
  1. No socket is made to an address that `SourceRules` refuses, whatever the URL, redirects or DNS say.
  2. A fetch takes no longer than its time and holds no more than its bound, whatever the server sends.
  3. Of files only regular ones under the root are read, and no link is followed on the way.
"""

from __future__ import annotations

import asyncio
import io
import ipaddress
import re
import socket
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from gateway.core.vision.sources import Address, Source, SourceRefusedError, SourceRules, follow, parse_source
from gateway.ports_vision import VisionFault
from gateway.shell.vision.local_files import read_below

Lookup = Callable[[str], Awaitable[Sequence[str]]]
_HEADERS = {
    "Accept": "application/pdf, image/*;q=0.9, */*;q=0.5",
    "Accept-Encoding": "identity",
    "User-Agent": "llm-gateway",
}
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_DECOMPRESSED_AT_ONCE = 1 << 18
_PACKED = ("gzip", "x-gzip", "deflate")
_NOT_FOUND = "its host has no address, or one that may not be connected to"
_is_markup = re.compile(rb"(?:\xef\xbb\xbf)?\s*<", re.ASCII).match


async def look_up(host: str) -> list[str]:
    """The addresses of a host, as this machine knows them."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class DocumentFetcher:
    """Fetches documents.

    Args:
        rules: what may be fetched and connected to.
        max_bytes: of a document.
        timeout_s: for all of it.
        max_redirects: of one fetch.
        file_root: the folder under which `file:` URLs are read; None for none.
        look_up: the addresses of a host; raises OSError.
    """

    def __init__(
        self,
        rules: SourceRules,
        max_bytes: int,
        timeout_s: float = 30.0,
        max_redirects: int = 3,
        file_root: Path | None = None,
        look_up: Lookup = look_up,
    ) -> None:
        self._rules = rules
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._max_redirects = max_redirects
        self._file_root = file_root
        self._look_up = look_up

    async def fetch(self, url: str) -> bytes:
        """As `Fetcher.fetch`."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._fetched(url)
        except TimeoutError:
            raise VisionFault("timeout", f"the document did not come within {self._timeout_s:g} s") from None
        except SourceRefusedError as error:
            raise VisionFault("forbidden", str(error)) from None

    async def _fetched(self, url: str) -> bytes:
        if url[:5].lower() == "file:":
            if self._file_root is None:
                raise SourceRefusedError("file: URLs are not read here: vision.fetch.file_root names no folder")
            return await asyncio.to_thread(read_below, self._file_root, url, self._max_bytes)
        source = parse_source(url)
        for _ in range(self._max_redirects + 1):
            answer = await self._asked(source)
            if isinstance(answer, bytes):
                return answer
            source = answer
        raise VisionFault("upstream", f"the document was redirected more than {self._max_redirects} times")

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            raise VisionFault(
                "unreadable", f"the document has {size} bytes or more, at most {self._max_bytes} are read"
            )

    async def _asked(self, source: Source) -> bytes | Source:
        """The document, or where it is instead."""
        self._rules.check(source)
        pinned = _Pinned(source.host, await self._addresses_of(source))
        connector = aiohttp.TCPConnector(
            resolver=pinned, use_dns_cache=False, force_close=True, socket_factory=self._socket_for
        )
        url = URL(source.url, encoded=True)
        if (url.raw_host, url.port) != (source.host, source.port):
            raise SourceRefusedError("the URL's host is none that can be read")
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),
        )
        what = "could not be asked"
        try:
            async with session, session.get(url, headers=_HEADERS, allow_redirects=False) as response:
                what = "broke off"
                return await self._answer(source, response)
        except (SourceRefusedError, TimeoutError):
            raise
        except (aiohttp.ClientError, OSError, ValueError):
            raise VisionFault("upstream", f"the document's server {what}") from None

    async def _addresses_of(self, source: Source) -> list[Address]:
        """The addresses that are connected to: all that the host has, or none."""
        if source.address is not None:
            return [source.address]
        try:
            found = [ipaddress.ip_address(address) for address in await self._look_up(source.host)]
        except (OSError, ValueError):
            found = []
        # Whether there is no such host or one of our own network is not told: names within are nobody's to try out.
        if not found or not all(map(self._rules.may_connect, found)):
            raise SourceRefusedError(f"the document cannot be fetched: {_NOT_FOUND}")
        return found

    def _socket_for(self, info: aiohttp.AddrInfoType) -> socket.socket:
        """A socket for an address that may be connected to."""
        family, type_, protocol, _, address = info
        if not self._rules.may_connect(ipaddress.ip_address(address[0])):
            raise SourceRefusedError(f"the document cannot be fetched: {_NOT_FOUND}")
        made = socket.socket(family, type_, protocol)
        made.setblocking(False)
        return made

    async def _answer(self, source: Source, response: aiohttp.ClientResponse) -> bytes | Source:
        if response.status in _REDIRECTS and "Location" in response.headers:
            return follow(source, response.headers["Location"])
        if response.status != 200:
            raise VisionFault("upstream", f"the document's server answered with status {response.status}")
        if response.content_length is not None:
            self._check_size(response.content_length)
        kind = response.content_type.lower()
        if kind.startswith(("video/", "audio/")):
            raise VisionFault("unreadable", f"this is {kind}, no document and no picture")
        held = io.BytesIO()  # gives its buffer away without another copy
        async for part in self._unpacked(response):
            held.write(part)
            self._check_size(held.tell())
        data = held.getvalue()
        if kind in ("text/html", "application/xhtml+xml") and _is_markup(data):
            raise VisionFault(
                "unreadable", "this is a page of HTML, no document and no picture: perhaps it asks to log in"
            )
        return data

    async def _unpacked(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """The body a part at a time, none larger than what is checked next."""
        packing = response.headers.get("Content-Encoding", "identity").strip().lower()
        if packing in ("", "identity"):
            async for part in response.content.iter_any():
                yield part
            return
        if packing not in _PACKED:
            raise VisionFault("upstream", "the document came packed in a way that was not asked for")
        unpacking = zlib.decompressobj(wbits=47)  # gzip or zlib, as it says itself
        try:
            async for packed in response.content.iter_any():
                left = packed
                while left and not unpacking.eof:
                    yield unpacking.decompress(left, _DECOMPRESSED_AT_ONCE)
                    left = unpacking.unconsumed_tail
                    await asyncio.sleep(0)
            while not unpacking.eof and (held := unpacking.decompress(b"", _DECOMPRESSED_AT_ONCE)):
                yield held
        except zlib.error:
            raise VisionFault("upstream", "the document came packed, and cannot be unpacked") from None
        if not unpacking.eof:
            raise VisionFault("upstream", "the document's server broke off")


class _Pinned(AbstractResolver):
    """Knows one host, by the addresses that were checked."""

    def __init__(self, host: str, addresses: Sequence[Address]) -> None:
        self._host = host
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        if host.removesuffix(".") != self._host:
            raise OSError(f"{host} was not looked up")
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""

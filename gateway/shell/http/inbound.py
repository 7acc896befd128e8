"""A client's request body: read whole and bounded for metered calls, streamed untouched for the others.

Bounds: one body (`max_body_bytes`, after decoding), all bodies that the process holds at once
(`max_buffered_bytes`), and the silence while a body arrives (`body_idle_s`).
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.core.errors import Refusal, invalid_request

_INFLATE_STEP_BYTES = 256 * 1024


@dataclass(slots=True)
class BufferPool:
    """How many body bytes this process holds, against its bound."""

    max_bytes: int
    held_bytes: int = 0

    def take(self, count: int) -> None:
        """Account for bytes that are held from now on.

        Raises:
            Refusal: 503, there is no room.
        """
        self.check(count)
        self.held_bytes += count

    def check(self, count: int) -> None:
        """Whether so many more bytes could be held at this moment.

        Raises:
            Refusal: 503, there is no room.
        """
        if self.held_bytes + count > self.max_bytes:
            raise Refusal(
                503,
                "gateway_overloaded",
                f"The gateway holds {self.held_bytes} bytes of request bodies and its max_buffered_bytes is"
                f" {self.max_bytes}. Try again in a moment.",
                retry_after_s=1,
            )


class HttpInbound:
    """`exchange.Inbound` over an aiohttp request."""

    __slots__ = ("_body_idle_s", "_held_bytes", "_max_body_bytes", "_pool", "_request")

    def __init__(self, request: web.BaseRequest, pool: BufferPool, max_body_bytes: int, body_idle_s: float) -> None:
        self._request = request
        self._pool = pool
        self._max_body_bytes = max_body_bytes
        self._body_idle_s = body_idle_s
        self._held_bytes = 0

    @property
    def has_body(self) -> bool:
        return self._request.body_exists

    async def read(self) -> bytes:
        declared = self._request.content_length
        if declared is not None and declared > self._max_body_bytes:
            raise self._too_large(f"{declared} bytes are announced")
        self._pool.check(declared or 0)
        is_plain = _decoder_of(self._request.headers.get("Content-Encoding", "")) is None
        content = self._request.content
        if is_plain and declared is not None and content.is_eof() and content.exception() is None:
            self._hold(declared)
            return content.read_nowait(-1)  # as most bodies do, it came together with the head
        pieces: list[bytes] = []
        size = 0
        async for piece in self.decoded():
            size += len(piece)
            if size > self._max_body_bytes:
                raise self._too_large("more have arrived")
            self._hold(size)
            pieces.append(piece)
        return b"".join(pieces) if len(pieces) != 1 else pieces[0]

    async def decoded(self, *, holds: bool = False) -> AsyncIterator[bytes]:
        inflate = _decoder_of(self._request.headers.get("Content-Encoding", ""))
        size = 0
        async for chunk in self.stream():
            for piece in _inflated(inflate, chunk) if inflate else (chunk,):
                size += len(piece)
                if holds:
                    self._hold(size)
                yield piece
                if inflate:
                    await asyncio.sleep(0)  # a bomb must not keep others waiting
        if inflate is not None and (not inflate.eof or inflate.unused_data):
            raise invalid_request("The compressed request body ends too early or too late.", code="invalid_encoding")

    async def stream(self) -> AsyncIterator[bytes]:
        self._invite()
        content = self._request.content
        while True:
            try:
                async with asyncio.timeout(self._body_idle_s):
                    chunk = await content.readany()
            except TimeoutError:
                raise Refusal(
                    408,
                    "request_timeout",
                    f"No byte of the request body arrived for {self._body_idle_s:g} seconds.",
                ) from None
            except (web.RequestPayloadError, HttpProcessingError) as error:
                reason = (str(error).splitlines() or ["no reason given"])[-1].strip().rstrip(".:")
                raise invalid_request(f"The request body broke off: {reason}.", code="incomplete_body") from None
            if not chunk:
                return
            yield chunk

    def release(self) -> None:
        """The body is no longer held."""
        self._pool.held_bytes -= self._held_bytes
        self._held_bytes = 0

    def _hold(self, size: int) -> None:
        if size > self._held_bytes:
            self._pool.take(size - self._held_bytes)
            self._held_bytes = size

    def _invite(self) -> None:
        """Answer `Expect: 100-continue`; a client that sent it waits for this."""
        if self._request.version >= (1, 1) and self._request.headers.get("Expect", "").lower() == "100-continue":
            transport = self._request.transport
            if transport is not None and not self._request.content.is_eof():
                transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _too_large(self, found: str) -> Refusal:
        return Refusal(
            413,
            "request_too_large",
            f"The request body may hold {self._max_body_bytes} bytes (server.max_body_bytes), and {found}.",
        )


def _decoder_of(encoding: str) -> zlib._Decompress | None:
    """A decoder for a `Content-Encoding`, None for plain bytes."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return None
    if name in ("gzip", "x-gzip"):
        return zlib.decompressobj(16 + zlib.MAX_WBITS)
    if name == "deflate":
        return zlib.decompressobj()
    raise Refusal(
        415,
        "unsupported_encoding",
        f"Content-Encoding {name[:64]!r} is not supported here; send the body plain, or as gzip or deflate.",
    )


def _inflated(decoder: zlib._Decompress, chunk: bytes) -> Iterator[bytes]:
    """A chunk decoded in bounded steps, so that a bomb is noticed after one step too many and not after all."""
    while chunk and not decoder.eof:
        try:
            piece = decoder.decompress(chunk, _INFLATE_STEP_BYTES)
        except zlib.error as error:
            raise invalid_request(
                f"The compressed request body cannot be decoded: {error}.", code="invalid_encoding"
            ) from None
        yield piece
        chunk = decoder.unconsumed_tail

"""`exchange.Duplex` over a connection of aiohttp's that spoke HTTP so far, the client's or an upstream's.

What is read is bounded: the socket is left alone while more than `_READ_BYTES` wait. A peer that vanished without a
word is found by the kernel's keepalive, so a quiet session may be quiet for ever and a dead one is not kept.

Relies on one detail of aiohttp, held by a test: once a connection has switched, what `set_parser` was given is fed all
bytes that came behind the head.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import aiohttp
from aiohttp.base_protocol import BaseProtocol

_READ_BYTES = 65_536
_CLOSING_S = 5.0
"""What a peer that reads slowly has to take the last bytes."""
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""Seconds of silence, seconds between probes, probes: a peer that is gone is noticed within a minute."""


class Wire:
    """One end of a switched connection; given to aiohttp as what parses its bytes.

    Args:
        protocol: of the connection.
        close: closes it once what was written is sent.
    """

    def __init__(self, protocol: BaseProtocol, close: Callable[[], None]) -> None:
        self._protocol = protocol
        self._close = close
        self._stream = aiohttp.StreamReader(protocol, _READ_BYTES, loop=asyncio.get_running_loop())
        self._closing: asyncio.TimerHandle | None = None
        if protocol.transport is not None:
            _keep_alive(protocol.transport)

    @property
    def stream(self) -> aiohttp.StreamReader:
        """Where the bytes wait that have come."""
        return self._stream

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """aiohttp's way to hand over bytes."""
        self._stream.feed_data(data)
        return False, b""

    def feed_eof(self) -> None:
        """aiohttp's way to say that the connection is gone."""
        self._stream.feed_eof()

    async def read(self) -> bytes:
        if self._stream.at_eof():
            return b""
        return await self._stream.readany()

    async def write(self, data: bytes) -> None:
        transport = self._protocol.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the other side has gone")
        transport.write(data)
        if not self._protocol.writing_paused:
            return
        try:
            await self._protocol._drain_helper()
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionResetError("the other side has gone") from error

    def say(self, data: bytes) -> None:
        transport = self._protocol.transport
        if transport is not None and not transport.is_closing():
            transport.write(data)

    def close(self) -> None:
        transport = self._protocol.transport
        if transport is not None and self._closing is None:
            self._closing = asyncio.get_running_loop().call_later(_CLOSING_S, transport.abort)
        self._close()


def _keep_alive(transport: asyncio.Transport) -> None:
    found = transport.get_extra_info("socket")
    if found is None:
        return
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            found.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

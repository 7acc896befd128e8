"""What a supervisor and a worker say to each other: whole messages over a socket that only the two hold.

The supervisor starts a worker with one end of a socket pair; when either process ends, however it ends, the other
reads the end of the channel. A message is its length in four bytes and MessagePack. Configurations with their secrets
pass here, and nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence

import msgspec

from gateway.shell.telemetry.figures_merge import Family

MAX_MESSAGE_BYTES = 64 * 1024 * 1024


class Start(msgspec.Struct, frozen=True, tag=True):
    """To a worker, first: its number, the configuration as JSON, and the folder of the limits that workers share."""

    number: int
    settings: bytes
    limits: str


class Reload(msgspec.Struct, frozen=True, tag=True):
    """To a worker: go on with this configuration, which is valid."""

    settings: bytes


class Scrape(msgspec.Struct, frozen=True, tag=True):
    """To a worker: answer with `Figures` now."""


class Drain(msgspec.Struct, frozen=True, tag=True):
    """To a worker: accept nothing new, finish what runs, end."""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """From a worker: it accepts requests."""


class Figures(msgspec.Struct, frozen=True, tag=True):
    """From a worker: all of its metrics."""

    families: Sequence[Family]


Message = Start | Reload | Scrape | Drain | Ready | Figures
_decoder = msgspec.msgpack.Decoder(Message)
_encoder = msgspec.msgpack.Encoder()


class Channel:
    """One end of the conversation."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, end: socket.socket) -> Channel:
        """A channel over one end of a socket pair, which it owns from now on."""
        end.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=end))

    def send(self, message: Message) -> None:
        """Say something; a peer that is gone does not hear it, and `receive` tells."""
        body = _encoder.encode(message)
        if not self._writer.is_closing():
            self._writer.write(len(body).to_bytes(4, "big") + body)

    async def receive(self) -> Message | None:
        """What the other end says next; None when it is gone."""
        try:
            size = int.from_bytes(await self._reader.readexactly(4), "big")
            if size > MAX_MESSAGE_BYTES:
                return None
            message: Message = _decoder.decode(await self._reader.readexactly(size))
            return message
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def close(self) -> None:
        """Hang up once everything is said."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

"""A websocket's two ends, joined: frames pass both ways until one end closes, breaks off, or must be closed.

What each end is told when the other has gone without a word is decided here: a client 1011, an upstream 1001. Whoever
is told to close has a moment to say that it heard. Memory is bounded: of each direction no more is held than one read
and what the socket of the other end has not taken yet, so an end that reads slowly slows the other down.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from gateway.core.wire.websocket import (
    GOING_AWAY,
    INTERNAL_ERROR,
    NORMAL,
    TOO_BIG,
    Closing,
    FrameRelay,
    render_close,
)
from gateway.exchange import Duplex

_ECHO_S = 10.0
"""How long an end may take to answer the other's close."""
_LINGER_S = 0.8
"""How long one may take that the gateway itself has told to close; less than what a shutdown leaves for last words."""


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """Bounds of a websocket: the bytes of a message, and seconds of silence and in all, infinite for none."""

    max_message_bytes: int
    idle_s: float
    total_s: float


@dataclass(slots=True)
class _End:
    """One end; `relay` is what it sends, `key` masks what the gateway itself says to it."""

    wire: Duplex
    relay: FrameRelay
    key: bytes = b""
    has_gone: bool = False

    def tell(self, closing: Closing) -> None:
        """Say a close frame."""
        self.wire.say(render_close(closing, self.key))

    async def hear_out(self) -> None:
        """Read until it closes or goes, and pass nothing on."""
        self.relay.mute()
        while self.relay.closing is None and (data := await self.wire.read()):
            self.relay.feed(data)


class Tunnel:
    """Joins two ends, once.

    Args:
        client: the one that asked.
        upstream: the one that answered.
        limits: of both.
        key: masks what is said to the upstream, 4 bytes.
        watch: told every text message of the upstream's that is not too long.
        max_watched_bytes: what is too long.
    """

    def __init__(
        self,
        client: Duplex,
        upstream: Duplex,
        limits: SocketLimits,
        key: bytes,
        watch: Callable[[bytes], None],
        max_watched_bytes: int,
    ) -> None:
        size = limits.max_message_bytes
        theirs = FrameRelay(
            is_masked=False, max_message_bytes=size, watch=watch, max_watched_bytes=min(size, max_watched_bytes)
        )
        self._client = _End(client, FrameRelay(is_masked=True, max_message_bytes=size))
        self._upstream = _End(upstream, theirs, key)
        self._limits = limits
        self._began_s = self._heard_s = time.monotonic()
        self._fault: str | None = None
        """Once it is over."""

    async def run(self) -> str:
        """Pass frames on until it is over.

        Returns:
            What broke it, as a fault's word; "" where it was closed as it should be.

        Raises:
            asyncio.CancelledError: the gateway stops, or the client has gone; then `stop` says what is left to say.
        """
        client, upstream = self._client, self._upstream
        pumps = [asyncio.create_task(self._pump(client, upstream)), asyncio.create_task(self._pump(upstream, client))]
        try:
            self._fault, told = await self._watch(pumps)
        finally:
            await _cancelled(pumps)
        await self._linger(told)
        self._close()
        return self._fault

    async def stop(self, *, is_client_there: bool) -> str:
        """End it from outside; returns what broke it, as `run` does."""
        client, upstream = self._client, self._upstream
        if self._fault is not None:
            self._close()
            return self._fault
        has_closed = client.relay.closing is not None or upstream.relay.closing is not None
        if has_closed or not is_client_there:
            if client.relay.closing is None:
                upstream.tell(upstream.relay.closing or Closing(GOING_AWAY, "the client has gone"))
            if not has_closed:
                await self._linger([upstream])
            self._close()
            return "" if has_closed else "client_gone"
        told = self._tell_both(Closing(GOING_AWAY, "the gateway is stopping"))
        await self._linger(told)
        self._close()
        return "shutdown"

    def _close(self) -> None:
        self._upstream.wire.close()
        self._client.wire.close()

    async def _pump(self, source: _End, sink: _End) -> None:
        """One direction, until its source closes, goes, or does what it must not."""
        relay = source.relay
        while not relay.is_over:
            data = await source.wire.read()
            if not data:
                source.has_gone = True
                return
            self._heard_s = time.monotonic()
            if passed := relay.feed(data):
                try:
                    await sink.wire.write(passed)
                except ConnectionError:
                    return  # what it said last may still be on its way: the other direction ends this

    async def _watch(self, pumps: list[asyncio.Task[None]]) -> tuple[str, list[_End]]:
        """Wait for the end, and say what must be said: the fault, and who was told to close."""
        client, upstream = self._client, self._upstream
        running = set(pumps)
        closing_s: float | None = None
        while True:
            due_s = self._due_s() if closing_s is None else closing_s
            wait_s = None if due_s == float("inf") else max(0.0, due_s - time.monotonic())
            done, running = await asyncio.wait(running, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            for pump in done:
                pump.result()
            for end in (client, upstream):
                if end.relay.flaw is not None:
                    return self._refuse(end, end.relay.flaw)
            closed = [end for end in (client, upstream) if end.relay.closing is not None]
            if len(closed) == 2:
                return "", []
            gone = [end for end in (client, upstream) if end.has_gone]
            is_late = time.monotonic() >= (self._due_s() if closing_s is None else closing_s)
            if closed and (gone or is_late or not running):
                closed[0].tell(closed[0].relay.closing or Closing(NORMAL))  # in place of the other's answer
                return "", []
            if gone or not running:
                return self._mourn(gone[0] if gone else client)
            if closed and closing_s is None:
                closing_s = time.monotonic() + _ECHO_S
            elif is_late:
                return self._expire()

    def _due_s(self) -> float:
        return min(self._heard_s + self._limits.idle_s, self._began_s + self._limits.total_s)

    def _refuse(self, end: _End, flaw: Closing) -> tuple[str, list[_End]]:
        """An end did what it must not."""
        other = self._client if end is self._upstream else self._upstream
        end.tell(flaw)
        if other is self._client:
            other.tell(Closing(INTERNAL_ERROR, f"the upstream was cut off: {flaw.reason}"))
        else:
            other.tell(Closing(GOING_AWAY, "the client was cut off"))
        return "message_too_large" if flaw.code == TOO_BIG else "malformed", [end, other]

    def _mourn(self, gone: _End) -> tuple[str, list[_End]]:
        """An end has gone without a word."""
        if gone is self._upstream:
            self._client.tell(Closing(INTERNAL_ERROR, "the upstream broke off"))
            return "cut", [self._client]
        self._upstream.tell(Closing(GOING_AWAY, "the client has gone"))
        return "client_gone", [self._upstream]

    def _expire(self) -> tuple[str, list[_End]]:
        """A deadline has passed."""
        is_total = time.monotonic() >= self._began_s + self._limits.total_s
        limit_s = self._limits.total_s if is_total else self._limits.idle_s
        word = "total" if is_total else "idle"
        reason = f"open for {limit_s:g} s" if is_total else f"silent for {limit_s:g} s"
        return f"{word}_timeout", self._tell_both(Closing(GOING_AWAY, f"{reason} (websockets.{word}_seconds)"))

    def _tell_both(self, closing: Closing) -> list[_End]:
        self._client.tell(closing)
        self._upstream.tell(closing)
        return [self._client, self._upstream]

    async def _linger(self, told: list[_End]) -> None:
        """Let those who were told to close hear it: a connection closed over unread bytes loses what it sent last."""
        if not told:
            return
        hearing = [asyncio.create_task(end.hear_out()) for end in told]
        with suppress(asyncio.CancelledError):  # it is over all the same, and why is known
            await asyncio.wait(hearing, timeout=_LINGER_S)
        for task in hearing:
            task.cancel()


async def _cancelled(tasks: list[asyncio.Task[None]]) -> None:
    """Tasks are cancelled, and have let go of what they read."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)

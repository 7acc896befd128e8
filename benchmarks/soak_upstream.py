"""An upstream that misbehaves at random and answers fast: `python -m benchmarks.soak_upstream --ports 9101,9102`.

Each port is an upstream of its own. What a request meets is decided by the seed, the port, the request's mark and how
often that mark was seen there, so that a retry may meet something else. Connections are kept open as long as the fault
allows, so that what one request left behind would reach the next. A mark that begins with `hold` is never answered;
`GET /let-go` closes all connections that idle.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import cast

from benchmarks.framing import MessageReader
from benchmarks.soak_answers import DONE, FILLER, LAST_CHUNK, Call, chunk, error_body, mark_of
from benchmarks.upstream import loop_factory

LET_GO = "/let-go"
LONG_S = 5.0
"""Longer than any deadline of the gateway in front."""
Fault = Callable[[Call], Awaitable[None]]
FAULTS: dict[str, tuple[int, Fault]] = {}
"""By name, with how often it comes, in requests of 10,000."""


def fault(name: str, often: int) -> Callable[[Fault], Fault]:
    """Enter a fault into the table."""

    def enter(play: Fault) -> Fault:
        FAULTS[name] = (often, play)
        return play

    return enter


def refusing(status: int, body: bytes, *lines: str) -> Fault:
    """One that answers by an error."""

    async def play(call: Call) -> None:
        call.whole(status, body, *lines)

    return play


_BUSY, _DOWN = error_body("Too many requests.", "rate_limit_exceeded"), error_body("It failed.", "server_error")
fault("429, Retry-After", 200)(refusing(429, _BUSY, "retry-after: 0.02"))
fault("429", 150)(refusing(429, _BUSY))
fault("500", 200)(refusing(500, _DOWN))
fault("503", 200)(refusing(503, _DOWN))
fault("error with 200", 100)(refusing(200, _DOWN))


@fault("reset before the head", 200)
async def _reset_before_head(call: Call) -> None:
    call.reset()


@fault("closed before the head", 100)
async def _close_before_head(call: Call) -> None:
    call.close()


@fault("no answer", 30)
async def _no_answer(call: Call) -> None:
    await asyncio.sleep(LONG_S)


@fault("slow first token", 20)
async def _slow_first_token(call: Call) -> None:
    call.head()
    await asyncio.sleep(LONG_S)


@fault("cut mid-answer", 200)
async def _cut(call: Call) -> None:
    call.begin()
    call.close()


@fault("reset mid-answer", 100)
async def _reset(call: Call) -> None:
    call.begin()
    await asyncio.sleep(0.01)  # else the reset would overtake what was said
    call.reset()


@fault("regular end mid-answer", 100)
async def _end_early(call: Call) -> None:
    call.begin()
    call.send(LAST_CHUNK)


@fault("stall, then close", 60)
async def _stall_then_close(call: Call) -> None:
    call.begin()
    await asyncio.sleep(0.1)
    call.close()


@fault("stall", 30)
async def _stall(call: Call) -> None:
    call.begin()
    await asyncio.sleep(LONG_S)


@fault("malformed chunk", 100)
async def _broken_chunks(call: Call) -> None:
    call.begin()
    call.send(b"zz\r\nno chunk\r\n")


@fault("no [DONE]", 100)
async def _no_done(call: Call) -> None:
    call.head()
    call.send(*(chunk(raw) for raw in call.pieces() if raw != DONE), LAST_CHUNK)


@fault("error event", 100)
async def _error_event(call: Call) -> None:
    pieces = call.pieces()
    call.head()
    call.send(*map(chunk, pieces[: len(pieces) // 2]), chunk(b"data: " + _DOWN + b"\n\n"), LAST_CHUNK)


@fault("malformed event", 60)
async def _broken_event(call: Call) -> None:
    pieces = call.pieces()
    half = len(pieces) // 2
    call.head()
    call.send(*map(chunk, [*pieces[:half], pieces[half][:20] + b"\n\n", *pieces[half + 1 :]]), LAST_CHUNK)


@fault("byte by byte", 30)
async def _byte_by_byte(call: Call) -> None:
    call.head()
    for number in b"".join(call.pieces()):
        call.send(chunk(bytes([number])))
        await asyncio.sleep(0.001)
    call.send(LAST_CHUNK)


@fault("length too long", 60)
async def _too_long(call: Call) -> None:
    raw = b"".join(call.pieces())
    call.head(length=len(raw) + 50)
    call.send(raw)
    call.close()


@fault("length too short", 60)
async def _too_short(call: Call) -> None:
    raw = b"".join(call.pieces())
    call.head(length=len(raw) // 2)
    call.send(raw)


@fault("two answers", 60)
async def _two_answers(call: Call) -> None:
    """The second was never asked for: whoever is given it is given a lie."""
    call.good()
    call.text = "This is the answer to nothing."
    call.good()


@fault("giant event", 40)
async def _giant(call: Call) -> None:
    call.text += FILLER
    call.good()


@fault("until the end of the connection", 100)
async def _until_close(call: Call) -> None:
    kind = "text/event-stream" if call.is_stream else "application/json"
    call.send(f"HTTP/1.0 200 X\r\ncontent-type: {kind}\r\n\r\n".encode())
    call.send(*call.pieces())
    call.close()


@fault("interim answers", 60)
async def _interim(call: Call) -> None:
    call.send(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n")
    call.good()


@fault("comments", 60)
async def _comments(call: Call) -> None:
    call.head()
    call.send(*map(chunk, [b": alive\n\n", *call.pieces()] if call.is_stream else [b"  ", *call.pieces()]), LAST_CHUNK)


@fault("late", 300)
async def _late(call: Call) -> None:
    """No fault, but clients that leave have the time to."""
    pieces = call.pieces()
    await asyncio.sleep(0.02)
    call.head()
    for raw in pieces:
        call.send(chunk(raw))
        await asyncio.sleep(0.002)
    call.send(LAST_CHUNK)


class Server:
    """One upstream.

    Args:
        name: for the draw.
        seed: for the draw.
    """

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.seed = seed
        self.seen: Counter[str] = Counter()
        self.idle: set[Connection] = set()

    def fault_of(self, mark: str) -> Fault | None:
        """What this request meets; None for a good answer."""
        self.seen[mark] += 1
        drawn = random.Random(f"{self.seed}/{self.name}/{mark}/{self.seen[mark]}").randrange(10_000)
        for often, play in FAULTS.values():
            drawn -= often
            if drawn < 0:
                return play
        return None


class Connection(asyncio.Protocol):
    """One connection; a new request on it is read once the last is answered."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.reader = MessageReader()
        self.pieces: list[bytes] = []
        self.playing: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one by shape, not by class
        self.server.idle.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.idle.discard(self)
        if self.playing:
            self.playing.cancel()

    def data_received(self, data: bytes) -> None:
        for piece in self.reader.feed(data):
            if piece is not None:
                self.pieces.append(piece)
                continue
            body, self.pieces = b"".join(self.pieces), []
            self.answer(body)

    def answer(self, body: bytes) -> None:
        if LET_GO.encode() in self.reader.head:
            for each in self.server.idle - {self}:
                each.transport.close()
            self.transport.write(b"HTTP/1.1 204 X\r\nconnection: close\r\n\r\n")
            self.transport.close()
            return
        mark = mark_of(body)
        call = Call(self.transport, body, mark)
        if mark.startswith("hold"):
            return
        play = self.server.fault_of(mark)
        if play is None:
            call.good()
            return
        self.server.idle.discard(self)
        self.playing = asyncio.get_running_loop().create_task(self._play(play, call))

    async def _play(self, play: Fault, call: Call) -> None:
        await play(call)
        if not self.transport.is_closing():
            self.server.idle.add(self)


async def serve(ports: list[int], seed: int) -> None:
    """Listen on loopback until stopped."""
    loop = asyncio.get_running_loop()
    servers = []
    for number, port in enumerate(ports):
        make = functools.partial(Connection, Server(f"upstream-{number}", seed))
        servers.append(await loop.create_server(make, "127.0.0.1", port, backlog=1024))
    await asyncio.gather(*(server.serve_forever() for server in servers))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ports", default="9101,9102")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve([int(port) for port in chosen.ports.split(",")], chosen.seed))


if __name__ == "__main__":
    main()

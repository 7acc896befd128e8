"""An upstream on raw sockets that misbehaves in ways in which no HTTP library would let it.

    async with Misbehaving() as upstream:
        ...a request for the model "x/cut mid-answer" meets that fault; one for any other model a good answer

The model's name after its first slash names the fault, so that many may be met at the same time. What was asked is in
`asked`: by model, the times of its requests. `left` holds the models whose caller closed before the answer was over.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self

WORDS = ("one ", "two ", "three ", "four ", "five ", "six")
TEXT = "".join(WORDS)
USAGE = {"prompt_tokens": 9, "completion_tokens": 6, "total_tokens": 15}
STALL_S = 30.0
DONE = b"data: [DONE]\n\n"


def event(data: Any) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def piece(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return event({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})


def whole_of(text: str = TEXT, finish: str = "stop") -> bytes:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    fields = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": USAGE}
    return json.dumps(fields).encode()


def error_of(message: str, code: str, kind: str = "invalid_request_error") -> bytes:
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()


SAID = [piece({"role": "assistant", "content": word}) for word in WORDS]
FINISH = piece({}, "stop")
EVENTS = [*SAID, FINISH, DONE]


@dataclass(slots=True)
class Call:
    """One request, and the connection to answer it on. `number` counts requests of this model, from 1."""

    is_stream: bool
    number: int
    writer: asyncio.StreamWriter

    async def send(self, *raws: bytes) -> None:
        for raw in raws:
            self.writer.write(raw)
            await self.writer.drain()

    async def head(self, status: int = 200, *lines: str, length: int | None = None, version: str = "1.1") -> None:
        kind = "text/event-stream" if self.is_stream and status == 200 else "application/json"
        said = [f"HTTP/{version} {status} X", f"Content-Type: {kind}", *lines]
        if length is not None:
            said.append(f"Content-Length: {length}")
        elif version == "1.1":
            said.append("Transfer-Encoding: chunked")
        await self.send("\r\n".join([*said, "", ""]).encode())

    async def chunks(self, *raws: bytes, is_last: bool = True) -> None:
        for raw in raws:
            await self.send(b"%x\r\n%b\r\n" % (len(raw), raw))
        if is_last:
            await self.send(b"0\r\n\r\n")

    async def whole(self, status: int, body: bytes, *lines: str) -> None:
        await self.head(status, *lines, length=len(body))
        await self.send(body)

    async def good(self) -> None:
        if self.is_stream:
            await self.head()
            await self.chunks(*EVENTS)
        else:
            await self.whole(200, whole_of())

    async def begin(self) -> None:
        """Half of a good answer."""
        await self.head()
        if self.is_stream:
            await self.chunks(*SAID[:3], is_last=False)
        else:
            await self.chunks(whole_of()[:90], is_last=False)

    def reset(self) -> None:
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Fault = Callable[[Call], Awaitable[None]]
BUSY = error_of("Too many requests.", "rate_limit_exceeded", "requests")
DOWN = error_of("The server had an error.", "server_error", "server_error")
LONG = error_of(
    "This model's maximum context length is 5 tokens. However, your messages resulted in 9 tokens.",
    "context_length_exceeded",
)
FILTERED = error_of("The response was filtered.", "content_filter")
PREFILL = error_of("This model does not support assistant message prefill.", "invalid_request_error")


def status(code: int, body: bytes, *lines: str, times: int = 1_000_000, every: int = 0) -> Fault:
    """An error so many times (or each `every`th only not), then good answers."""

    async def play(call: Call) -> None:
        if call.number <= times and not (every and call.number % every == 0):
            await call.whole(code, body, *lines)
        else:
            await call.good()

    return play


def events(*raws: bytes, whole: bytes | None = None, is_last: bool = True) -> Fault:
    """These bytes as a stream, each in a chunk of its own; `whole` to callers that do not stream."""

    async def play(call: Call) -> None:
        if call.is_stream:
            await call.head()
            await call.chunks(*raws, is_last=is_last)
            if not is_last:
                await asyncio.sleep(STALL_S)
        else:
            await call.whole(200, whole if whole is not None else whole_of())

    return play


async def reset_before_head(call: Call) -> None:
    call.reset()


async def no_answer(_: Call) -> None:
    await asyncio.sleep(STALL_S)


async def slow_first_token(call: Call) -> None:
    await call.head(length=None if call.is_stream else len(whole_of()))
    await asyncio.sleep(STALL_S)


async def cut(call: Call) -> None:
    await call.begin()


async def cut_by_reset(call: Call) -> None:
    await call.begin()
    await asyncio.sleep(0.05)  # else the reset would overtake what was said
    call.reset()


async def end_early(call: Call) -> None:
    await call.begin()
    await call.send(b"0\r\n\r\n")


async def stall(call: Call) -> None:
    await call.begin()
    await asyncio.sleep(STALL_S)


async def broken_chunks(call: Call) -> None:
    await call.begin()
    await call.send(b"zz\r\nno chunk\r\n")


def wrong_length(more: int) -> Fault:
    async def play(call: Call) -> None:
        body = b"".join(EVENTS) if call.is_stream else whole_of()
        at = len(body) + more if more > 0 else len(body) // 2
        await call.head(length=at)
        await call.send(body)

    return play


async def bad_gzip(call: Call) -> None:
    await call.whole(200, b"\x1f\x8b\x08\x00 this is no gzip", "Content-Encoding: gzip")


async def header_flood(call: Call) -> None:
    await call.send(b"HTTP/1.1 200 OK\r\n")
    for number in range(100_000):
        await call.send(b"X-Flood-%d: %b\r\n" % (number, b"x" * 900))


async def old_http(call: Call) -> None:
    await call.head(version="1.0")
    await call.send(*(EVENTS if call.is_stream else [whole_of()]))


async def interim(call: Call) -> None:
    await call.send(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
    await call.good()


async def redirect(call: Call) -> None:
    await call.whole(307, b"", "Location: http://127.0.0.2:9/v1/chat/completions")


async def one_byte_a_second(call: Call) -> None:
    await call.head()
    for number in b"".join(EVENTS) if call.is_stream else whole_of():
        await call.chunks(bytes([number]), is_last=False)
        await asyncio.sleep(1)


async def error_with_200(call: Call) -> None:
    call.is_stream = False
    await call.whole(200, DOWN)


async def one_packet(call: Call) -> None:
    if call.is_stream:
        await call.head()
        await call.chunks(b"".join(EVENTS))
    else:
        await call.good()


async def many_packets(call: Call) -> None:
    body = b"".join(EVENTS) if call.is_stream else whole_of()
    await call.head()
    await call.chunks(*(bytes([number]) for number in body))


async def never_ends(call: Call) -> None:
    await call.head()
    while True:
        await call.chunks(SAID[0] if call.is_stream else b" ", is_last=False)
        await asyncio.sleep(0.05)


GIANT = "x" * (12 * 2**20)
USELESS = piece({"role": "assistant", "content": "one "})[:40] + b"\n\n"
FAULTS: dict[str, Fault] = {
    "none": Call.good,
    "429 once": status(429, BUSY, times=1),
    "429 once, Retry-After": status(429, BUSY, "Retry-After: 1", times=1),
    "429": status(429, BUSY),
    "429, Retry-After": status(429, BUSY, "Retry-After: 1"),
    "500 once": status(500, DOWN, times=1),
    "503": status(503, DOWN),
    "flapping": status(503, DOWN, every=2),
    "reset before the head": reset_before_head,
    "no answer": no_answer,
    "slow first token": slow_first_token,
    "cut mid-answer": cut,
    "reset mid-answer": cut_by_reset,
    "regular end mid-answer": end_early,
    "stall mid-answer": stall,
    "malformed event": events(*SAID[:3], USELESS, *SAID[3:], FINISH, DONE, whole=whole_of()[:90]),
    "broken chunked encoding": broken_chunks,
    "no [DONE]": events(*SAID, FINISH),
    "no [DONE], no end": events(*SAID, FINISH, is_last=False),
    "context length": status(400, LONG),
    "content filter, 400": status(400, FILTERED),
    "content filter, finish": events(*SAID, piece({}, "content_filter"), DONE, whole=whole_of(finish="content_filter")),
    "prefill rejected": status(400, PREFILL),
    "length too long": wrong_length(50),
    "length too short": wrong_length(-1),
    "invalid gzip": bad_gzip,
    "header flood": header_flood,
    "HTTP/1.0": old_http,
    "interim answers": interim,
    "redirect off-host": redirect,
    "1 byte a second": one_byte_a_second,
    "error with 200": error_with_200,
    "error event": events(*SAID[:3], event(json.loads(DOWN)), whole=DOWN),
    "all in one packet": one_packet,
    "200 packets": many_packets,
    "gigantic event": events(piece({"content": GIANT}), FINISH, DONE, whole=whole_of(GIANT)),
    "keep-alive comments": events(*(b": alive\n\n" + raw for raw in EVENTS)),
    "never ends": never_ends,
}


@dataclass
class Misbehaving:
    """The server; one that `is_good` answers well whatever it is asked."""

    is_good: bool = False
    asked: dict[str, list[float]] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    port: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _fault_of(self, model: str) -> Fault:
        return Call.good if self.is_good else FAULTS.get(model.partition("/")[2], Call.good)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request a connection: a fault must not touch the next one."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        model = ""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
            body = json.loads(await reader.readexactly(length))
            model = body["model"]
            times = self.asked.setdefault(model, [])
            times.append(time.monotonic())
            call = Call(bool(body.get("stream")), len(times), writer)
            playing = asyncio.create_task(self._fault_of(model)(call))
            gone = asyncio.create_task(reader.read(1))
            try:
                await asyncio.wait({playing, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not playing.done():
                    self.left.append(model)
                else:
                    playing.result()
            finally:
                playing.cancel()
                gone.cancel()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

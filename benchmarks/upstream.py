"""A mock OpenAI-compatible upstream, as fast as Python can: `python -m benchmarks.upstream --port 9100`.

Reads a whole request (Content-Length or chunked), answers a fixed chat.completion of about 800 bytes, or a
stream of server-sent events when the body says `"stream":true`; a usage chunk, and `"usage":null` before it,
only when the body says `include_usage`. `GET` anything is the list of models. Keep-alive always.

The prompt's tokens in `usage` are the body's bytes divided by five, near the truth for the prose sent here: a
gateway that learns from usage must not be taught nonsense. Nothing is parsed or checked; this is a load
target, not a test double for behaviour.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
from collections.abc import Callable
from typing import cast

from benchmarks.framing import MessageReader

WORDS = ("the", "gateway", "keeps", "a", "warm", "pool", "of", "sockets", "and", "skips", "handshakes")
IDENTITY = {"id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT", "created": 1741569952, "model": "mock-2024-07-18"}
BYTES_PER_TOKEN = 5
COMPLETION_TOKENS = 24
MODELS = {
    "object": "list",
    "data": [{"id": "mock", "object": "model", "created": 1741569952, "owned_by": "mock"}],
}
ANSWER = (
    "A connection pool keeps sockets open between requests, so the next call skips the handshake "
    "and starts sending at once."
)
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n"
    b"x-request-id: req_0123456789abcdef\r\n\r\n"
)


def render_json(value: object) -> bytes:
    """One whole answer, head and body."""
    body = json.dumps(value, separators=(",", ":")).encode()
    head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_0123456789abcdef\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, object]:
    """The usage object of an answer."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


@functools.lru_cache(maxsize=4096)
def render_completion(prompt_tokens: int) -> bytes:
    """A chat.completion; rendered once for each prompt size."""
    message: dict[str, object] = {"role": "assistant", "content": ANSWER, "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return render_json(
        {
            **IDENTITY,
            "object": "chat.completion",
            "choices": [choice],
            "usage": usage(prompt_tokens, COMPLETION_TOKENS),
            "service_tier": "default",
            "system_fingerprint": "fp_44added55e",
        }
    )


@functools.lru_cache(maxsize=64)
def render_stream(events: int, prompt_tokens: int, with_usage: bool) -> list[bytes]:
    """A stream as writes: head and role first, then one chunk a word, the rest in the last write."""

    def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        value = {**IDENTITY, "object": "chat.completion.chunk", "choices": [choice]}
        return event(value | ({"usage": None} if with_usage else {}))

    def event(value: object) -> bytes:
        text = b"data: " + (value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode())
        return b"%x\r\n%s\n\n\r\n" % (len(text) + 2, text)

    total = usage(prompt_tokens, events)
    last = event({**IDENTITY, "object": "chat.completion.chunk", "choices": [], "usage": total}) if with_usage else b""
    return [
        STREAM_HEAD + chunk({"role": "assistant", "content": ""}),
        *(chunk({"content": " " + WORDS[number % len(WORDS)]}) for number in range(events)),
        chunk({}, "stop") + last + event(b"[DONE]") + b"0\r\n\r\n",
    ]


class Upstream(asyncio.Protocol):
    """One connection of the mock."""

    def __init__(self, events: int, gap_us: float) -> None:
        self.events = events
        self.gap_s = gap_us / 1e6
        self.reader = MessageReader()
        self.pieces: list[bytes] = []
        self.timer: asyncio.Handle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one by shape, not by class

    def data_received(self, data: bytes) -> None:
        for piece in self.reader.feed(data):
            if piece is not None:
                self.pieces.append(piece)
                continue
            body = b"".join(self.pieces)
            self.pieces = []
            self.answer(body)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.timer:
            self.timer.cancel()

    def answer(self, body: bytes) -> None:
        """Write the whole answer, or begin a stream."""
        tokens = len(body) // BYTES_PER_TOKEN
        if self.reader.head.startswith(b"GET "):
            self.transport.write(render_json(MODELS))
        elif b'"stream":true' in body or b'"stream": true' in body:
            self.write_from(render_stream(self.events, tokens, b"include_usage" in body), 0)
        else:
            self.transport.write(render_completion(tokens))

    def write_from(self, writes: list[bytes], position: int) -> None:
        """Write one event and come back for the next: each is a segment of its own, as a model's are."""
        self.transport.write(writes[position])
        position += 1
        if position == len(writes):
            self.timer = None
        elif self.gap_s:
            self.timer = asyncio.get_running_loop().call_later(self.gap_s, self.write_from, writes, position)
        else:
            self.timer = asyncio.get_running_loop().call_soon(self.write_from, writes, position)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop where there is one."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


async def serve(port: int, events: int, gap_us: float) -> None:
    """Listen on loopback until stopped."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Upstream(events, gap_us), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9100)
    parser.add_argument("--events", type=int, default=200, help="words in a stream")
    parser.add_argument("--gap-us", type=float, default=0, help="microseconds between two events")
    chosen = parser.parse_args()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve(chosen.port, chosen.events, chosen.gap_us))


if __name__ == "__main__":
    main()

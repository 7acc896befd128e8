"""Good answers of the soak's upstream, whose text follows from a mark in the request, and the means to spoil them.

The mark is the last `[n=...]` of a body. Who knows it can tell a whole answer from half of one, and from another's.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import zlib
from typing import Any

FILLER = " " + "x" * 2**20
"""What a giant event adds to the text."""
WORDS = ("the", "ferry", "leaves", "at", "noon", "and", "nobody", "waits", "for", "crate", "seven")
DONE = b"data: [DONE]\n\n"
LAST_CHUNK = b"0\r\n\r\n"


def text_of(mark: str) -> str:
    """The text of the answer to the request with this mark."""
    digest = zlib.crc32(mark.encode())
    words = [WORDS[(digest >> place) % len(WORDS)] for place in range(4 + digest % 16)]
    return f"{mark}: {' '.join(words)}, says {mark}."


def mark_of(body: bytes) -> str:
    """The mark of a request; the last one counts, since a chat resends its earlier messages."""
    start = body.rfind(b"[n=")
    return body[start + 3 : body.find(b"]", start)].decode("latin-1") if start >= 0 else "none"


def event(data: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"


def chunk(raw: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(raw), raw)


def error_body(message: str, code: str) -> bytes:
    """An error of OpenAI's form."""
    return json.dumps({"error": {"message": message, "type": "server_error", "param": None, "code": code}}).encode()


class Call:
    """One request, and the connection to answer it on."""

    def __init__(self, transport: asyncio.Transport, body: bytes, mark: str) -> None:
        self.transport = transport
        self.is_stream = b'"stream":true' in body
        self.asks_usage = b'"include_usage":true' in body
        self.text = text_of(mark)
        self.prompt_tokens = max(1, len(body) // 5)

    def send(self, *raws: bytes) -> None:
        self.transport.write(b"".join(raws))

    def head(self, status: int = 200, *lines: str, length: int | None = None) -> None:
        kind = "text/event-stream" if self.is_stream and status == 200 else "application/json"
        framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
        self.send("\r\n".join([f"HTTP/1.1 {status} X", f"content-type: {kind}", framing, *lines, "", ""]).encode())

    def whole(self, status: int, body: bytes, *lines: str) -> None:
        self.head(status, *lines, length=len(body))
        self.send(body)

    def _usage(self) -> dict[str, int]:
        said = len(self.text) // 5
        total = self.prompt_tokens + said
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": said, "total_tokens": total}

    def body(self) -> bytes:
        """A whole answer."""
        message = {"role": "assistant", "content": self.text}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        answer = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": choices}
        return json.dumps({**answer, "usage": self._usage()}).encode()

    def events(self) -> list[bytes]:
        """A whole answer's events: a word each, the end, the usage if it was asked for, the end mark."""

        def piece(choices: list[Any], **more: Any) -> bytes:
            last = {"usage": None} if self.asks_usage and not more else more
            kind = "chat.completion.chunk"
            return event({"id": "c", "object": kind, "created": 1, "model": "m", "choices": choices, **last})

        first, *words = self.text.split(" ")
        said = [first, *(" " + word for word in words)]
        raws = [piece([{"index": 0, "delta": {"content": word}, "finish_reason": None}]) for word in said]
        raws.append(piece([{"index": 0, "delta": {}, "finish_reason": "stop"}]))
        if self.asks_usage:
            raws.append(piece([], usage=self._usage()))
        return [*raws, DONE]

    def pieces(self) -> list[bytes]:
        """A whole answer, in pieces."""
        if self.is_stream:
            return self.events()
        body = self.body()
        return [body[at : at + 90] for at in range(0, len(body), 90)]

    def good(self, *lines: str) -> None:
        if self.is_stream:
            self.head(200, *lines)
            self.send(*map(chunk, self.pieces()), LAST_CHUNK)
        else:
            self.whole(200, self.body(), *lines)

    def begin(self) -> None:
        """Half of a good answer."""
        pieces = self.pieces()
        self.head()
        self.send(*map(chunk, pieces[: len(pieces) // 2]))

    def close(self) -> None:
        """End the connection once all that was said is on its way."""
        self.transport.close()

    def reset(self) -> None:
        sock: socket.socket = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

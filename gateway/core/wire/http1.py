"""Heads of HTTP/1.1 messages as bytes (RFC 9112, sections 2 and 6).

Only rendering; parsing is aiohttp's. A name or value that would end its line is refused, whoever it came from: it
would be read as another header, or as another message.

Invariants, each with a test of its own:
  1. A head holds exactly the lines that it was given.
  2. Bytes that were read from a header are the bytes that are written to it.
"""

from __future__ import annotations

from http import HTTPStatus

from gateway.core.wire.headers import Headers

_REASONS = {status.value: status.phrase for status in HTTPStatus}
LAST_CHUNK = b"0\r\n\r\n"


def render_request_head(method: str, target: str, headers: Headers) -> bytes:
    """The head of a request; `target` is the path with its query as it is to be sent.

    Raises:
        ValueError: a line end in the method, the target or a header.
    """
    return _render(f"{method} {target} HTTP/1.1\r\n", headers)


def render_response_head(status: int, headers: Headers) -> bytes:
    """The head of a response.

    Raises:
        ValueError: a line end in a header.
    """
    return _render(f"HTTP/1.1 {status} {_REASONS.get(status, '')}\r\n", headers)


def _render(first_line: str, headers: Headers) -> bytes:
    text = first_line + "\r\n".join(map(": ".join, headers)) + ("\r\n\r\n" if headers else "\r\n")
    lines = len(headers) + 2
    if text.count("\n") != lines or text.count("\r") != lines or "\0" in text:
        raise ValueError("a header holds a line end")
    return text.encode("utf-8", "surrogateescape")


def render_chunk(data: bytes) -> bytes:
    """One chunk of a chunked body; `data` must not be empty, that would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)

"""Server-sent events, cut out of a byte stream without changing it.

Bytes in, whole events out, each with its exact bytes and its blank line, so that joining what comes out gives what
went in. Source: the WHATWG HTML standard, section 9.2.6 (2025): lines end in LF, CR LF or CR; a blank line ends an
event; `data` lines are joined by LF; a leading byte order mark is skipped.

Invariants, each with a test of its own:
  1. b"".join(events) + rest == everything fed, at every way of splitting it.
  2. The events are the same at every way of splitting.
  3. No more than one incomplete event is held.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_LINE_END = rb"(?>\r\n|\n|\r)"
_blank_line = re.compile(_LINE_END + _LINE_END).search
_line_ends = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class EventSplitter:
    """An incremental splitter; `rest` holds the bytes of the event that is not complete yet."""

    __slots__ = ("_scanned", "rest")

    def __init__(self) -> None:
        self.rest = b""
        self._scanned = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The events that are complete with this chunk, as raw bytes."""
        buffer = self.rest + chunk if self.rest else chunk
        events: list[bytes] = []
        start = 0
        scan = self._scanned
        while found := _blank_line(buffer, scan):
            end = found.end()
            if end == len(buffer) and buffer.endswith(b"\r"):
                break  # a line feed may follow, and would belong to this line end
            events.append(buffer[start:end])
            start = scan = end
        self.rest = buffer[start:] if start else buffer
        self._scanned = max(0, len(self.rest) - 3)
        return events

    @property
    def rest_is_event(self) -> bool:
        """Whether the rest ends in a blank line after all (one whose last CR could have been half a CR LF)."""
        found = _blank_line(self.rest)
        return found is not None and found.end() == len(self.rest)

    def take_rest(self) -> bytes:
        """What is left at the end of the stream; the splitter is empty afterwards."""
        rest, self.rest, self._scanned = self.rest, b"", 0
        return rest


class Event(NamedTuple):
    """One event's type and data, as a browser would see them."""

    name: str
    data: bytes


def parse_event(raw: bytes) -> Event | None:
    """The event in these bytes, or None where there is no data (comments, keep-alives)."""
    if raw.startswith(b"data: {") and raw.endswith(b"}\n\n") and b"\n" not in raw[:-2] and b"\r" not in raw:
        return Event("message", raw[6:-2])
    name = b"message"
    data: list[bytes] = []
    for line in _line_ends.split(raw.removeprefix(_BOM)):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value or b"message"
    if not data:
        return None
    return Event(name.decode("utf-8", "replace"), b"\n".join(data))


def render_event(data: bytes, name: str = "") -> bytes:
    """One event; `data` must hold no line end."""
    return (b"event: " + name.encode() + b"\n" if name else b"") + b"data: " + data + b"\n\n"

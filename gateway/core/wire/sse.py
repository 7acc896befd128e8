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

_blank_line = re.compile(rb"\n(?:\n|\r\n?)|\r\r\n?").search
"""From the last byte of a line end to the end of the next one."""
_line_ends = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class EventSplitter:
    """An incremental splitter; `rest` holds the bytes of the event that is not complete yet.

    A leading byte order mark comes out on its own, before the first event.
    """

    __slots__ = ("_is_start", "_scanned", "rest")

    def __init__(self) -> None:
        self.rest = bytearray()
        self._scanned = 0
        self._is_start = True

    def feed(self, chunk: bytes) -> list[bytes]:
        """The events that are complete with this chunk, as raw bytes."""
        rest = self.rest
        rest += chunk
        events: list[bytes] = []
        start = 0
        if self._is_start and rest and (len(rest) >= len(_BOM) or not rest.startswith(_BOM[:1])):
            self._is_start = False
            if rest.startswith(_BOM):
                events.append(_BOM)
                start = len(_BOM)
        scan = max(start, self._scanned)
        while found := _blank_line(rest, scan):
            end = found.end()
            if end == len(rest) and rest.endswith(b"\r"):
                break  # a line feed may follow, and would belong to this line end
            events.append(bytes(rest[start:end]))
            start = scan = end
        del rest[:start]
        self._scanned = max(0, len(rest) - 2)
        return events

    @property
    def rest_is_event(self) -> bool:
        """Whether the rest ends in a blank line after all (its last CR could have been half a CR LF)."""
        found = _blank_line(self.rest)
        return found is not None and found.end() == len(self.rest)

    def take_rest(self) -> bytes:
        """What is left at the end of the stream; the splitter is empty afterwards."""
        rest, self.rest, self._scanned = bytes(self.rest), bytearray(), 0
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
    for line in _line_ends.split(raw):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value or b"message"
    if not data:
        return None
    return Event(name.decode("utf-8", "replace"), b"\n".join(data))


def raw_position(raw: bytes, at: int) -> int:
    """Where byte `at` of an event's data stands in the event's raw bytes; at a joint, the end of the earlier line."""
    start = 0
    for line in _line_ends.split(raw):
        field, _, value = line.partition(b":")
        end = start + len(line)
        if field == b"data":
            size = len(value.removeprefix(b" "))
            if at <= size:
                return end - size + at
            at -= size + 1
        start = end + (2 if raw.startswith(b"\r\n", end) else 1)
    raise IndexError("the event holds less data")


def render_event(data: bytes, name: str = "") -> bytes:
    """One event; `data` must hold no line end."""
    return (b"event: " + name.encode() + b"\n" if name else b"") + b"data: " + data + b"\n\n"

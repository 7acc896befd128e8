"""Lines out of bytes that come in pieces, none of them longer than a bound.

A longer line is told as too long once and its bytes are let go as they come; the lines after it are whole.

Invariants, each with a test of its own:
  1. However the bytes are cut into pieces, the same lines come out.
  2. Never more than the bound, and the piece at hand, are held.
"""

from __future__ import annotations

from collections.abc import Iterator


class LineSplitter:
    """Yields lines without their ends; None in place of one that is too long.

    Args:
        max_bytes: of a line.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held = bytearray()
        self._is_too_long = False

    def feed(self, piece: bytes) -> Iterator[bytes | None]:
        """The lines that end in this piece."""
        start = 0
        while (end := piece.find(b"\n", start)) >= 0:
            self._take(piece[start:end])
            yield self._line()
            start = end + 1
        self._take(piece[start:])

    def finish(self) -> Iterator[bytes | None]:
        """The last line, if it does not end like one."""
        if self._held or self._is_too_long:
            yield self._line()

    def _take(self, data: bytes) -> None:
        if self._is_too_long or len(self._held) + len(data) > self._max_bytes:
            self._is_too_long = True
            self._held.clear()
        else:
            self._held += data

    def _line(self) -> bytes | None:
        line = None if self._is_too_long else bytes(self._held)
        self._held.clear()
        self._is_too_long = False
        return line

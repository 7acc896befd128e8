"""Cuts one connection's bytes into HTTP/1.1 messages, for the mock upstream and for the load.

Knows Content-Length and chunked bodies, which is all that the programs measured here send. A message with
neither has no body: an answer that ends with its connection is not understood. Nothing is validated, so that
the measuring side costs little beside what is measured.
"""

from __future__ import annotations


class MessageReader:
    """Feed bytes, receive pieces of bodies; None stands for the end of a message."""

    __slots__ = ("_at", "_buffer", "_left", "_out", "_step", "head")

    def __init__(self) -> None:
        self.head = b""
        self._buffer = b""
        self._at = 0
        self._left = 0
        self._out: list[bytes | None] = []
        self._step = self._read_head

    def feed(self, data: bytes) -> list[bytes | None]:
        """Take what a socket gave.

        Args:
            data: the next bytes of the connection, cut anywhere.

        Returns:
            body pieces in order, None after each whole message; `head` is that of the newest message.
        """
        self._buffer = self._buffer + data if self._buffer else data
        self._at = 0
        self._out = []
        while self._step():
            pass
        self._buffer = self._buffer[self._at :]
        return self._out

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n", self._at)
        if end < 0:
            return False
        self.head = self._buffer[self._at : end + 2]
        self._at = end + 4
        low = self.head.lower()
        mark = low.find(b"\r\ncontent-length:")
        if mark >= 0:
            self._left = int(low[mark + 17 : low.index(b"\r\n", mark + 17)])
            self._step = self._read_counted
        elif b"\r\ntransfer-encoding: chunked" in low:
            self._step = self._read_chunk
        else:
            self._out.append(None)
        return True

    def _read_counted(self) -> bool:
        piece = self._buffer[self._at : self._at + self._left]
        self._at += len(piece)
        self._left -= len(piece)
        if piece:
            self._out.append(piece)
        return self._end() if not self._left else False

    def _read_chunk(self) -> bool:
        line_end = self._buffer.find(b"\r\n", self._at)
        if line_end < 0:
            return False
        size = int(self._buffer[self._at : line_end].split(b";")[0], 16)
        if size == 0:
            end = self._buffer.find(b"\r\n\r\n", line_end)
            if end < 0:
                return False
            self._at = end + 4
            return self._end()
        start = line_end + 2
        if len(self._buffer) < start + size + 2:
            return False
        self._out.append(self._buffer[start : start + size])
        self._at = start + size + 2
        return True

    def _end(self) -> bool:
        self._out.append(None)
        self._step = self._read_head
        return True

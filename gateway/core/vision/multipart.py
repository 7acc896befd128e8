"""A form as it is uploaded (`multipart/form-data`, RFC 7578 and RFC 2046): bytes in, parts out.

The whole is never here: a part's bytes are given on as they come, in whatever pieces. What is held is a head of
bounded size, or as many bytes as could be the beginning of a boundary.

Invariants, each with a test of its own:
  1. Any division of the same bytes gives the same parts.
  2. What is held is bounded, whatever comes.
  3. A form that does not end is no form; what stands before its first boundary and behind its last is ignored.
"""

from __future__ import annotations

import enum
import re
from typing import NamedTuple

from gateway.core.errors import Refusal
from gateway.core.facts.wire_json import wrong_field

MAX_HEAD_BYTES, MAX_PARTS = 8_192, 16
_BLANK = b" \t"
_is_boundary = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]").fullmatch
_parameter = re.compile(r';\s*([\w*-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))').findall
_unquoted = re.compile(r"\\(.)").sub


class Head(NamedTuple):
    """A part begins: its name, and its file's name where it is one."""

    name: str
    file_name: str | None


class Piece(NamedTuple):
    """Bytes of the part that began last."""

    data: bytes


class _State(enum.Enum):
    BEFORE = enum.auto()
    LINE = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()
    AFTER = enum.auto()


def boundary_of(content_type: str) -> bytes:
    """What separates the parts of a form.

    Args:
        content_type: the whole header.

    Raises:
        Refusal: 400, it names none that may be.
    """
    found = {name.lower(): _unquoted(r"\1", quoted) or plain for name, quoted, plain in _parameter(content_type)}
    boundary = found.get("boundary", "")
    if not _is_boundary(boundary):
        raise wrong_field("Content-Type", "multipart/form-data with a boundary", "none that RFC 2046 allows")
    return boundary.encode("ascii")


class FormReader:
    """Reads one form.

    Args:
        boundary: that separates its parts.
    """

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._held = bytearray(b"\r\n")  # the first boundary may stand at the very beginning
        self._state = _State.BEFORE
        self._parts = 0

    def feed(self, data: bytes) -> list[Head | Piece]:
        """What has come to light with these bytes.

        Raises:
            Refusal: 400.
        """
        self._held += data
        found: list[Head | Piece] = []
        while self._step(found):
            pass
        return found

    def end(self) -> None:
        """No more bytes come.

        Raises:
            Refusal: 400, the form has not ended.
        """
        if self._state is not _State.AFTER:
            raise _wrong("a form that ends with its boundary", "one that is cut short")

    def _step(self, found: list[Head | Piece]) -> bool:
        """One change of state; False where more bytes are needed for it."""
        if self._state is _State.AFTER:
            self._held.clear()
            return False
        if self._state is _State.LINE:
            return self._read_line()
        if self._state is _State.HEAD:
            return self._read_head(found)
        return self._read_body(found)

    def _read_body(self, found: list[Head | Piece]) -> bool:
        """Up to the next boundary, as far as it can be seen; what comes before the first is nobody's."""
        place = self._held.find(self._delimiter)
        is_whole = place >= 0
        ready = place if is_whole else max(0, len(self._held) - len(self._delimiter) + 1)
        if ready and self._state is _State.BODY:
            found.append(Piece(bytes(self._held[:ready])))
        del self._held[: ready + (len(self._delimiter) if is_whole else 0)]
        if is_whole:
            self._state = _State.LINE
        return is_whole

    def _read_line(self) -> bool:
        """What stands behind a boundary: two hyphens end the form, else a part's head follows in the next line."""
        if len(self._held) < 2:
            return False
        if self._held.startswith(b"--"):
            self._state = _State.AFTER
            return True
        line_end = self._held.find(b"\r\n")
        if line_end < 0 and len(self._held) <= MAX_HEAD_BYTES:
            return False
        if line_end < 0 or self._held[:line_end].strip(_BLANK):
            raise _wrong("a line's end behind a boundary", "other bytes")
        del self._held[:line_end]  # the line's end stays: a head without any line is that, twice
        self._state = _State.HEAD
        return True

    def _read_head(self, found: list[Head | Piece]) -> bool:
        end = self._held.find(b"\r\n\r\n")
        if end < 0 and len(self._held) <= MAX_HEAD_BYTES:
            return False
        if end < 0 or end > MAX_HEAD_BYTES:
            raise _wrong(f"a part's head of at most {MAX_HEAD_BYTES:,} bytes", "a longer one")
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise _wrong(f"at most {MAX_PARTS} parts", "more")
        found.append(_head_of(bytes(self._held[:end])))
        del self._held[: end + 4]
        self._state = _State.BODY
        return True


def _head_of(data: bytes) -> Head:
    for line in data.decode("utf-8", "replace").split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() != "content-disposition":
            continue
        kind = value.partition(";")[0].strip().lower()
        found = {key.lower(): _unquoted(r"\1", quoted) or plain for key, quoted, plain in _parameter(value)}
        if kind == "form-data" and "name" in found:
            return Head(found["name"], found.get("filename"))
    raise _wrong("parts with a name (Content-Disposition: form-data; name=...)", "one without")


def _wrong(expected: str, found: str) -> Refusal:
    return wrong_field("form", expected, found)

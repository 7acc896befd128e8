"""One direction of a websocket on its way through: bytes in, bytes out (RFC 6455, section 5).

Frames pass with the bytes that they came with. A large one that is not here yet passes in pieces, as the fragments of
one message, which an intermediary may make of it where no extension is in use (section 5.4): so little is held, and
between any two writes there is a place for a frame of the gateway's own. The mask of a client's frame goes on with it,
turned to where its piece begins.

Invariants, each with a test of its own:
  1. However the bytes arrive, the same messages leave, of the same kinds and bytes, and control frames as they came.
  2. What was given out so far ends between two frames.
  3. No more is held than one small frame, and one head.
  4. No byte of a message larger than `max_message_bytes` beyond that many leaves, and none after a close.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

HELD_BYTES = 65_536
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
NORMAL, GOING_AWAY, PROTOCOL_ERROR, TOO_BIG, INTERNAL_ERROR = 1000, 1001, 1002, 1009, 1011
_FINAL = 0x80
_RESERVED = 0x70
_MASKED = 0x80
_MAX_CONTROL_BYTES = 125
_KINDS = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})


class Closing(NamedTuple):
    """How an end closes; without a code it said none."""

    code: int | None
    reason: str = ""


class _Head(NamedTuple):
    """A frame's head; its payload stands from `start` to `end`."""

    opcode: int
    is_final: bool
    has_reserved: bool
    key: bytes
    is_masked: bool
    start: int
    length: int

    @property
    def end(self) -> int:
        return self.start + self.length


@dataclass(slots=True)
class _Part:
    """The frame that passes in pieces at this moment.

    Attributes:
        opcode: of the next piece.
        is_final: whether the message ends with this frame.
        key: the mask for the next byte and those after it; none in the upstream's direction.
        left: bytes that have not passed.
    """

    opcode: int
    is_final: bool
    key: bytes
    left: int


class FrameRelay:
    """Takes in bytes as they are read, and gives out bytes to be written.

    Args:
        is_masked: these are a client's frames, which are masked; an upstream's are not.
        max_message_bytes: bound of a message.
        watch: told every whole text message of at most `max_watched_bytes`; only where nothing is masked.
        max_watched_bytes: held of a message to that end.
        held_bytes: a data frame up to this size is held until it is whole.
    """

    def __init__(
        self,
        *,
        is_masked: bool,
        max_message_bytes: int,
        watch: Callable[[bytes], None] | None = None,
        max_watched_bytes: int = 0,
        held_bytes: int = HELD_BYTES,
    ) -> None:
        self._is_masked = is_masked
        self._max_message_bytes = max_message_bytes
        self._watch = watch
        self._max_watched_bytes = max_watched_bytes
        self._held_bytes = held_bytes
        self._held = bytearray()
        self._part: _Part | None = None
        self._is_open = False
        self._message_bytes = 0
        self._watched: bytearray | None = None
        self._is_lost = False
        self._is_mute = False
        self.closing: Closing | None = None
        """What its close frame said, once that has come."""
        self.flaw: Closing | None = None
        """Why nothing more may pass."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more will pass."""
        return self.closing is not None or self.flaw is not None

    def mute(self) -> None:
        """Let nothing more out, and go on only to see the close frame."""
        self._is_mute = True

    def feed(self, data: bytes) -> bytes:
        """What may be written now that these bytes are here; sets `closing` and `flaw`."""
        if self._is_lost or self.closing is not None or (self.flaw is not None and not self._is_mute):
            return b""
        self._held += data
        out: list[bytes] = []
        at = 0
        while self.closing is None:
            taken = self._rest_of_part(out, at) if self._part is not None else self._frame(out, at)
            if not taken:
                break
            at += taken
        del self._held[:at]
        return b"" if self._is_mute else b"".join(out)

    def _frame(self, out: list[bytes], at: int) -> int:
        """Pass the frame that begins here, or begin to; returns how many bytes that took, 0 if it must wait."""
        head = _parse_head(self._held, at)
        if head is None:
            return 0
        flaw = self._flaw_of(head)
        if flaw is not None:
            self.flaw = self.flaw or flaw
            self._is_lost = flaw.code == PROTOCOL_ERROR
            if not self._is_mute or self._is_lost:
                return 0
        if head.end > len(self._held):
            if head.length <= self._held_bytes or head.opcode >= CLOSE:
                return 0
            self._begin_message(head)
            self._part = _Part(head.opcode, head.is_final, head.key, head.length)
            return head.start - at
        out.append(bytes(self._held[at : head.end]))
        if head.opcode >= CLOSE:
            if head.opcode == CLOSE:
                self.closing = _parse_close(_unmasked(self._held[head.start : head.end], head.key))
                return len(self._held) - at  # nothing may follow
        else:
            self._begin_message(head)
            self._see(head.start, head.end)
            self._end_frame(head.is_final)
        return head.end - at

    def _rest_of_part(self, out: list[bytes], at: int) -> int:
        """Pass what is here of a frame that passes in pieces; returns how much that is."""
        part = self._part
        assert part is not None
        size = min(part.left, len(self._held) - at)
        if not size:
            return 0
        part.left -= size
        is_final = part.is_final and not part.left
        out.append(_render_head(part.opcode, size, part.key, is_final=is_final))
        out.append(bytes(self._held[at : at + size]))
        self._see(at, at + size)
        part.opcode = CONTINUATION
        part.key = part.key[size % 4 :] + part.key[: size % 4] if part.key else b""
        if not part.left:
            self._part = None
            self._end_frame(part.is_final)
        return size

    def _flaw_of(self, head: _Head) -> Closing | None:
        if head.has_reserved or head.opcode not in _KINDS:
            return Closing(PROTOCOL_ERROR, "a frame uses an extension, and none was agreed on")
        if head.is_masked != self._is_masked:
            return Closing(PROTOCOL_ERROR, "a client's frames must be masked, and only those")
        if head.opcode >= CLOSE:
            is_short = head.is_final and head.length <= _MAX_CONTROL_BYTES
            return None if is_short else Closing(PROTOCOL_ERROR, "a control frame is too long or in pieces")
        if (head.opcode == CONTINUATION) != self._is_open:
            return Closing(PROTOCOL_ERROR, "a frame continues no message, or a message begins within another")
        size = head.length + (self._message_bytes if self._is_open else 0)
        if size > self._max_message_bytes:
            return Closing(
                TOO_BIG, f"a message may hold {self._max_message_bytes} bytes (websockets.max_message_bytes)"
            )
        return None

    def _begin_message(self, head: _Head) -> None:
        if head.opcode != CONTINUATION:
            self._message_bytes = 0
            self._watched = bytearray() if self._watch is not None and head.opcode == TEXT else None
        self._is_open = True
        self._message_bytes += head.length

    def _see(self, start: int, end: int) -> None:
        if self._watched is None:
            return
        if len(self._watched) + end - start > self._max_watched_bytes:
            self._watched = None
        else:
            self._watched += memoryview(self._held)[start:end]

    def _end_frame(self, is_final: bool) -> None:
        if not is_final:
            return
        self._is_open = False
        if self._watched is not None and self._watch is not None:
            watched, self._watched = bytes(self._watched), None
            self._watch(watched)


def _parse_head(held: bytearray, at: int) -> _Head | None:
    """The head of the frame that begins here, None if it is not whole."""
    here = len(held) - at
    if here < 2:
        return None
    first, second = held[at], held[at + 1]
    length, start = second & 0x7F, at + 2
    if length > _MAX_CONTROL_BYTES:
        size = 2 if length == _MAX_CONTROL_BYTES + 1 else 8
        length, start = int.from_bytes(held[start : start + size], "big"), start + size
    is_masked = second >= _MASKED
    key_start = start
    start += 4 if is_masked else 0
    if start > len(held):
        return None
    key = bytes(held[key_start:start])
    return _Head(first & 0x0F, first >= _FINAL, bool(first & _RESERVED), key, is_masked, start, length)


def _render_head(opcode: int, length: int, key: bytes, *, is_final: bool) -> bytes:
    masked = _MASKED if key else 0
    if length <= _MAX_CONTROL_BYTES:
        size = bytes((masked | length,))
    elif length < 2**16:
        size = bytes((masked | 126,)) + length.to_bytes(2, "big")
    else:
        size = bytes((masked | 127,)) + length.to_bytes(8, "big")
    return bytes(((_FINAL if is_final else 0) | opcode,)) + size + key


def _unmasked(payload: bytes | bytearray, key: bytes) -> bytes:
    """The payload of a short frame; masking is its own inverse."""
    return bytes(byte ^ key[i % 4] for i, byte in enumerate(payload)) if key else bytes(payload)


def render_close(closing: Closing, key: bytes = b"") -> bytes:
    """A close frame.

    Args:
        closing: what it says; a reason that is too long is cut.
        key: the mask, 4 bytes, where it goes to a server.
    """
    payload = b""
    if closing.code is not None:
        reason = closing.reason.encode()[: _MAX_CONTROL_BYTES - 2].decode("utf-8", "ignore").encode()
        payload = closing.code.to_bytes(2, "big") + reason
    return _render_head(CLOSE, len(payload), key, is_final=True) + _unmasked(payload, key)


def _parse_close(payload: bytes) -> Closing:
    if len(payload) < 2:
        return Closing(None)
    return Closing(int.from_bytes(payload[:2], "big"), payload[2:].decode("utf-8", "replace"))

"""What an answer visibly generated, kept until it is known whether somebody must count it.

Nearly always the upstream reports usage in the end, and nothing here is looked at: so taking in a piece costs an
append, and nothing is tokenised. Pieces of one text (a choice's content, one call's arguments) stay together, since
tokens cross pieces. What is held is bounded: from time to time pieces are joined; texts that grow long are cut off at
a word boundary, where tokens do not cross, and compressed; beyond `MAX_PACKED_BYTES` of that, text is only measured.

Invariants, each with a test of its own:
  1. Joined per channel, `texts()` is what was added, at whatever sizes and in whatever order the pieces came.
  2. `held_bytes` never exceeds `MAX_HELD_BYTES` by more than one piece, `packed_bytes` not `MAX_PACKED_BYTES` by more
     than one block, nor channels `MAX_CHANNELS`, whatever is added.
  3. What is not kept is measured: `unkept_share` is the measured bytes beside the kept ones.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Hashable, Iterator

MAX_HELD_BYTES = 65_536
MAX_PACKED_BYTES = 1_048_576
MAX_CHANNELS = 1_024
_PACK_CHARS = 262_144
"""Of one piece, so much is kept: what no stream sends must not be compressed on the event loop at any length."""
_PIECE_BYTES = 60
"""What a short text takes in memory beside its characters."""
_BLOCK_BYTES = 48
_SMALL_CHARS = 1_024
"""Shorter texts stay as they are when others are packed, unless there are very many of them."""
_BOUNDARY_CHARS = 256
_boundary = re.compile(r"(?<=[^\W_])(?= [^\W_])")


class Generated:
    """Texts by channel: any hashable that tells texts apart, such as a choice's number.

    Attributes:
        held_bytes: about what the texts take that are not packed.
        packed_bytes: what the packed ones take.
        calls: tool calls by choice.
    """

    __slots__ = ("_channels", "_kept_bytes", "_packed", "_unkept_bytes", "calls", "held_bytes", "packed_bytes")

    def __init__(self) -> None:
        self._channels: dict[Hashable, list[str]] = {}
        self._packed: list[bytes] = []
        self._kept_bytes = 0
        self._unkept_bytes = 0
        self.held_bytes = 0
        self.packed_bytes = 0
        self.calls: Counter[int] = Counter()

    def add(self, channel: Hashable, text: str) -> None:
        """Take in the next piece of a text."""
        pieces = self._channels.get(channel)
        if pieces is None:
            pieces = self._open(channel)
        pieces.append(text)
        self.held_bytes += len(text) + _PIECE_BYTES
        if self.held_bytes > MAX_HELD_BYTES:
            self._shrink()

    def __contains__(self, channel: Hashable) -> bool:
        return channel in self._channels

    @property
    def is_empty(self) -> bool:
        """Whether nothing was added."""
        return not self._channels and not self.calls

    @property
    def unkept_share(self) -> float:
        """How much was only measured, as a share of what was kept."""
        if not self._unkept_bytes:
            return 0.0
        held = sum(_bytes_of(piece) for pieces in self._channels.values() for piece in pieces)
        return self._unkept_bytes / max(self._kept_bytes + held, 1)

    def texts(self) -> Iterator[str]:
        """Everything that was kept, in texts that may be counted one by one."""
        for block in self._packed:
            yield zlib.decompress(block).decode("utf-8", "surrogatepass")
        for pieces in self._channels.values():
            if pieces:
                yield "".join(pieces)

    def _open(self, channel: Hashable) -> list[str]:
        """The pieces of a new channel; beyond the bound, all others share one."""
        if len(self._channels) >= MAX_CHANNELS - 1:
            channel = None
        return self._channels.setdefault(channel, [])

    def _shrink(self) -> None:
        """Join the pieces; if the texts themselves are long, pack them, the long ones first."""
        self.held_bytes = 0
        for pieces in self._channels.values():
            if pieces:
                pieces[:] = ["".join(pieces)]
                self.held_bytes += len(pieces[0]) + _PIECE_BYTES
        for least in (_SMALL_CHARS, 0):
            if self.held_bytes > MAX_HELD_BYTES // 2:
                self._pack(least)

    def _pack(self, least_chars: int) -> None:
        """Compress the texts that are longer than this, each but for what comes after its last word boundary."""
        for pieces in self._channels.values():
            if pieces and len(pieces[0]) > least_chars:
                text = pieces[0]
                cut = _last_boundary(text) if least_chars else len(text)
                self._pack_text(text[:cut])
                pieces[:] = [text[cut:]] if cut < len(text) else []
                self.held_bytes -= cut + (0 if pieces else _PIECE_BYTES)

    def _pack_text(self, text: str) -> None:
        room = _PACK_CHARS if self.packed_bytes < MAX_PACKED_BYTES else 0
        if len(text) > room:
            self._unkept_bytes += _bytes_of(text[room:])
        raw = text[:room].encode("utf-8", "surrogatepass")
        if not raw:
            return
        block = zlib.compress(raw, 1)
        self._packed.append(block)
        self.packed_bytes += len(block) + _BLOCK_BYTES
        self._kept_bytes += len(raw)


def _bytes_of(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _last_boundary(text: str) -> int:
    """Where the last part of a text may be cut off: between two words, or by force where there are none."""
    start = max(0, len(text) - _BOUNDARY_CHARS)
    places = [found.start() for found in _boundary.finditer(text, start)]
    return places[-1] if places else len(text)

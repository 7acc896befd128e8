"""The beginning of a chat's body that was read before: a chat resends its history, and then only its end is new.

What was read of a body is kept by the digest of its bytes before its last message. The next body that begins with the
same bytes, longer or with another last message, is parsed without them: the messages that are known are cut out, what
is left is a small body that the usual parser reads with all its checks, and places are moved back to where they stand
in the whole.

Invariants, each with a test of its own:
  1. What is read with a known beginning is what would be read without it, to the byte; or it is not used.
  2. The memo holds no more than its bound, by its own estimate.
  3. Bytes that differ anywhere in the beginning are never taken for it (but for a collision of 128 seeded bits).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, overload

import msgspec

Digest = Callable[[Sequence[msgspec.Raw | bytes | memoryview], int], list[bytes]]
"""128 bits over the bytes of each; other salts give other digests."""
_LEVELS = (2_048, 8_192, 65_536)
"""How many bytes two bodies must share before they are held against each other further."""
MIN_BYTES = 4_096
"""A shorter body is read anew faster than its beginning is looked up."""
_CANDIDATES = 8
_ENTRY_BYTES, _MESSAGE_BYTES, _ANCHOR_BYTES = 400, 12, 150
_BODY_SALT, _ANCHOR_SALT = 1 << 32, 1 << 33
"""A body may end exactly where an anchor does, and is another thing then."""
_BRACE, _COMMA = b"},"


class KnownMessages(Sequence[bytes]):
    """The messages of a body by their places: number i stands at starts[i] <= byte < ends[i], one byte apart.

    Args:
        body: the whole.
        start: of the first message.
        ends: of each.
    """

    __slots__ = ("_body", "ends", "start")

    def __init__(self, body: bytes, start: int, ends: array[int]) -> None:
        self._body = body
        self.start = start
        self.ends = ends

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: int) -> bytes: ...

    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...

    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self.ends)))]
        place = index if index >= 0 else index + len(self.ends)
        if not 0 <= place < len(self.ends):
            raise IndexError(index)
        return self._body[self.ends[place - 1] + 1 if place else self.start : self.ends[place]]

    def at(self, places: Iterable[int]) -> list[bytes]:
        """The messages in these places."""
        body, ends = self._body, self.ends
        return [body[ends[place - 1] + 1 if place else self.start : ends[place]] for place in places]


class Beginning(msgspec.Struct, frozen=True):
    """A body before its last message, as it was read.

    Attributes:
        start: of the first message.
        ends: of each message.
        learned: what was learned of these messages, by who learned it.
    """

    start: int
    ends: Any
    learned: dict[Hashable, Any]


def places_of(start: int, end: int, lengths: Iterable[int]) -> array[int] | None:
    """Where messages of these lengths end, if they stand one byte apart in start <= byte < end; else None."""
    ends: array[int] = array("L")
    at = start
    for length in lengths:
        at += length
        ends.append(at)
        at += 1
    return ends if at == end + 1 else None


class PrefixMemo:
    """What was read of earlier bodies.

    Args:
        digest: of bytes.
        max_bytes: bound of all of it, by an estimate; the eldest half goes at a time.
    """

    def __init__(self, digest: Digest, max_bytes: int) -> None:
        self._digest = digest
        self._max_young_bytes = max_bytes // 2
        self._young: dict[bytes, Any] = {}
        self._old: dict[bytes, Any] = {}
        self._young_bytes = self._old_bytes = 0
        self.hits = 0
        self.misses = 0

    @property
    def held_bytes(self) -> int:
        """About what it takes."""
        return self._young_bytes + self._old_bytes

    def find(self, body: bytes) -> Beginning | None:
        """The longest known beginning of this body, among the likeliest."""
        if len(body) < MIN_BYTES:
            return None
        view = memoryview(body)
        for level in reversed(_LEVELS):
            if level < len(body):
                ends = self._get(self._key(view[:level], _ANCHOR_SALT), _ANCHOR_BYTES)
                for end in sorted(ends or (), reverse=True):
                    if end < len(body) and body[end - 1] == _BRACE and body[end] == _COMMA:
                        found = self._get(self._key(view[:end], _BODY_SALT), 0)
                        if isinstance(found, Beginning):
                            self.hits += 1
                            return found
        self.misses += 1
        return None

    def put(self, body: bytes, start: int, ends: array[int], who: Hashable, learned: Any) -> None:
        """Keep what was read of a body before its last message, and what somebody learned of those messages."""
        ends = ends[:-1]
        if not ends or ends[-1] < _LEVELS[0]:
            return
        end = ends[-1]
        view = memoryview(body)
        size = _ENTRY_BYTES + _MESSAGE_BYTES * len(ends)
        key = self._key(view[:end], _BODY_SALT)
        present = self._get(key, size)
        if isinstance(present, Beginning):
            if len(present.learned) < _CANDIDATES:
                present.learned[who] = learned
            return
        self._set(key, Beginning(start, ends, {who: learned}), size)
        for level in _LEVELS:
            if level <= end:
                anchor = self._key(view[:level], _ANCHOR_SALT)
                others = [other for other in self._get(anchor, _ANCHOR_BYTES) or () if other != end]
                self._set(anchor, (*others[1 - _CANDIDATES :], end), _ANCHOR_BYTES)

    def _key(self, part: memoryview, salt: int) -> bytes:
        return self._digest([part], salt)[0]

    def _get(self, key: bytes, size: int) -> Any:
        found: Any = self._young.get(key)
        if found is not None or key not in self._old:
            return found
        found = self._old[key]
        self._set(key, found, size or _ENTRY_BYTES + _MESSAGE_BYTES * len(found.ends))
        return found

    def _set(self, key: bytes, value: Any, size: int) -> None:
        if size > self._max_young_bytes:
            return
        if self._young_bytes + size > self._max_young_bytes:
            self._old, self._young = self._young, {}
            self._old_bytes, self._young_bytes = self._young_bytes, 0
        if key not in self._young:
            self._young_bytes += size
        self._young[key] = value

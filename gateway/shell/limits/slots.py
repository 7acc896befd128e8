"""A table of gauges in a file that several processes map, and what each of them holds of it.

The table has groups of eight places; a limit lies in the group that its name's digest says. Who reads or writes a group
has locked its bytes (`fcntl`, by byte range), and the locks of a process that dies go with it. What a process holds
stands in a file of its own beside the table, one entry a place, so that another can give it back when it has died.

Invariants, each with a test of its own:
  1. Two processes never see a group half written.
  2. A limit of which nothing is missing may lose its place to another; others only where a group is full of them.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from gateway.core.limits.decision import Limit, is_idle
from gateway.core.limits.gauge import Gauge, Kind

GROUPS, PLACES = 16_384, 8
_STRIDE = 64
_slot = struct.Struct("<16sqqqB")
_hold = struct.Struct("<8sqq8x")
_KINDS = tuple(Kind)
_NOBODY = bytes(16)
TABLE_NAME = "limits.table"


class Slot(NamedTuple):
    """One limit in the table: the digest of its name, what it is, and how it stands."""

    digest: bytes
    limit: Limit
    gauge: Gauge


class Held(NamedTuple):
    """What a process holds of a limit, and on which day it took that."""

    units: int
    day: int


class SlotTable:
    """The table, and one process's holds.

    Args:
        folder: of the files; both are made where they are not there.
        owner: number of the process whose holds these are.
    """

    def __init__(self, folder: Path, owner: int) -> None:
        self._table, self._file = _mapped(folder / TABLE_NAME, GROUPS * PLACES * _STRIDE)
        self._holds, self._hold_file = _mapped(holds_path(folder, owner), GROUPS * PLACES * _hold.size)
        self.forgotten = 0

    def close(self) -> None:
        """Let go of both files."""
        for mapped in (self._table, self._holds):
            mapped.close()
        for file in (self._file, self._hold_file):
            os.close(file)

    @contextmanager
    def locked(self, digests: Iterable[bytes]) -> Iterator[None]:
        """Nobody else reads or writes the groups of these names; they are locked in order, so none waits in a ring."""
        size = PLACES * _STRIDE
        groups = sorted({group_of(digest) for digest in digests})
        taken: list[int] = []
        try:
            for group in groups:
                fcntl.lockf(self._file, fcntl.LOCK_EX, size, group * size)
                taken.append(group)
            yield
        finally:
            for group in taken:
                fcntl.lockf(self._file, fcntl.LOCK_UN, size, group * size)

    def find(self, digest: bytes) -> int | None:
        """The place of a limit, or None where it has none; its group is locked."""
        first = group_of(digest) * PLACES
        for place in range(first, first + PLACES):
            if self._table[place * _STRIDE : place * _STRIDE + 16] == digest:
                return place
        return None

    def find_or_make(self, digest: bytes, now_us: int) -> int:
        """The place of a limit, or one that it may have: an empty one, or that of one that need not be remembered."""
        found = self.find(digest)
        if found is not None:
            return found
        first = group_of(digest) * PLACES
        slots = [(self.read(place), place) for place in range(first, first + PLACES)]
        for slot, place in slots:
            if slot is None or is_idle(slot.limit, slot.gauge, now_us):
                return place
        self.forgotten += 1
        return min(slots, key=lambda each: each[0].gauge.at if each[0] else 0)[1]

    def read(self, place: int) -> Slot | None:
        """What stands in a place."""
        digest, level, at, amount, kind = _slot.unpack_from(self._table, place * _STRIDE)
        if digest == _NOBODY or kind >= len(_KINDS):
            return None
        return Slot(digest, Limit(digest, _KINDS[kind], amount), Gauge(level, at))

    def write(self, place: int, digest: bytes, limit: Limit, gauge: Gauge) -> None:
        """Put a limit into a place."""
        kind = _KINDS.index(limit.kind)
        _slot.pack_into(self._table, place * _STRIDE, digest, gauge.level, gauge.at, limit.amount, kind)

    def held(self, place: int, digest: bytes) -> Held:
        """What this process holds of the limit in a place."""
        tag, units, day = _hold.unpack_from(self._holds, place * _hold.size)
        return Held(units, day) if tag == digest[:8] else Held(0, 0)

    def hold(self, place: int, digest: bytes, held: Held) -> None:
        """Note what this process holds of the limit in a place."""
        _hold.pack_into(self._holds, place * _hold.size, digest[:8], held.units, held.day)

    def places_held(self) -> list[int]:
        """Places of which this process holds something."""
        return [place for place, (_, units, _) in enumerate(_hold.iter_unpack(self._holds)) if units]


def digest_of(limit: Limit) -> bytes:
    """A limit's name in the table: of another amount it is another limit."""
    return hashlib.blake2b(limit.key + limit.kind.value.encode() + str(limit.amount).encode(), digest_size=16).digest()


def group_of(digest: bytes) -> int:
    """The group that a name belongs to."""
    return int.from_bytes(digest[8:12]) % GROUPS


def holds_path(folder: Path, owner: int) -> Path:
    """The file of what a process holds."""
    return folder / f"holds-{owner}"


def _mapped(path: Path, size: int) -> tuple[mmap.mmap, int]:
    """A file of that size, of which only what is used takes room."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if os.fstat(file).st_size != size:
            os.ftruncate(file, size)
        return mmap.mmap(file, size), file
    except BaseException:
        os.close(file)
        raise

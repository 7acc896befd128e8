"""How regions are listed under what they are found by: packed, in blocks of region numbers.

Pure. A list's entry is 3 bytes: which of the block's regions, and the impact of the word (`region_words`). The list
under `LAYOUT` tells where each region of a scope stands: 11 bytes, which of the block's, its document's number, its
page and its type. Lists of labels (metadata) have entries like words'. Numbers only grow, and a region is listed when
it gets its number, so entries stand in the order of numbers.

Invariants, each with a test of its own:
  1. What is packed is unpacked the same, whatever the numbers.
  2. What is taken out of a list leaves the others as they were.
"""

from __future__ import annotations

import array
import struct
import sys
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence

from gateway.core.vision.document import RegionType

BLOCK_BITS = 12
BLOCK = 1 << BLOCK_BITS
"""Region numbers that share a row."""
LAYOUT = -1
"""The word that all regions of a scope are listed under."""
ENTRY_BYTES = 3
LAYOUT_BYTES = 11
_AROUND_BYTES = 6
"""What an entry takes beside itself, as measured with 100,000 regions: a share of its row and of half-empty pages."""
TYPES = tuple(RegionType)
"""Their places stand in the layout; what is there is never moved."""
MAX_PAGE = (1 << 32) - 1
_entry = struct.Struct("<HB").pack
_layout = struct.Struct("<HIIB").pack


class ListedRegions:
    """Lists that are written: what regions of one scope add to them.

    Attributes:
        held_bytes: what that takes of a database, about.
    """

    def __init__(self) -> None:
        self._lists: dict[tuple[int, int], bytearray] = {}
        self.held_bytes = 0

    def add(self, number: int, place: tuple[int, int, RegionType], impacts: Mapping[int, int]) -> None:
        """List a region.

        Args:
            number: of the region.
            place: the number of its document, its page, its type.
            impacts: by word or label.
        """
        block, within = number >> BLOCK_BITS, number & (BLOCK - 1)
        document, page, type_ = place
        self._append(LAYOUT, block, _layout(within, document, page, TYPES.index(type_)))
        for word, impact in impacts.items():
            self._append(word, block, _entry(within, impact))

    def _append(self, word: int, block: int, entry: bytes) -> None:
        self._lists.setdefault((word, block), bytearray()).extend(entry)
        self.held_bytes += len(entry) + _AROUND_BYTES

    def rows(self) -> Iterator[tuple[int, int, bytes]]:
        """(word, block, entries), in the order in which they are kept."""
        for (word, block), entries in sorted(self._lists.items()):
            yield word, block, bytes(entries)

    @property
    def words(self) -> list[int]:
        """Under which something is listed, each once, `LAYOUT` aside."""
        return sorted({word for word, _ in self._lists} - {LAYOUT})


def without(word: int, data: bytes, gone: Sequence[range]) -> bytes:
    """A block's entries, less those of these of its regions: entries stand in the order of region numbers."""
    step = LAYOUT_BYTES if word == LAYOUT else ENTRY_BYTES
    places = range(0, len(data), step)

    def region_at(place: int) -> int:
        return data[place] | data[place + 1] << 8

    kept, behind = bytearray(), 0
    for run in gone:
        first = bisect_left(places, run.start, key=region_at) * step
        kept += data[behind:first]
        behind = bisect_left(places, run.stop, key=region_at) * step
    kept += data[behind:]
    return bytes(kept)


def runs_by_block(runs: Iterable[range]) -> dict[int, list[range]]:
    """Runs of region numbers as runs within each block, in order, those that touch joined."""
    found: dict[int, list[range]] = {}
    for run in sorted(runs, key=lambda run: run.start):
        for block in range(run.start >> BLOCK_BITS, ((run.stop - 1) >> BLOCK_BITS) + 1):
            base, within = block << BLOCK_BITS, found.setdefault(block, [])
            part = range(max(run.start - base, 0), min(run.stop - base, BLOCK))
            if within and within[-1].stop == part.start:
                part = range(within.pop().start, part.stop)
            within.append(part)
    return found


def words_bytes(words: Iterable[int]) -> bytes:
    """As they are stored: 8 bytes each, little-endian."""
    packed = array.array("q", words)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def words_from(data: bytes) -> list[int]:
    """As they were."""
    packed = array.array("q")
    packed.frombytes(data)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tolist()

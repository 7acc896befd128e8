"""Where the regions of a scope stand, as arrays, kept as long as nobody has written to the database.

Whether anybody has is one look: SQLite counts what others have committed (`data_version`) and what this connection has
changed. Used by one thread. Needs numpy.

Invariants, each with a test of its own:
  1. What comes back is what stands in the database.
  2. No more than `max_regions` are kept; the scope that was asked for longest ago goes first.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.shell.vision.region_lists import BLOCK, BLOCK_BITS, LAYOUT, LAYOUT_BYTES

MAX_REGIONS = 500_000
"""About 15 MB."""
_PLACE = np.dtype([("at", "<u2"), ("document", "<u4"), ("page", "<u4"), ("type", "u1")])
_ALL = "SELECT block, data FROM lists WHERE scope = ? AND word = ? ORDER BY block"


@dataclass(frozen=True, slots=True)
class Layout:
    """The regions of a scope, in places: those of a block stand `BLOCK` apart from the next block's.

    Attributes:
        slots: where each block begins.
        numbers: of the regions, by place.
        places: that are taken.
        documents: numbers of documents, of each of `places`.
        pages: as these.
        types: as these, by their place among `region_lists.TYPES`.
    """

    slots: Mapping[int, int]
    numbers: NDArray[np.int64]
    places: NDArray[np.int64]
    documents: NDArray[np.uint32]
    pages: NDArray[np.uint32]
    types: NDArray[np.uint8]

    @property
    def regions(self) -> int:
        """How many there are, hidden ones included."""
        return len(self.places)


class Layouts:
    """Layouts by scope.

    Args:
        max_regions: bound of what is kept.
    """

    def __init__(self, max_regions: int = MAX_REGIONS) -> None:
        self._max_regions = max_regions
        self._kept: OrderedDict[int, Layout] = OrderedDict()
        self._of: tuple[sqlite3.Connection, int, int] | None = None

    @property
    def regions(self) -> int:
        """How many regions' places are kept."""
        return sum(layout.regions for layout in self._kept.values())

    def layout(self, db: sqlite3.Connection, scope_id: int) -> Layout | None:
        """A scope's; None where it has no regions."""
        (version,) = db.execute("PRAGMA data_version").fetchone()
        if self._of != (db, version, db.total_changes):
            self._kept.clear()
            self._of = (db, version, db.total_changes)
        found = self._kept.get(scope_id)
        if found is None:
            found = _read(db, scope_id)
        if found is not None:
            self._kept[scope_id] = found
            self._kept.move_to_end(scope_id)
            while self.regions > self._max_regions:
                self._kept.popitem(last=False)
        return found


def _read(db: sqlite3.Connection, scope_id: int) -> Layout | None:
    rows = db.execute(_ALL, (scope_id, LAYOUT)).fetchall()
    if not rows:
        return None
    told: NDArray[Any] = np.frombuffer(b"".join(data for _, data in rows), _PLACE)
    counts = [len(data) // LAYOUT_BYTES for _, data in rows]
    slots = {block: number * BLOCK for number, (block, _) in enumerate(rows)}
    places = told["at"] + np.repeat(np.array([*slots.values()], np.int64), counts)
    numbers = np.zeros(len(rows) * BLOCK, np.int64)
    numbers[places] = told["at"] + np.repeat(np.array([block << BLOCK_BITS for block in slots], np.int64), counts)
    columns = (np.ascontiguousarray(told[name]) for name in ("document", "page", "type"))
    return Layout(slots, numbers, places, *columns)

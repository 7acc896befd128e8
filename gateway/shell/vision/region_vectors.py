"""Which regions of a scope are near to a question in meaning, by numpy: cosines of all that pass the filters.

The vectors of a scope are read once and kept; what was added since, by any process, is read at each search, and what
has gone is noticed because the layout of the scope does not name it any more. While they fit in `max_bytes` they are
kept as they are, four bytes a number, and the answer is exact. Those of a larger scope are kept as their signs, one
bit a number: the `RESCORED` that pass and agree with the question's in most bits are read again and compared exactly.
Used by one thread. Needs numpy 2.

Invariants, each with a test of its own:
  1. The answer is that of comparing with each vector of a region that passes, while they fit.
  2. What another process adds or deletes counts for the next search.
  3. What is kept is bounded; the scope that was asked for longest ago goes first.
"""

from __future__ import annotations

import json
import sqlite3
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.shell.vision.region_layouts import Layout

DEFAULT_MAX_BYTES = 256 << 20
RESCORED = 512
_AT_ONCE = 4096
_GONE_LEAST, _GONE_SHARE = 64, 0.25
"""When so many of what is kept have gone, all are read anew."""
_ADDED = (
    "SELECT seq, region, data FROM vectors WHERE scope = ? AND model = ? AND seq > ? AND length(data) = ? ORDER BY seq"
)
_THESE = (
    "SELECT v.region, v.data FROM json_each(?) w CROSS JOIN vectors v ON v.region = w.value"
    " WHERE v.model = ? AND length(v.data) = ?"
)


class Nearest(NamedTuple):
    """What is near: places in the layout, best first, and cosines of these and of others that were asked about."""

    places: list[int]
    cosines: dict[int, float]


NOTHING = Nearest([], {})


class _Vectors:
    """The vectors of one scope by one model, of one length."""

    def __init__(self, scope_id: int, model_id: int, dimensions: int, max_bytes: int) -> None:
        self._scope_id, self._model_id = scope_id, model_id
        self._dimensions = dimensions
        self._words = (dimensions + 63) // 64
        self._max_bytes = max_bytes
        self._numbers = array("q")
        self._blocks: list[NDArray[Any]] = []
        """Of `_AT_ONCE` rows at most: float32, or the signs in uint64."""
        self.is_exact = True
        self._last_seq = 0
        self._of: Layout | None = None
        self._rows: NDArray[np.int64] = np.empty(0, np.int64)
        self._places: NDArray[np.int64] = np.empty(0, np.int64)

    @property
    def held_bytes(self) -> int:
        rows = len(self._numbers) * self._numbers.itemsize + self._rows.nbytes + self._places.nbytes
        return rows + sum(block.nbytes for block in self._blocks)

    @property
    def is_worn(self) -> bool:
        """Whether so many have gone that it is better to begin anew; known once it was placed."""
        gone = len(self._numbers) - len(self._rows)
        return self._of is not None and gone > _GONE_LEAST and gone > _GONE_SHARE * len(self._numbers)

    def read(self, db: sqlite3.Connection, layout: Layout) -> None:
        """Take in what was added since the last time, and see where in the layout each stands."""
        before = len(self._numbers)
        cursor = db.execute(_ADDED, (self._scope_id, self._model_id, self._last_seq, 2 * self._dimensions))
        while some := cursor.fetchmany(_AT_ONCE):
            self._last_seq = some[-1][0]
            self._numbers.extend(number for _, number, _ in some)
            self._add(_as_vectors([data for *_, data in some], self._dimensions))
        if self._of is not layout or before != len(self._numbers):
            self._place(layout)

    def _add(self, vectors: NDArray[Any]) -> None:
        if self.is_exact and self.held_bytes + vectors.nbytes > self._max_bytes:
            self.is_exact = False
            self._blocks = [_signs(block, self._words) for block in self._blocks]
        added = vectors if self.is_exact else _signs(vectors, self._words)
        if self._blocks and len(self._blocks[-1]) + len(added) <= _AT_ONCE:
            self._blocks[-1] = np.concatenate([self._blocks[-1], added])
        else:
            self._blocks.append(added)

    def _place(self, layout: Layout) -> None:
        self._of = layout
        known = layout.numbers[layout.places]  # these rise
        numbers = np.array(self._numbers, np.int64)
        at = np.minimum(np.searchsorted(known, numbers), len(known) - 1)
        self._rows = np.flatnonzero(known[at] == numbers)
        self._places = layout.places[at[self._rows]]

    def nearest(
        self, db: sqlite3.Connection, query: bytes, passing: NDArray[np.bool_], also: Sequence[int], limit: int
    ) -> Nearest:
        """The nearest that pass, and the cosines of others that have a vector."""
        if not len(self._rows):
            return NOTHING
        assert self._of is not None
        asked = _as_vectors([query], self._dimensions)[0]
        closeness = np.full(len(passing), -np.inf, np.float32)
        closeness[self._places] = np.concatenate([self._closeness(block, asked) for block in self._blocks])[self._rows]
        candidates = np.flatnonzero(passing & np.isfinite(closeness))
        if not self.is_exact:
            kept = np.array([place for place in also if np.isfinite(closeness[place])], np.int64)
            candidates = _largest(closeness, candidates, max(RESCORED, 4 * limit))
            closeness = self._rescored(db, asked, closeness, np.union1d(candidates, kept))
        best = _largest(closeness, candidates[closeness[candidates] > 0], limit)
        ranked = best[np.lexsort((best, -closeness[best]))].tolist()
        told = {place: float(closeness[place]) for place in [*ranked, *also] if np.isfinite(closeness[place])}
        return Nearest(ranked, told)

    def _closeness(self, block: NDArray[Any], asked: NDArray[Any]) -> NDArray[Any]:
        """Cosines, or how many signs differ, below zero."""
        if self.is_exact:
            # Row by row: a product of a matrix is shared out among threads, and waits for all of them.
            cosines: NDArray[Any] = np.vecdot(block, asked)
            return cosines
        differing = np.bitwise_count(block ^ _signs(asked[None], self._words))
        agreeing: NDArray[Any] = -differing.sum(axis=1, dtype=np.int32).astype(np.float32)
        return agreeing

    def _rescored(
        self, db: sqlite3.Connection, asked: NDArray[Any], closeness: NDArray[Any], places: NDArray[np.int64]
    ) -> NDArray[Any]:
        """Cosines of these places, and of no other."""
        assert self._of is not None
        numbers = self._of.numbers[places].tolist()
        found = dict(db.execute(_THESE, (json.dumps(numbers), self._model_id, 2 * self._dimensions)))
        scored = np.full(len(closeness), -np.inf, np.float32)
        here = [place for place, number in zip(places.tolist(), numbers, strict=True) if number in found]
        if here:
            data = [found[number] for number in self._of.numbers[here].tolist()]
            scored[here] = np.vecdot(_as_vectors(data, self._dimensions), asked)
        return scored


class RegionVectors:
    """The vectors of the scopes that were asked for of late.

    Args:
        max_bytes: what they may take.
    """

    def __init__(self, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[tuple[int, int, int], _Vectors] = OrderedDict()
        self._of: sqlite3.Connection | None = None

    @property
    def held_bytes(self) -> int:
        return sum(each.held_bytes for each in self._kept.values())

    def nearest(
        self,
        db: sqlite3.Connection,
        layout: Layout,
        scope_id: int,
        sought: tuple[str, bytes],
        passing: NDArray[np.bool_],
        also: Sequence[int],
        limit: int,
    ) -> Nearest:
        """The regions whose vectors are nearest.

        Args:
            db: where the vectors are.
            layout: of the scope, as it is now.
            scope_id: whose.
            sought: the name of a model, and the vector that it made; those of another length are passed over.
            passing: which places may be found.
            also: places whose cosines are wanted, too.
            limit: of those that are found.
        """
        model, query = sought
        found = db.execute("SELECT id FROM models WHERE name = ?", (model,)).fetchone()
        if found is None or len(query) < 2:
            return NOTHING
        vectors = self._read(db, layout, (scope_id, found[0], len(query) // 2))
        return vectors.nearest(db, query, passing, also, limit)

    def _read(self, db: sqlite3.Connection, layout: Layout, key: tuple[int, int, int]) -> _Vectors:
        if self._of is not db:  # another file
            self._kept.clear()
            self._of = db
        vectors = self._kept.pop(key, None)
        if vectors is None:
            vectors = _Vectors(*key, self._max_bytes)
        vectors.read(db, layout)
        if vectors.is_worn:
            vectors = _Vectors(*key, self._max_bytes)
            vectors.read(db, layout)
        self._kept[key] = vectors
        while len(self._kept) > 1 and self.held_bytes > self._max_bytes:
            self._kept.popitem(last=False)
        if vectors.held_bytes > self._max_bytes:
            del self._kept[key]
        return vectors


def _largest(values: NDArray[Any], places: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """So many of these places, those with the largest values."""
    if len(places) <= count:
        return places
    return places[np.argpartition(-values[places], count - 1)[:count]]


def _as_vectors(data: Sequence[bytes], dimensions: int) -> NDArray[Any]:
    vectors = np.frombuffer(b"".join(data), "<f2").reshape(len(data), dimensions).astype(np.float32)
    return np.nan_to_num(vectors, copy=False, posinf=0.0, neginf=0.0)


def _signs(vectors: NDArray[Any], words: int) -> NDArray[Any]:
    packed = np.packbits(vectors > 0, axis=1)
    padded = np.zeros((len(vectors), 8 * words), np.uint8)
    padded[:, : packed.shape[1]] = packed
    return padded.view(np.uint64)

"""Which memories of a scope are nearest to a vector, by numpy: cosines of all where there are few, else of those whose
signs agree the most.

The vectors of a scope are read once and kept (bounded by `max_bytes`; the scope that was asked for longest ago goes
first); what was added since, by any process, is read at each search. Up to `EXACT_VECTORS` they are kept as they are,
and the answer is exact. Above, only their signs are kept, one bit a dimension: the `RESCORED` that agree with the
question's in most bits are read again and scored exactly. What has gone meanwhile is noticed when its row is asked
for. Needs numpy 2; whoever imports this module finds out whether it is there.

Invariants, each with a test of its own:
  1. The answer is that of comparing with each vector of the scope, up to `EXACT_VECTORS`.
  2. What another process adds, replaces or deletes counts for the next search.
  3. What is kept is bounded.
"""

from __future__ import annotations

import json
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

EXACT_VECTORS = 20_000
RESCORED = 512
DEFAULT_MAX_BYTES = 256 << 20
_READ_AT_ONCE = 4096
_MAX_CANDIDATES = 8192
_GONE_SHARE = 0.25
"""When so many of what is kept have gone, all are read anew."""
_ADDED = (
    "SELECT seq, memory, class, data FROM vectors WHERE scope = ? AND model = ? AND seq > ? AND length(data) = ?"
    " ORDER BY seq"
)
Live = Callable[[Sequence[int]], Collection[int]]


class _Vectors:
    """The vectors of one scope by one model, of one length."""

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions
        self._words = (dimensions + 63) // 64
        self._count = 0
        self._places: dict[int, int] = {}
        self._numbers = np.empty(0, np.int64)
        self._classes = np.empty(0, np.int8)
        self._bits = np.empty((0, self._words), np.uint64)
        self._exact: NDArray[Any] | None = np.empty((0, dimensions), np.float32)
        self._last_seq = 0
        self._gone = 0

    @property
    def held_bytes(self) -> int:
        exact = 0 if self._exact is None else self._exact.nbytes
        return self._bits.nbytes + self._numbers.nbytes + self._classes.nbytes + 100 * self._count + exact

    @property
    def is_worn(self) -> bool:
        """Whether so many have gone that it is better to begin anew."""
        return self._gone > 64 and self._gone > _GONE_SHARE * self._count

    def read(self, db: sqlite3.Connection, scope_id: int, model_id: int) -> None:
        """Take in what was added since the last time."""
        cursor = db.execute(_ADDED, (scope_id, model_id, self._last_seq, 2 * self._dimensions))
        while some := cursor.fetchmany(_READ_AT_ONCE):
            self._last_seq = some[-1][0]
            places = [self._place_of(number) for _, number, _, _ in some]
            self._grow()
            vectors = _as_vectors([data for *_, data in some], self._dimensions)
            self._numbers[places] = [number for _, number, _, _ in some]
            self._classes[places] = [class_ for _, _, class_, _ in some]
            self._bits[places] = _signs(vectors, self._words)
            if self._exact is not None:
                self._exact[places] = vectors

    def _place_of(self, number: int) -> int:
        place = self._places.setdefault(number, self._count)
        self._count += place == self._count
        return place

    def _grow(self) -> None:
        if self._count > EXACT_VECTORS:
            self._exact = None
        if self._count > len(self._numbers):
            room = max(64, self._count + self._count // 2)
            for name in ("_numbers", "_classes", "_bits", "_exact"):
                old = getattr(self, name)
                if old is not None:
                    new = np.zeros((room, *old.shape[1:]), old.dtype)
                    new[: len(old)] = old
                    setattr(self, name, new)

    def nearest(
        self, db: sqlite3.Connection, query: bytes, classes: Sequence[int], limit: int, live: Live
    ) -> dict[int, float]:
        """The numbers of the nearest that live, best first, with their cosines."""
        if not self._count:
            return {}
        asked = _as_vectors([query], self._dimensions)[0]
        closeness = self._closeness(asked)
        wanted = np.isin(self._classes[: self._count], classes)
        closeness = np.where(wanted, closeness, -np.inf)
        take = 2 * limit if self._exact is not None else max(RESCORED, 4 * limit)
        while True:
            take = min(take, self._count)
            best = np.argpartition(-closeness, take - 1)[:take]
            best = best[np.isfinite(closeness[best])]
            ranked = self._in_order(db, asked, closeness, best)
            found = self._living(db, list(ranked), limit, live)
            if len(found) >= limit or take >= min(self._count, _MAX_CANDIDATES):
                return {number: ranked[number] for number in found[:limit]}
            take *= 4

    def _living(self, db: sqlite3.Connection, ranked: Sequence[int], limit: int, live: Live) -> list[int]:
        """The first of these that live, at least so many if there are."""
        found: list[int] = []
        for first in range(0, len(ranked), 2 * limit):
            some = ranked[first : first + 2 * limit]
            alive = set(live(some))
            found += [number for number in some if number in alive]
            self._forget(db, [number for number in some if number not in alive])
            if len(found) >= limit:
                break
        return found

    def _closeness(self, asked: NDArray[Any]) -> NDArray[Any]:
        if self._exact is not None:
            cosines: NDArray[Any] = self._exact[: self._count] @ asked
            return cosines
        differing = np.bitwise_count(self._bits[: self._count] ^ _signs(asked[None], self._words))
        agreeing: NDArray[Any] = -differing.sum(axis=1, dtype=np.int32).astype(np.float32)
        return agreeing

    def _in_order(
        self, db: sqlite3.Connection, asked: NDArray[Any], closeness: NDArray[Any], best: NDArray[Any]
    ) -> dict[int, float]:
        """The candidates with their cosines, best first; what has gone is left out where it is seen."""
        numbers: list[int] = self._numbers[best].tolist()
        if self._exact is not None:
            scored = dict(zip(numbers, closeness[best].tolist(), strict=True))
        else:
            is_one = "memory IN (SELECT value FROM json_each(?)) AND length(data) = ?"
            values = (json.dumps(numbers), 2 * self._dimensions)
            found = db.execute(f"SELECT memory, data FROM vectors WHERE {is_one}", values).fetchall()  # noqa: S608
            cosines = _as_vectors([data for _, data in found], self._dimensions) @ asked
            scored = dict(zip([number for number, _ in found], cosines.tolist(), strict=True))
            self._forget(db, [number for number in numbers if number not in scored])
        return {number: scored[number] for number in sorted(scored, key=lambda number: (-scored[number], -number))}

    def _forget(self, db: sqlite3.Connection, numbers: Sequence[int]) -> None:
        """Pass over those without a vector from now on; others only do not live now, or are not wanted."""
        if not numbers:
            return
        is_one = "memory IN (SELECT value FROM json_each(?))"
        kept = db.execute(f"SELECT memory FROM vectors WHERE {is_one}", (json.dumps(list(numbers)),))  # noqa: S608
        for number in set(numbers).difference(number for (number,) in kept):
            self._classes[self._places[number]] = -1
            self._gone += 1


class Near:
    """The vectors of the scopes that were asked for of late; used by one thread.

    Args:
        max_bytes: what they may take.
    """

    def __init__(self, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[tuple[int, int, int], _Vectors] = OrderedDict()

    @property
    def held_bytes(self) -> int:
        return sum(each.held_bytes for each in self._kept.values())

    def forget_all(self) -> None:
        """What was kept is of another file."""
        self._kept.clear()

    def nearest(
        self,
        db: sqlite3.Connection,
        scope_id: int,
        model_id: int,
        query: bytes,
        classes: Sequence[int],
        limit: int,
        live: Live,
    ) -> dict[int, float]:
        """The numbers of the memories whose vectors are nearest, best first, with their cosines.

        Args:
            db: where the vectors are.
            scope_id: whose.
            model_id: by which model.
            query: float16, little-endian; vectors of another length are passed over.
            classes: of the memories.
            limit: of them.
            live: tells which of some numbers may be found.
        """
        dimensions = len(query) // 2
        place = (scope_id, model_id, dimensions)
        vectors = self._kept.pop(place, None)
        if vectors is None or vectors.is_worn:
            vectors = _Vectors(dimensions)
        vectors.read(db, scope_id, model_id)
        self._kept[place] = vectors
        while len(self._kept) > 1 and self.held_bytes > self._max_bytes:
            self._kept.popitem(last=False)
        found = vectors.nearest(db, query, classes, limit, live) if limit else {}
        if vectors.held_bytes > self._max_bytes:
            del self._kept[place]
        return found


def _as_vectors(data: Sequence[bytes], dimensions: int) -> NDArray[Any]:
    vectors = np.frombuffer(b"".join(data), "<f2").reshape(len(data), dimensions).astype(np.float32)
    return np.nan_to_num(vectors, posinf=0.0, neginf=0.0)


def _signs(vectors: NDArray[Any], words: int) -> NDArray[Any]:
    packed = np.packbits(vectors > 0, axis=1)
    padded = np.zeros((len(vectors), 8 * words), np.uint8)
    padded[:, : packed.shape[1]] = packed
    return padded.view(np.uint64)

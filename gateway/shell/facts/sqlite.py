"""`ports_memory.MemoryStore` in SQLite: in memory, or in a file that several processes may share.

Writes have a thread and a connection of their own, and so do reads of a file, so that no search waits for a disk; a
database in memory has one for both. What was acknowledged outlives `kill -9` (see `sqlite_file`). The store is
bounded: what has expired goes first, then what has ended, then what was stored first; those that went before their
time are counted in `evicted`. Where numpy is installed, memories are found by vector, too.

Invariants, beside those of `MemoryStore`, each with a test of its own:
  1. Every acknowledged memory is there after `kill -9`, and the file is sound.
  2. Whatever stands in the file, no call raises anything but `MemoryFault`, and no foreign database is touched.
  3. The store holds no more than its bound, and what goes for that is counted.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gateway.core.facts.memory import Found, Kind, Level, Memory, Page, Position, Scope, Sought, Stored, Vector, Wanted
from gateway.ports_memory import MemoryFault
from gateway.shell.facts import ranking, rows, sqlite_read, sqlite_write
from gateway.shell.facts.kept_rows import KeptRows
from gateway.shell.facts.lane import Lane
from gateway.shell.facts.sqlite_file import Connector
from gateway.shell.facts.sqlite_schema import FORMAT

if TYPE_CHECKING:
    from gateway.shell.facts.near import Near

T = TypeVar("T")
DEFAULT_MAX_BYTES = 1 << 30
_CACHE_KIB = 65_536
_PATIENCE_S = 30.0
"""How long a call may take at all; what is asked within a shorter time is the caller's to say."""
_SCAN_AT_ONCE = 500


class SqliteMemoryStore:
    """Memories in SQLite.

    Args:
        path: of the file, which is made, readable by its owner only, if there is none; None for memory alone.
        max_bytes: what all memories may take, without their vectors.
        clock: seconds since 1970, for expiry.
    """

    def __init__(
        self, path: Path | None = None, max_bytes: int = DEFAULT_MAX_BYTES, clock: Callable[[], float] = time.time
    ) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self.faults: Counter[str] = Counter()
        self.evicted = 0
        self._kept = KeptRows(sqlite_read.found_rows)
        self._near: Near | None = None
        self._near_of: sqlite3.Connection | None = None
        self._has_numpy = True
        self._writer = Lane(Connector(FORMAT, path, self.faults, _CACHE_KIB), "facts")
        self._reader = self._writer
        if path is not None:
            self._reader = Lane(Connector(FORMAT, path, self.faults, _CACHE_KIB, is_reader=True), "facts-read")

    async def open(self) -> None:
        """Open it now, rather than at the first use, so that trouble is known at the start.

        Raises:
            MemoryFault: it cannot be used.
        """
        await self._write(lambda _: None)

    async def close(self) -> None:
        """Finish what is pending and close the file."""
        await self._reader.close()
        await self._writer.close()

    async def put(self, scope: Scope, memories: Sequence[Memory]) -> Sequence[Stored]:
        rows.checked(scope, memories)
        if not memories:
            return []
        now_us = self._now_us()
        stored, evicted = await self._write(lambda db: sqlite_write.put(db, scope, memories, now_us, self._max_bytes))
        self.evicted += evicted
        return stored

    async def get(self, owner: bytes, memory_id: str, kind: Kind) -> Memory | None:
        id_, now_us = rows.id_bytes(memory_id), self._now_us()
        if id_ is None:
            return None
        return await self._read(lambda db: sqlite_read.get(db, owner, id_, kind, now_us))

    async def page(self, scope: Scope, wanted: Wanted, after: Position | None, limit: int) -> Page:
        now_us = self._now_us()
        return await self._read(lambda db: sqlite_read.page(db, scope, wanted, after, limit, now_us))

    async def search(self, scope: Scope, sought: Sought, limit: int) -> Sequence[Found]:
        now_us = self._now_us()
        return await self._read(lambda db: self._search(db, scope, sought, limit, now_us))

    def _search(self, db: sqlite3.Connection, scope: Scope, sought: Sought, limit: int, now_us: int) -> Sequence[Found]:
        scope_id = sqlite_read.scope_id_of(db, scope)
        if scope_id is None:
            return []
        lexical = sqlite_read.by_words(db, scope_id, sought, limit, now_us, self._kept)
        memories = {row.seq: row.memory for row in lexical}
        nearest = self._nearest(db, scope_id, sought, limit, now_us) if sought.vector else {}
        others = [number for number in nearest if number not in memories]
        memories |= {row.seq: row.memory for row in self._kept.rows(db, others)}
        return ranking.found_by([row.seq for row in lexical], nearest, memories, limit)

    def _nearest(
        self, db: sqlite3.Connection, scope_id: int, sought: Sought, limit: int, now_us: int
    ) -> Mapping[int, float]:
        model_id = sqlite_read.model_id_of(db, sought.model)
        if model_id is None or not self._has_numpy:
            return {}
        if self._near is None:
            try:
                from gateway.shell.facts.near import Near
            except ImportError:
                self._has_numpy = False
                return {}
            self._near = Near()
        if self._near_of is not db:
            self._near.forget_all()
            self._near_of = db
        classes = rows.classes_of(sought.kind, sought.level)
        return self._near.nearest(
            db,
            scope_id,
            model_id,
            sought.vector,
            classes,
            limit,
            lambda numbers: sqlite_read.living(db, numbers, sought, now_us),
        )

    async def delete(self, owner: bytes, memory_ids: Sequence[str], kind: Kind) -> int:
        ids, now_us = rows.ids_bytes(memory_ids), self._now_us()
        return await self._write(lambda db: sqlite_write.delete(db, owner, ids, kind, now_us))

    async def delete_all(
        self,
        owner: bytes,
        name: str | None = None,
        session: bytes | None = None,
        kind: Kind | None = None,
        level: Level | None = None,
    ) -> int:
        condition, now_us = sqlite_write.some_of_all(owner, name, session, kind, level), self._now_us()
        gone, is_more = 0, True
        while is_more:
            count, is_more = await self._write(lambda db: sqlite_write.delete_some(db, condition, now_us))
            gone += count
        return gone

    async def scan(self, scope: Scope) -> AsyncGenerator[Memory, None]:
        after: Position | None = None
        while True:
            now_us, behind = self._now_us(), after
            some = await self._read(
                lambda db, behind=behind, now_us=now_us: sqlite_read.some_of_scope(  # type: ignore[misc]
                    db, scope, behind, _SCAN_AT_ONCE, now_us
                )
            )
            for memory in some:
                yield memory
            if len(some) < _SCAN_AT_ONCE:
                return
            after = Position(some[-1].observed_us, some[-1].id)

    async def names(self, owner: bytes) -> Mapping[str, int]:
        now_us = self._now_us()
        return await self._read(lambda db: sqlite_read.names(db, owner, now_us))

    async def put_vectors(self, vectors: Sequence[Vector]) -> None:
        rows.checked_vectors(vectors)
        await self._write(lambda db: sqlite_write.put_vectors(db, vectors))

    async def lacking_vectors(self, model: str, limit: int) -> Sequence[Memory]:
        now_us = self._now_us()
        return await self._read(lambda db: sqlite_read.lacking_vectors(db, model, limit, now_us))

    async def sweep(self) -> int:
        now_us, gone = self._now_us(), 0
        while count := await self._write(lambda db: sqlite_write.sweep_some(db, now_us)):
            gone += count
        return gone

    async def totals(self) -> Mapping[Kind, int]:
        now_us = self._now_us()
        return await self._read(lambda db: sqlite_read.totals(db, now_us))

    def _now_us(self) -> int:
        return int(self._clock() * 1e6)

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._counted(self._reader, work, is_write=False)

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._counted(self._writer, work, is_write=True)

    async def _counted(self, lane: Lane, work: Callable[[sqlite3.Connection], T], *, is_write: bool) -> T:
        try:
            return await lane.call(work, is_write=is_write, patience_s=_PATIENCE_S)
        except MemoryFault as fault:
            if fault.kind == "timeout":
                self.faults["slow"] += 1
            raise

"""`ports.StateStore` in one SQLite file: state that outlives the process, on one machine, with nothing to operate.

One thread owns the connection; the event loop never waits for the disk, and a call waits at most `PATIENCE_S`. A file
that is damaged, or of a newer format, is set aside under `.damaged` and a new one is begun, loudly; another program's
database is left alone, and nothing is stored. A store that is busy, full or gone loses reads and writes, which are
counted, and is tried again later: requests go on without it.

Invariants, beside those of `key_value`, each with a test of its own:
  1. What was put is there after a restart, also after one without `close`.
  2. Whatever stands in the file, opening and using the store never raises, and never touches a foreign database.
  3. The loop never runs a statement; a call returns in bounded time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from gateway.shell.state.key_value import after_prefix, size_of

T = TypeVar("T")
_log = logging.getLogger("gateway.state")
PATIENCE_S = 0.5
"""How long a call waits for the disk; then it goes on without, and what it wrote may still arrive."""
APPLICATION_ID = 0x4C4D4757
SCHEMA_VERSION = 1
DAMAGED = ".damaged"
_PENDING_MAX = 1024
_BUSY_MS = 200
_RETRY_S = 30.0
_CONNECT_TRIES, _CONNECT_PAUSE_S = 10, 0.03
_PAGE_ENTRIES = 256
_EVICT_SHARE = 0.9
"""What is left of the bound after an eviction, so that the next write need not evict again."""
_GIVEN_BACK_PAGES = 256
"""Of the file, at a time: what a write may be held up by."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
  id INTEGER PRIMARY KEY, space TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, size INTEGER NOT NULL,
  used INTEGER NOT NULL, expires_s REAL, UNIQUE (space, key)
);
CREATE INDEX IF NOT EXISTS entries_used ON entries (used);
CREATE INDEX IF NOT EXISTS entries_expires ON entries (expires_s) WHERE expires_s IS NOT NULL;
"""
_PUT = """
INSERT INTO entries (space, key, value, size, used, expires_s) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (space, key)
DO UPDATE SET value = excluded.value, size = excluded.size, used = excluded.used, expires_s = excluded.expires_s
"""
_ALIVE = "space = ? AND (expires_s IS NULL OR expires_s > ?)"
_OLDEST = """
id IN (SELECT id FROM (SELECT id, sum(size) OVER (ORDER BY used) - size AS before FROM entries) WHERE before < ?)
"""
_BETWEEN = "key >= ? AND (? IS NULL OR key < ?)"


class _ForeignFileError(Exception):
    """The file is some other program's database."""


class _UnusableFileError(Exception):
    """The file was written by a later version, or a check of it failed."""


class SqliteStateStore:
    """A file of state.

    Args:
        path: of the file; it is made, readable by its owner only, if there is none.
        max_bytes: bound of all entries; the file takes about a third more.
        clock: seconds since 1970, for expiry.
    """

    def __init__(self, path: Path, max_bytes: int, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._clock = clock
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="state")
        self._connection: sqlite3.Connection | None = None
        self._retry_at_s = 0.0
        self._touched: dict[int, int] = {}
        self._used = 0
        self._pending = 0
        self._is_closed = False
        self._is_stuck = False
        self.held_bytes = 0
        self.evicted = 0
        self.faults: Counter[str] = Counter()

    async def open(self) -> None:
        """Open the file now, rather than at the first use, so that trouble is logged at the start."""
        await self._run(lambda _: None, None, patience_s=30.0)

    async def close(self) -> None:
        """Finish what is pending and close the file."""
        self._is_closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown(wait=False)

    async def get(self, space: str, key: bytes) -> bytes | None:
        return await self._run(lambda db: self._get(db, space, key), None)

    async def get_many(self, space: str, keys: Sequence[bytes]) -> list[bytes | None] | None:
        wanted = list(keys)
        return await self._run(lambda db: self._get_many(db, space, wanted), None)

    async def put(self, space: str, key: bytes, value: bytes, ttl_s: float | None = None) -> None:
        await self._run(lambda db: self._put(db, space, key, value, ttl_s), None)

    async def put_if_absent(self, space: str, key: bytes, value: bytes, ttl_s: float | None = None) -> bytes:
        return await self._run(lambda db: self._put_if_absent(db, space, key, value, ttl_s), value)

    async def prolong(self, space: str, keys: Sequence[bytes], ttl_s: float) -> None:
        wanted = list(keys)
        await self._run(lambda db: self._prolong(db, space, wanted, ttl_s), None)

    async def delete(self, space: str, key: bytes) -> None:
        await self._run(lambda db: self._delete(db, "space = ? AND key = ?", (space, key)), 0)

    async def delete_prefix(self, space: str, prefix: bytes) -> int:
        end = after_prefix(prefix)
        return await self._run(lambda db: self._delete(db, f"space = ? AND {_BETWEEN}", (space, prefix, end, end)), 0)

    async def scan(self, space: str, prefix: bytes = b"") -> AsyncGenerator[tuple[bytes, bytes], None]:
        first = prefix
        while page := await self._page(space, first, after_prefix(prefix)):
            for key, value in page:
                yield key, value
            if len(page) < _PAGE_ENTRIES:
                return
            first = page[-1][0] + b"\x00"

    async def _page(self, space: str, first: bytes, end: bytes | None) -> list[tuple[bytes, bytes]]:
        return await self._run(lambda db: self._read_page(db, space, first, end), [])

    async def _run(self, work: Callable[[sqlite3.Connection], T], otherwise: T, *, patience_s: float = PATIENCE_S) -> T:
        """Do work in the store's thread; where it fails or takes too long, what stands for "not stored"."""
        if self._is_closed or self._pending >= _PENDING_MAX:
            self.faults["closed" if self._is_closed else "overloaded"] += 1
            return otherwise
        self._pending += 1
        done = asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, work, otherwise)
        done.add_done_callback(self._finished)
        try:
            # Once a call has waited in vain, none waits until the disk has answered.
            async with asyncio.timeout(0 if self._is_stuck else patience_s):  # `wait_for` may lose a cancellation
                return await asyncio.shield(done)
        except TimeoutError:
            self._is_stuck = True
            self.faults["slow"] += 1
            return otherwise

    def _finished(self, _: object) -> None:
        self._pending -= 1
        self._is_stuck = False

    # What follows runs in the store's thread.

    def _guarded(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        try:
            connection = self._connected()
            if connection is None:
                self.faults["down"] += 1
                return otherwise
            with connection:
                return work(connection)
        except sqlite3.Error as error:
            self._failed(error)
            return otherwise

    def _failed(self, error: sqlite3.Error) -> None:
        """Count it; a damaged file is set aside, a broken connection is given up for a while."""
        reason = _reason_of(error)
        self.faults[reason] += 1
        if reason == "damaged":
            self._disconnect()
            self._set_aside(str(error))
        elif reason == "error":
            self._disconnect()
            self._retry_at_s = time.monotonic() + _RETRY_S
            _log.error("the state store failed; going on without it", extra=self._described(error))
        if self._connection is not None:
            self.held_bytes = self._measured(self._connection)

    def _connected(self) -> sqlite3.Connection | None:
        if self._connection is None and time.monotonic() >= self._retry_at_s:
            try:
                self._connection = self._connect_patiently()
            except (_UnusableFileError, sqlite3.DatabaseError) as error:
                self._connection = self._connect_anew(error)
            except (OSError, _ForeignFileError) as error:
                self._give_up(error)
        return self._connection

    def _connect_anew(self, error: Exception) -> sqlite3.Connection | None:
        """What to do about a file that could not be opened: if it is damaged, begin a new one."""
        if isinstance(error, sqlite3.DatabaseError) and _reason_of(error) != "damaged":
            self._give_up(error)
            return None
        self._set_aside(str(error))
        try:
            return self._connect()
        except (OSError, sqlite3.DatabaseError, _UnusableFileError, _ForeignFileError) as again:
            self._give_up(again)
            return None

    def _give_up(self, error: Exception) -> None:
        self._retry_at_s = time.monotonic() + _RETRY_S
        _log.error("the state file cannot be used; nothing is stored", extra=self._described(error))

    def _described(self, error: Exception) -> dict[str, str]:
        return {"path": str(self._path), "error": str(error), "retry": f"in {_RETRY_S:.0f} s"}

    def _connect_patiently(self) -> sqlite3.Connection:
        """Connect, also while another process makes the file: SQLite does not wait for that by itself."""
        for _ in range(_CONNECT_TRIES):
            try:
                return self._connect()
            except sqlite3.DatabaseError as error:
                if _reason_of(error) != "busy":
                    raise
                time.sleep(_CONNECT_PAUSE_S)
        return self._connect()

    def _connect(self) -> sqlite3.Connection:
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = sqlite3.connect(self._path, timeout=_BUSY_MS / 1000, check_same_thread=False)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, db: sqlite3.Connection) -> None:
        with db:
            db.execute("BEGIN")  # all three of one moment: another process may be making the file
            (owner,) = db.execute("PRAGMA application_id").fetchone()
            (version,) = db.execute("PRAGMA user_version").fetchone()
            (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if owner != APPLICATION_ID and (owner or tables):
            raise _ForeignFileError("it is another program's database; name another file in state.url")
        if version > SCHEMA_VERSION:
            raise _UnusableFileError(f"format {version} is newer than {SCHEMA_VERSION}")
        if not tables:
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA cache_size = -2048")
        db.execute("PRAGMA journal_size_limit = 4194304")
        if not tables:
            with db:
                db.execute("BEGIN IMMEDIATE")
                for statement in _SCHEMA.strip().split(";\n"):
                    db.execute(statement)
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        elif db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise _UnusableFileError("the file is damaged")
        self.held_bytes = self._measured(db)
        (self._used,) = db.execute("SELECT coalesce(max(used), 0) FROM entries").fetchone()
        self._touched.clear()

    def _measured(self, db: sqlite3.Connection) -> int:
        with contextlib.suppress(sqlite3.Error):
            (total,) = db.execute("SELECT coalesce(sum(size), 0) FROM entries").fetchone()
            return int(total)
        return self.held_bytes

    def _set_aside(self, why: str) -> None:
        aside = self._path.with_name(self._path.name + DAMAGED)
        _log.error(
            "the state file was set aside and a new one begun; what it held is lost to the gateway",
            extra={"path": str(self._path), "aside": str(aside), "error": why},
        )
        self.faults["set_aside"] += 1
        with contextlib.suppress(OSError):
            self._path.replace(aside)
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(OSError):
                self._path.with_name(self._path.name + suffix).unlink()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error), connection:
                self._touch(connection)
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _get(self, db: sqlite3.Connection, space: str, key: bytes) -> bytes | None:
        return self._get_many(db, space, [key])[0]

    def _get_many(self, db: sqlite3.Connection, space: str, keys: list[bytes]) -> list[bytes | None]:
        now_s = self._clock()
        found: dict[bytes, bytes] = {}
        for first in range(0, len(keys), _PAGE_ENTRIES):
            page = keys[first : first + _PAGE_ENTRIES]
            marks = ",".join("?" * len(page))
            select = f"SELECT key, value, id FROM entries WHERE {_ALIVE} AND key IN ({marks})"  # noqa: S608 - marks
            for key, value, place in db.execute(select, (space, now_s, *page)):
                found[bytes(key)] = bytes(value)
                self._used += 1
                self._touched[place] = self._used
        if len(self._touched) > _PAGE_ENTRIES:
            self._touch(db)
        return [found.get(key) for key in keys]

    def _prolong(self, db: sqlite3.Connection, space: str, keys: list[bytes], ttl_s: float) -> None:
        now_s = self._clock()
        db.executemany(
            f"UPDATE entries SET expires_s = ? WHERE {_ALIVE} AND key = ?",  # noqa: S608 - a constant
            [(now_s + ttl_s, space, now_s, key) for key in keys],
        )

    def _touch(self, db: sqlite3.Connection) -> None:
        """Note what was read since the last time: which entry was used when is written together, not with each read."""
        touched, self._touched = self._touched, {}
        db.executemany("UPDATE entries SET used = ? WHERE id = ?", [(used, place) for place, used in touched.items()])

    def _put(self, db: sqlite3.Connection, space: str, key: bytes, value: bytes, ttl_s: float | None) -> None:
        size = size_of(space, key, value)
        if size > self._max_bytes:
            self._delete(db, "space = ? AND key = ?", (space, key))
            self.faults["full"] += 1
            return
        old = db.execute("SELECT size FROM entries WHERE space = ? AND key = ?", (space, key)).fetchone()
        before = old[0] if old else 0
        self._used += 1
        expires_s = None if ttl_s is None else self._clock() + ttl_s
        db.execute(_PUT, (space, key, value, size, self._used, expires_s))
        self.held_bytes += size - before
        if self.held_bytes > self._max_bytes:
            self._make_room(db)

    def _put_if_absent(
        self, db: sqlite3.Connection, space: str, key: bytes, value: bytes, ttl_s: float | None
    ) -> bytes:
        db.execute("BEGIN IMMEDIATE")
        present = self._get(db, space, key)
        if present is None:
            self._put(db, space, key, value, ttl_s)
        return value if present is None else present

    def _delete(self, db: sqlite3.Connection, condition: str, values: tuple[object, ...]) -> int:
        gone = db.execute(f"DELETE FROM entries WHERE {condition} RETURNING size", values).fetchall()  # noqa: S608
        self.held_bytes -= sum(size for (size,) in gone)
        return len(gone)

    def _read_page(
        self, db: sqlite3.Connection, space: str, first: bytes, end: bytes | None
    ) -> list[tuple[bytes, bytes]]:
        rows = db.execute(
            f"SELECT key, value FROM entries WHERE {_ALIVE} AND {_BETWEEN} ORDER BY key LIMIT ?",  # noqa: S608 - constants
            (space, self._clock(), first, end, end, _PAGE_ENTRIES),
        ).fetchall()
        return [(bytes(key), bytes(value)) for key, value in rows]

    def _make_room(self, db: sqlite3.Connection) -> None:
        self._touch(db)
        self.held_bytes = self._measured(db)  # another process may write the same file
        self._delete(db, "expires_s <= ?", (self._clock(),))
        if self.held_bytes > self._max_bytes:
            excess = self.held_bytes - int(self._max_bytes * _EVICT_SHARE)
            self.evicted += self._delete(db, _OLDEST, (excess,))
        (free,) = db.execute("PRAGMA freelist_count").fetchone()
        for _ in range(min(free, _GIVEN_BACK_PAGES)):
            db.execute("PRAGMA incremental_vacuum(1)")  # Python takes one step of it, and a step is a page


_REASONS = {
    sqlite3.SQLITE_BUSY: "busy",
    sqlite3.SQLITE_LOCKED: "busy",
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_CORRUPT: "damaged",
    sqlite3.SQLITE_NOTADB: "damaged",
}


def _reason_of(error: sqlite3.Error) -> str:
    return _REASONS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "error")

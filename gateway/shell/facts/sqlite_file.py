"""A file of memories or of documents, or a database in memory: how it is opened, and what is done about one that
cannot be used.

A file that is damaged is set aside under `.damaged` and a new one is begun, loudly. Another program's database, and a
file of a later version, are left as they are, and there is no store: nobody's memories are hidden behind an empty file
because an older version was started. Several processes may use one file; each notices when another has set it aside.

Every commit is on the disk before it is acknowledged (WAL, `synchronous = FULL`): it outlives the process that is
killed, and a loss of power as far as the disk keeps what it says that it has written.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from gateway.ports_memory import MemoryFault

DAMAGED = ".damaged"
BUSY_S = 5.0
"""How long a write waits for those of other processes."""
_RETRY_S = 5.0
_CONNECT_TRIES, _CONNECT_PAUSE_S = 20, 0.03
_GIVEN_BACK_PAGES = 256
_CHECKED_BYTES = 64 << 20
"""A file up to this size is checked whole when it is opened."""
_REASONS = {
    sqlite3.SQLITE_BUSY: "timeout",
    sqlite3.SQLITE_LOCKED: "timeout",
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_CORRUPT: "damaged",
    sqlite3.SQLITE_NOTADB: "damaged",
}


@dataclass(frozen=True, slots=True)
class Format:
    """What stands in a file, and how that is spoken of.

    Attributes:
        application_id: that SQLite keeps in the file.
        migrations: the steps that lead to the tables of this version; `PRAGMA user_version` says which were taken.
        what: is kept there, as messages say it.
        option: that names the file.
        logger: that troubles are told to.
    """

    application_id: int
    migrations: tuple[tuple[str, ...], ...]
    what: str
    option: str
    logger: str


class _LeftAloneError(Exception):
    """The file is another program's, or a later version's."""


class _DamagedError(Exception):
    """A check of the file failed."""


class Connector:
    """A connection to a file, or to a database in memory: `lane.Opener`.

    Args:
        kept: what stands in the file.
        path: of the file, or None for memory.
        faults: where they are counted, by kind.
        cache_kib: what a connection may hold of the file in memory.
        is_reader: it changes nothing.
    """

    def __init__(
        self, kept: Format, path: Path | None, faults: Counter[str], cache_kib: int, *, is_reader: bool = False
    ) -> None:
        self._format = kept
        self._log = logging.getLogger(kept.logger)
        self._path = path
        self._faults = faults
        self._cache_kib = cache_kib
        self._is_reader = is_reader
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._retry_at_s = 0.0
        self._why = ""

    def connected(self) -> sqlite3.Connection:
        """The connection.

        Raises:
            MemoryFault: there is none; kind `down`.
        """
        if self._connection is not None and self._file != _identity(self._path):
            self.disconnect()  # somebody set the file aside, or removed it
        if self._connection is not None:
            return self._connection
        if time.monotonic() >= self._retry_at_s:
            try:
                self._connection = self._connect_patiently()
            except (sqlite3.Error, OSError, _LeftAloneError, _DamagedError) as error:
                self._connection = self._connect_anew(error)
        if self._connection is None:
            self._faults["down"] += 1
            raise MemoryFault("down", self._why)
        return self._connection

    def failed(self, error: sqlite3.Error) -> MemoryFault:
        """Count it; set a damaged file aside; give a broken connection up."""
        reason = _reason_of(error)
        self._faults[reason if reason != "error" else "down"] += 1
        if reason == "damaged":
            self._set_aside(str(error))
        elif reason == "error" and self._path is not None:
            self._log.error(f"the store of {self._format.what} failed", extra=self._described(error))
            self.disconnect()
        else:
            self._roll_back()
        kind = reason if reason in ("timeout", "full") else "down"
        return MemoryFault(kind, f"the store of {self._format.what} failed: {error}")

    def disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _roll_back(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            if self._connection is not None and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _connect_anew(self, error: Exception) -> sqlite3.Connection | None:
        """What to do about a file that could not be opened: if it is damaged, begin a new one."""
        is_damaged = isinstance(error, _DamagedError) or (
            isinstance(error, sqlite3.Error) and _reason_of(error) == "damaged"
        )
        if is_damaged:
            self._set_aside(str(error))
            try:
                return self._connect_patiently()
            except (sqlite3.Error, OSError, _LeftAloneError, _DamagedError) as again:
                error = again
        self._retry_at_s = time.monotonic() + _RETRY_S
        self._why = f"the store of {self._format.what} cannot be used: {error}"
        self._log.error(
            f"the file of {self._format.what} cannot be used; nothing is kept", extra=self._described(error)
        )
        return None

    def _connect_patiently(self) -> sqlite3.Connection:
        """Connect, also while another process makes the file: SQLite does not wait for that by itself."""
        for _ in range(_CONNECT_TRIES):
            try:
                return self._connect()
            except sqlite3.Error as error:
                if _reason_of(error) != "timeout":
                    raise
                time.sleep(_CONNECT_PAUSE_S)
        return self._connect()

    def _connect(self) -> sqlite3.Connection:
        if self._path is not None:
            # Only where there is none: to open and close a file in use lets go of all locks of this process.
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        identity = _identity(self._path)
        name = ":memory:" if self._path is None else self._path
        db = sqlite3.connect(name, timeout=BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=256)
        try:
            self._prepare(db)
        except BaseException:
            db.close()
            raise
        self._file = identity
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        db.execute("BEGIN")  # all three of one moment: another process may be making the file
        (owner,) = db.execute("PRAGMA application_id").fetchone()
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        db.execute("COMMIT")
        if owner != self._format.application_id and (owner or tables):
            raise _LeftAloneError(f"it is another program's database; name another file in {self._format.option}")
        known = len(self._format.migrations)
        if version > known:
            raise _LeftAloneError(f"it is of format {version}, made by a later version; this one knows {known}")
        if not tables:
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA cache_size = -{self._cache_kib}")
        db.execute("PRAGMA journal_size_limit = 16777216")
        db.execute("PRAGMA temp_store = MEMORY")
        if version < known:
            _migrate(db, self._format)
        elif not self._is_reader and self._is_small() and db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise _DamagedError("the file is damaged")
        if self._is_reader:
            db.execute("PRAGMA query_only = ON")

    def _is_small(self) -> bool:
        return self._path is not None and self._path.stat().st_size <= _CHECKED_BYTES

    def _set_aside(self, why: str) -> None:
        was = self._file if self._connection is not None else _identity(self._path)
        self.disconnect()
        if self._path is None or was != _identity(self._path):
            return  # another process, or the other connection, has done so already
        aside = self._path.with_name(self._path.name + DAMAGED)
        self._log.error(
            f"the file of {self._format.what} was set aside and a new one begun; what it held is lost to the gateway",
            extra={"path": str(self._path), "aside": str(aside), "error": why},
        )
        self._faults["set_aside"] += 1
        with contextlib.suppress(OSError):
            self._path.replace(aside)
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(OSError):
                self._path.with_name(self._path.name + suffix).unlink()

    def _described(self, error: Exception) -> dict[str, str]:
        return {"path": str(self._path), "error": str(error), "retry": f"in {_RETRY_S:.0f} s"}


def give_back_disk(db: sqlite3.Connection) -> bool:
    """Give some of the room that is free in the file back to the disk; returns whether there is more.

    A page at a time: Python takes but one step of a statement that has no columns, and one step is one page.
    """
    (free,) = db.execute("PRAGMA freelist_count").fetchone()
    for _ in range(min(free, _GIVEN_BACK_PAGES)):
        db.execute("PRAGMA incremental_vacuum(1)")
    return bool(free > _GIVEN_BACK_PAGES)


def _migrate(db: sqlite3.Connection, kept: Format) -> None:
    """Bring the tables to this version's, step by step; another process may be doing the same."""
    db.execute("BEGIN IMMEDIATE")
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        for step in kept.migrations[version:]:
            for statement in step:
                db.execute(statement)
        db.execute(f"PRAGMA application_id = {kept.application_id}")
        db.execute(f"PRAGMA user_version = {len(kept.migrations)}")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _identity(path: Path | None) -> tuple[int, int] | None:
    """Which file stands there now."""
    if path is None:
        return None
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return found.st_dev, found.st_ino


def _reason_of(error: sqlite3.Error) -> str:
    return _REASONS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "error")

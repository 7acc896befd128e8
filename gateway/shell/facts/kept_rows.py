"""Rows that were read for chats, kept as long as nobody has written to the database: a memory is asked many times.

Whether anybody has is one look: SQLite counts what others have committed (`data_version`) and what this connection has
changed. Used by one thread.

Invariants, each with a test of its own:
  1. What comes back is what stands in the database.
  2. No more than `max_rows` are kept.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from gateway.shell.facts.rows import Row

MAX_ROWS = 20_000
"""About 30 MB."""
Read = Callable[[sqlite3.Connection, Sequence[int]], list[Row]]


class KeptRows:
    """Rows by number.

    Args:
        read: reads those that are not kept.
        max_rows: bound of those that are.
    """

    def __init__(self, read: Read, max_rows: int = MAX_ROWS) -> None:
        self._read = read
        self._max_rows = max_rows
        self._rows: dict[int, Row] = {}
        self._of: tuple[sqlite3.Connection, int, int] | None = None

    def rows(self, db: sqlite3.Connection, numbers: Sequence[int]) -> list[Row]:
        """The rows of these numbers that there are, in no order."""
        (version,) = db.execute("PRAGMA data_version").fetchone()
        if self._of != (db, version, db.total_changes):
            self._rows, self._of = {}, (db, version, db.total_changes)
        known = self._rows
        missing = [number for number in numbers if number not in known]
        if len(known) + len(missing) > self._max_rows:
            known = self._rows = {}
            missing = list(numbers)
        if missing:
            fresh = {row.seq: row for row in self._read(db, missing)}
            if len(known) + len(fresh) <= self._max_rows:
                known |= fresh
            else:
                return list(fresh.values())
        return [known[number] for number in numbers if number in known]

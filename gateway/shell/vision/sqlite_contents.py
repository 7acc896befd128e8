"""Bytes in a database of documents: kept once for all that use them, in parts, and what everything takes.

Each function runs within a transaction that the caller begins and commits. `figures` holds what all documents, jobs
and contents take, by the sizes in their rows: what is added says so, and what goes gives it back.

Invariants, each with a test of its own:
  1. The figure is the sum of the sizes in all rows, after any sequence of calls.
  2. What nobody uses any more is gone, and so is what it took.
"""

from __future__ import annotations

import hashlib
import io
import sqlite3

from gateway.core.facts.memory import Scope
from gateway.ports_vision import VisionFault
from gateway.shell.facts.rows import scope_name

PART_BYTES = 1 << 20


def held_bytes(db: sqlite3.Connection) -> int:
    """What is kept takes so much."""
    (held,) = db.execute("SELECT bytes FROM figures").fetchone()
    return int(held)


def take(db: sqlite3.Connection, more_bytes: int, max_bytes: int) -> None:
    """Count what is added.

    Raises:
        VisionFault: `full`, there is no room for it.
    """
    held = held_bytes(db)
    if held + more_bytes > max_bytes:
        raise VisionFault(
            "full",
            f"documents take {held} of {max_bytes} bytes, and {more_bytes} more were to be kept: delete documents, or"
            " raise vision.max_bytes",
        )
    db.execute("UPDATE figures SET bytes = bytes + ?", (more_bytes,))


def give_back(db: sqlite3.Connection, less_bytes: int) -> None:
    """Count what has gone."""
    db.execute("UPDATE figures SET bytes = bytes - ?", (less_bytes,))


def keep(db: sqlite3.Connection, data: bytes, max_bytes: int) -> int:
    """Keep bytes for one more use; returns their number.

    Raises:
        VisionFault: `full`.
    """
    hash_ = hashlib.sha256(data).digest()
    found = db.execute("SELECT id FROM contents WHERE hash = ?", (hash_,)).fetchone()
    if found is not None:
        db.execute("UPDATE contents SET uses = uses + 1 WHERE id = ?", found)
        return int(found[0])
    take(db, len(data), max_bytes)
    inserted = db.execute("INSERT INTO contents (hash, size, uses) VALUES (?, ?, 1)", (hash_, len(data)))
    number, view = int(inserted.lastrowid or 0), memoryview(data)
    parts = ((number, at, view[at : at + PART_BYTES]) for at in range(0, len(data), PART_BYTES))
    db.executemany("INSERT INTO content_parts (content, place, data) VALUES (?, ?, ?)", parts)
    return number


def let_go(db: sqlite3.Connection, number: int | None) -> None:
    """One use less of these bytes."""
    if number is None:
        return
    db.execute("UPDATE contents SET uses = uses - 1 WHERE id = ?", (number,))
    unused = db.execute("SELECT size FROM contents WHERE id = ? AND uses = 0", (number,)).fetchone()
    if unused is not None:
        db.execute("DELETE FROM content_parts WHERE content = ?", (number,))
        db.execute("DELETE FROM contents WHERE id = ?", (number,))
        give_back(db, unused[0])


def read(db: sqlite3.Connection, number: int) -> bytes:
    """The bytes of this number."""
    data = io.BytesIO()  # gives its buffer away without another copy
    for (part,) in db.execute("SELECT data FROM content_parts WHERE content = ? ORDER BY place", (number,)):
        data.write(part)
    return data.getvalue()


def scope_id_of(db: sqlite3.Connection, scope: Scope) -> int | None:
    """The number of a scope that has been written to."""
    name = (scope.owner, scope_name(scope.name))
    found = db.execute("SELECT id FROM scopes WHERE owner = ? AND name = ?", name).fetchone()
    return None if found is None else int(found[0])


def scope_id_for(db: sqlite3.Connection, scope: Scope) -> int:
    """The number of a scope that is to be written to."""
    found = scope_id_of(db, scope)
    if found is not None:
        return found
    name = (scope.owner, scope_name(scope.name))
    return int(db.execute("INSERT INTO scopes (owner, name) VALUES (?, ?)", name).lastrowid or 0)

"""Vectors of regions in a database: what keeps them, what asks which are lacking, and what lets them go.

Each function runs within a transaction that the caller begins and commits. A region has one vector, of the model that
was put last; `regions.model` says whose, also where the model was given nothing to make one of.

Invariants, each with a test of its own:
  1. What vectors take is counted with all else, and given back when they go.
  2. Only regions of finished documents get vectors, or lack any.
  3. While one worker's lease runs, no other has vectors made.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from gateway.core.facts.memory import Vector
from gateway.core.vision.document import Region
from gateway.shell.facts.rows import id_bytes
from gateway.shell.vision import sqlite_contents as contents
from gateway.shell.vision import sqlite_rows as rows

VECTOR_BYTES = 60
"""What one takes beside its own bytes: its columns with their indexes."""
MAX_LEASE_US = 600_000_000
_FINISHED = (
    "SELECT r.seq, d.scope, r.model FROM regions r CROSS JOIN documents d ON d.seq = r.document"
    " WHERE r.id = ? AND d.state = 1"
)
_LACKING = (
    f"SELECT r.seq, {rows.REGION_COLUMNS} FROM regions r CROSS JOIN documents d ON d.seq = r.document"
    " WHERE r.model = ? AND d.state = 1 ORDER BY r.seq DESC LIMIT ?"
)
_WITHIN = "region >= ? AND region < ?"


def put(db: sqlite3.Connection, vectors: Sequence[Vector], max_bytes: int) -> None:
    """Keep these; those of regions that are gone, or that have one of the same model, are passed over.

    Raises:
        VisionFault: `full`.
    """
    models: dict[str, int] = {}
    for vector in vectors:
        if vector.model not in models:
            models[vector.model] = _model_id(db, vector.model)
        model_id = models[vector.model]
        found = db.execute(_FINISHED, (id_bytes(vector.id) or b"",)).fetchone()
        if found is None or found[2] == model_id:
            continue
        number, scope_id, _ = found
        remove(db, range(number, number + 1))
        db.execute("UPDATE regions SET model = ? WHERE seq = ?", (model_id, number))
        if vector.data:
            contents.take(db, VECTOR_BYTES + len(vector.data), max_bytes)
            values = (number, scope_id, model_id, vector.data)
            db.execute("INSERT INTO vectors (region, scope, model, data) VALUES (?, ?, ?, ?)", values)


def _model_id(db: sqlite3.Connection, name: str) -> int:
    db.execute("INSERT INTO models (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
    return int(db.execute("SELECT id FROM models WHERE name = ?", (name,)).fetchone()[0])


def lacking(db: sqlite3.Connection, model: str, limit: int) -> list[Region]:
    """Regions of finished documents that this model was not given yet, those kept last first."""
    found: list[tuple[int, Region]] = []
    for number in [0, *(number for (number,) in db.execute("SELECT id FROM models WHERE name != ?", (model,)))]:
        found += [(seq, rows.region_from(columns)) for seq, *columns in db.execute(_LACKING, (number, limit))]
    found.sort(key=lambda pair: -pair[0])
    return [region for _, region in found[:limit]]


def claim(db: sqlite3.Connection, worker: str, now_us: int, lease_us: int) -> bool:
    """Let a worker be the one that has vectors made; returns whether it is, and no other."""
    # A lease beyond what anybody takes was taken by a clock that was ahead.
    is_free = "worker = ? OR until_us <= ? OR until_us > ?"
    values = (worker, now_us + lease_us, worker, now_us, now_us + MAX_LEASE_US)
    return db.execute(f"UPDATE filling SET worker = ?, until_us = ? WHERE {is_free}", values).rowcount == 1


def remove(db: sqlite3.Connection, numbers: range) -> None:
    """Let the vectors of these regions go."""
    values = (numbers.start, numbers.stop)
    taken = f"SELECT count(*), coalesce(sum(length(data)), 0) FROM vectors WHERE {_WITHIN}"
    count, size = db.execute(taken, values).fetchone()
    if count:
        db.execute(f"DELETE FROM vectors WHERE {_WITHIN}", values)
        contents.give_back(db, count * VECTOR_BYTES + size)

"""What changes a database of memories: each function runs within a transaction that the caller begins and commits."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from gateway.core.facts.memory import Kind, Level, Memory, Scope, Stored, Vector
from gateway.shell.facts import rows
from gateway.shell.facts.merging import is_alive, merge
from gateway.shell.facts.rows import Row
from gateway.shell.facts.sqlite_file import give_back_disk

ROW_BYTES = 480
POSTING_BYTES = 16
"""What a memory takes beside its own bytes, as measured: its columns with their indexes; each word's posting."""
EVICT_AT_ONCE = 256
_MAX_EVICTIONS = 16
_SWEEP_AT_ONCE = 512
_MARKS = 500
SELECT = f"SELECT {rows.COLUMNS} FROM memories m"
_INSERT = (
    "INSERT INTO memories (id, scope, class, key, topic, session, observed_us, seen_us, ended_us, expires_us,"
    " confidence, size, body, terms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_UPDATE = (
    "UPDATE memories SET class = ?, topic = ?, seen_us = ?, ended_us = ?, expires_us = ?, confidence = ?, size = ?,"
    " body = ? WHERE seq = ?"
)


def put(
    db: sqlite3.Connection, scope: Scope, memories: Sequence[Memory], now_us: int, max_bytes: int
) -> tuple[list[Stored], int]:
    """Store these; returns what became of them, and how many others had to go for want of room.

    Raises:
        ValueError: they are larger than all room there is.
    """
    scope_id = _scope_id(db, scope)
    merged = merge(_known(db, scope_id, memories), memories, now_us)
    remove(db, merged.gone, {row.seq: scope_id for row in merged.gone})
    for was, row in merged.changed:
        _write_again(db, scope_id, was, row)
    if _insert(db, scope_id, merged.added) > max_bytes:
        raise ValueError(f"{len(memories)} memories at once are larger than the whole store may be")
    return merged.stored, _make_room(db, now_us, max_bytes)


def size_of(memory: Memory, words: int) -> int:
    """What a memory of so many words takes of a database, about, in bytes."""
    return ROW_BYTES + len(rows.body_bytes(memory)) + 4 * len(memory.terms) + POSTING_BYTES * words


def _scope_id(db: sqlite3.Connection, scope: Scope) -> int:
    name = (scope.owner, rows.scope_name(scope.name))
    found = db.execute("SELECT id FROM scopes WHERE owner = ? AND name = ?", name).fetchone()
    if found is None:
        found = (db.execute("INSERT INTO scopes (owner, name) VALUES (?, ?)", name).lastrowid,)
    return int(found[0])


def _known(db: sqlite3.Connection, scope_id: int, memories: Sequence[Memory]) -> list[Row]:
    """Rows that have one of their keys, or hold and have one of their topics."""
    found: dict[int, Row] = {}
    keys = {memory.key for memory in memories}
    topics = {memory.topic for memory in memories} - {b""}
    for column, values in (("key", keys), ("topic", topics)):
        holds = "" if column == "key" else " AND m.topic IS NOT NULL AND m.ended_us IS NULL"
        for some in _parts(sorted(values)):
            marks = ",".join("?" * len(some))
            select = f"{SELECT} WHERE m.scope = ? AND m.{column} IN ({marks}){holds}"
            for columns in db.execute(select, (scope_id, *some)):
                if columns[0] not in found:
                    found[columns[0]] = rows.row_from(columns)
    return list(found.values())


def _parts(values: Iterable[Any]) -> Iterable[list[Any]]:
    rest = iter(values)
    while part := list(islice(rest, _MARKS)):
        yield part


def _insert(db: sqlite3.Connection, scope_id: int, added: Sequence[Row]) -> int:
    """Insert these; returns what they take, in bytes."""
    postings: list[tuple[int, int, int]] = []
    sizes = {Kind.FACT: [0, 0], Kind.CONTEXT: [0, 0]}
    for row in added:
        memory, class_ = row.memory, rows.class_of(row.memory)
        words = rows.words_of(memory)
        size = size_of(memory, len(words))
        times = (memory.observed_us, row.seen_us, memory.ended_us, memory.expires_us)
        named = (rows.id_bytes(memory.id), scope_id, class_, memory.key, memory.topic or None, memory.session or None)
        rest = (memory.confidence, size, rows.body_bytes(memory), rows.terms_bytes(memory.terms))
        row.seq = int(db.execute(_INSERT, (*named, *times, *rest)).lastrowid or 0)
        bucket = rows.bucket_of(scope_id, class_)
        postings += [(bucket, word, row.seq) for word in words]
        sizes[memory.kind][0] += 1
        sizes[memory.kind][1] += size
    postings.sort()
    db.executemany("INSERT INTO postings VALUES (?, ?, ?)", postings)
    for kind, (count, size) in sizes.items():
        _add_figures(db, kind, count, size)
    return sum(size for _, size in sizes.values())


def _write_again(db: sqlite3.Connection, scope_id: int, was: Memory, row: Row) -> None:
    memory, class_, old_class = row.memory, rows.class_of(row.memory), rows.class_of(was)
    words, old_words = rows.words_of(memory), rows.words_of(was)
    size, old_size = size_of(memory, len(words)), size_of(was, len(old_words))
    if class_ != old_class or words != old_words:
        old_bucket, bucket = rows.bucket_of(scope_id, old_class), rows.bucket_of(scope_id, class_)
        _remove_postings(db, [(old_bucket, word, row.seq) for word in old_words])
        db.executemany("INSERT INTO postings VALUES (?, ?, ?)", sorted((bucket, word, row.seq) for word in words))
    if memory.ended_us is not None and was.ended_us is None:
        db.execute("DELETE FROM vectors WHERE memory = ?", (row.seq,))
        db.execute("UPDATE memories SET model = 0 WHERE seq = ?", (row.seq,))
    times = (row.seen_us, memory.ended_us, memory.expires_us)
    rest = (memory.confidence, size, rows.body_bytes(memory), row.seq)
    db.execute(_UPDATE, (class_, memory.topic or None, *times, *rest))
    _add_figures(db, memory.kind, 0, size - old_size)


def _remove_postings(db: sqlite3.Connection, postings: list[tuple[int, int, int]]) -> None:
    postings.sort()
    db.executemany("DELETE FROM postings WHERE bucket = ? AND word = ? AND memory = ?", postings)


def _add_figures(db: sqlite3.Connection, kind: Kind, count: int, size: int) -> None:
    if count or size:
        number = 0 if kind is Kind.FACT else 1
        change = (count, size, number)
        db.execute("UPDATE figures SET memories = memories + ?, bytes = bytes + ? WHERE kind = ?", change)


def remove(db: sqlite3.Connection, gone: Sequence[Row], scope_ids: dict[int, int]) -> None:
    """Remove these rows, and all that is kept of them."""
    postings: list[tuple[int, int, int]] = []
    vectors = 0
    for row in gone:
        words = rows.words_of(row.memory)
        bucket = rows.bucket_of(scope_ids[row.seq], rows.class_of(row.memory))
        postings += [(bucket, word, row.seq) for word in words]
        (size, model) = db.execute("SELECT size, model FROM memories WHERE seq = ?", (row.seq,)).fetchone()
        vectors += bool(model)
        _add_figures(db, row.memory.kind, -1, -size)
    _remove_postings(db, postings)
    places = [(row.seq,) for row in gone]
    db.executemany("DELETE FROM memories WHERE seq = ?", places)
    if vectors:
        db.executemany("DELETE FROM vectors WHERE memory = ?", places)


def _remove_where(db: sqlite3.Connection, condition: str, values: Sequence[object], limit: int) -> list[Row]:
    """Remove some rows that meet a condition; returns them."""
    select = SELECT.replace("SELECT ", "SELECT m.scope, ", 1)
    found = db.execute(f"{select} WHERE {condition} LIMIT ?", (*values, limit)).fetchall()
    gone = [rows.row_from(columns[1:]) for columns in found]
    remove(db, gone, {row.seq: columns[0] for row, columns in zip(gone, found, strict=True)})
    return gone


def _make_room(db: sqlite3.Connection, now_us: int, max_bytes: int) -> int:
    """While there is more than may be: what has expired goes, then what has ended, then what was stored first."""
    evicted = 0
    for _ in range(_MAX_EVICTIONS):
        (held,) = db.execute("SELECT sum(bytes) FROM figures").fetchone()
        if held <= max_bytes:
            break
        if _remove_where(db, "m.expires_us <= ?", (now_us,), EVICT_AT_ONCE):
            continue
        gone = _remove_where(db, "m.ended_us IS NOT NULL ORDER BY m.seq", (), EVICT_AT_ONCE)
        gone = gone or _remove_where(db, "1 ORDER BY m.seq", (), EVICT_AT_ONCE)
        evicted += len(gone)
    return evicted


def delete(db: sqlite3.Connection, owner: bytes, ids: Sequence[bytes], kind: Kind, now_us: int) -> int:
    """Remove memories by id; returns how many that had not expired."""
    classes = ",".join(map(str, rows.classes_of(kind, with_ended=True)))
    condition = f"m.id = ? AND m.class IN ({classes}) AND m.scope IN (SELECT id FROM scopes WHERE owner = ?)"
    gone = [row for id_ in ids for row in _remove_where(db, condition, (id_, owner), 1)]
    return sum(is_alive(row.memory, now_us) for row in gone)


def some_of_all(
    owner: bytes, name: str | None, session: bytes | None, kind: Kind | None, level: Level | None
) -> tuple[str, list[object]]:
    """The condition of what `delete_all` is to remove."""
    classes = ",".join(map(str, rows.classes_of(kind, level, with_ended=True)))
    condition, values = "owner = ?", [owner]
    if name is not None:
        condition, values = condition + " AND name = ?", [owner, rows.scope_name(name)]
    whole = f"m.class IN ({classes}) AND m.scope IN (SELECT id FROM scopes WHERE {condition})"
    if session is None:
        return whole, list(values)
    return f"m.session = ? AND {whole}", [session or None, *values]


def delete_some(db: sqlite3.Connection, condition: tuple[str, list[object]], now_us: int) -> tuple[int, bool]:
    """Remove some of those that meet a condition; returns how many that had not expired, and whether any were left."""
    gone = _remove_where(db, *condition, _SWEEP_AT_ONCE)
    return sum(is_alive(row.memory, now_us) for row in gone), len(gone) == _SWEEP_AT_ONCE


def sweep_some(db: sqlite3.Connection, now_us: int) -> int:
    """Remove some of what has expired; returns how many."""
    gone = len(_remove_where(db, "m.expires_us <= ?", (now_us,), _SWEEP_AT_ONCE))
    give_back_disk(db)
    return gone


def put_vectors(db: sqlite3.Connection, vectors: Sequence[Vector]) -> None:
    """Keep these vectors of memories that hold."""
    models: dict[str, int] = {}
    for vector in vectors:
        id_ = rows.id_bytes(vector.id)
        found = db.execute(
            "SELECT seq, scope, class FROM memories WHERE id = ? AND ended_us IS NULL", (id_,)
        ).fetchone()
        if found is None:
            continue
        if vector.model not in models:
            models[vector.model] = _model_id(db, vector.model)
        seq, scope_id, class_ = found
        db.execute("DELETE FROM vectors WHERE memory = ?", (seq,))
        values = (seq, scope_id, class_, models[vector.model], vector.data)
        db.execute("INSERT INTO vectors (memory, scope, class, model, data) VALUES (?, ?, ?, ?, ?)", values)
        db.execute("UPDATE memories SET model = ? WHERE seq = ?", (models[vector.model], seq))


def _model_id(db: sqlite3.Connection, name: str) -> int:
    db.execute("INSERT INTO models (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
    return int(db.execute("SELECT id FROM models WHERE name = ?", (name,)).fetchone()[0])

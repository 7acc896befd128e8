"""What changes the memories in PostgreSQL: each function is one transaction, and any number of replicas may run them.

Who puts takes advisory locks first, on stripes of the scope's keys and topics, in the order of their numbers; rows are
locked after that, in the order of theirs. So two that put the same facts, or statements of one topic, take turns, and
none waits for another in a circle.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

from psycopg import AsyncConnection

from gateway.core.facts.memory import Kind, Level, Memory, Scope, Stored, Vector
from gateway.shell.facts import rows
from gateway.shell.facts.merging import is_alive, merge
from gateway.shell.facts.postgres_schema import lock_number, model_number
from gateway.shell.facts.rows import Row

Connection = AsyncConnection[Any]
_STRIPES = 32
_AT_ONCE = 512


async def put(
    db: Connection, collection: str, scope: Scope, memories: Sequence[Memory], now_us: int, *, has_vectors: bool
) -> list[Stored]:
    """Store these; returns what became of them."""
    scope_id = await _scope_id(db, collection, scope)
    # In a pipeline: what needs no answer before the next statement waits for none.
    async with db.pipeline(), db.transaction():
        locks = _locks(collection, scope_id, memories)
        await db.execute("SELECT pg_advisory_xact_lock(n) FROM unnest(%s::bigint[]) n", (locks,))
        merged = merge(await _known(db, collection, scope_id, memories), memories, now_us)
        gone = [(scope_id, row) for row in merged.gone]
        await _remove(db, collection, gone, has_vectors=has_vectors)
        old_words, new_words = _moved(scope_id, merged.changed)
        await _remove_postings(db, collection, old_words)
        await _update(db, collection, [row for _, row in merged.changed])
        await _insert(db, collection, scope_id, merged.added)
        for row in merged.added:
            bucket = rows.bucket_of(scope_id, rows.class_of(row.memory))
            new_words += [(bucket, word, row.seq) for word in rows.words_of(row.memory)]
        await _insert_postings(db, collection, new_words)
        ended = [row.seq for was, row in merged.changed if row.memory.ended_us is not None and was.ended_us is None]
        if has_vectors and ended:
            await db.execute(f"DELETE FROM {collection}_vectors WHERE memory = ANY(%s)", (ended,))
            await db.execute(f"UPDATE {collection}_memories SET model = 0 WHERE seq = ANY(%s)", (ended,))
    return merged.stored


async def _scope_id(db: Connection, collection: str, scope: Scope) -> int:
    name = (scope.owner, rows.scope_name(scope.name))
    select = f"SELECT id FROM {collection}_scopes WHERE owner = %s AND name = %s"
    found = await (await db.execute(select, name)).fetchone()
    if found is None:
        insert = f"INSERT INTO {collection}_scopes (owner, name) VALUES (%s, %s) ON CONFLICT DO NOTHING"
        await db.execute(insert, name)
        found = await (await db.execute(select, name)).fetchone()
    return int(found[0]) if found else 0


def _locks(collection: str, scope_id: int, memories: Sequence[Memory]) -> list[int]:
    stripes = {("key", memory.key[:1]) for memory in memories}
    stripes |= {("topic", memory.topic[:1]) for memory in memories if memory.topic}
    numbers = {(what, ord(first or b"\0") % _STRIPES) for what, first in stripes}
    return sorted(lock_number(collection, scope_id, *each) for each in numbers)


async def _known(db: Connection, collection: str, scope_id: int, memories: Sequence[Memory]) -> list[Row]:
    """Rows that have one of their keys, or hold and have one of their topics."""
    keys = sorted({memory.key for memory in memories})
    topics = sorted({memory.topic for memory in memories} - {b""})
    seqs = f"SELECT seq FROM {collection}_memories WHERE scope = %s AND key = ANY(%s)"
    values: list[object] = [scope_id, keys]
    if topics:
        seqs += f" UNION SELECT seq FROM {collection}_memories WHERE scope = %s AND topic = ANY(%s)"
        seqs += " AND topic IS NOT NULL AND ended_us IS NULL"
        values += [scope_id, topics]
    select = f"SELECT {rows.COLUMNS} FROM {collection}_memories m WHERE seq IN ({seqs}) ORDER BY seq FOR UPDATE"
    found = await db.execute(select.encode(), values)
    return [rows.row_from(columns) for columns in await found.fetchall()]


async def _insert(db: Connection, collection: str, scope_id: int, added: Sequence[Row]) -> None:
    if not added:
        return
    columns = "id, class, key, topic, session, observed_us, seen_us, ended_us, expires_us, confidence, body, terms"
    types = [
        "bytea",
        "smallint",
        "bytea",
        "bytea",
        "bytea",
        "bigint",
        "bigint",
        "bigint",
        "bigint",
        "float8",
        "bytea",
        "bytea",
    ]
    arrays = ", ".join(f"%s::{type_}[]" for type_ in types)
    values = [
        (
            rows.id_bytes(memory.id),
            rows.class_of(memory),
            memory.key,
            memory.topic or None,
            memory.session or None,
            memory.observed_us,
            row.seen_us,
            memory.ended_us,
            memory.expires_us,
            memory.confidence,
            rows.body_bytes(memory),
            rows.terms_bytes(memory.terms),
        )
        for row in added
        for memory in [row.memory]
    ]
    insert = (
        f"INSERT INTO {collection}_memories (scope, {columns}) SELECT {scope_id}, t.* FROM unnest({arrays}) t"
        " RETURNING id, seq"
    )
    found = await db.execute(insert.encode(), [list(column) for column in zip(*values, strict=True)])
    seqs = {id_.hex(): seq for id_, seq in await found.fetchall()}
    for row in added:
        row.seq = seqs[row.memory.id]


async def _update(db: Connection, collection: str, changed: Sequence[Row]) -> None:
    if not changed:
        return
    update = (
        f"UPDATE {collection}_memories SET class = %s, topic = %s, seen_us = %s, ended_us = %s, expires_us = %s,"
        " confidence = %s, body = %s WHERE seq = %s"
    )
    values = [
        (
            rows.class_of(row.memory),
            row.memory.topic or None,
            row.seen_us,
            row.memory.ended_us,
            row.memory.expires_us,
            row.memory.confidence,
            rows.body_bytes(row.memory),
            row.seq,
        )
        for row in changed
    ]
    async with db.cursor() as cursor:
        await cursor.executemany(update.encode(), values)


def _moved(scope_id: int, changed: Sequence[tuple[Memory, Row]]) -> tuple[list[_Posting], list[_Posting]]:
    """The postings of what is listed otherwise now, as they were and as they are to be."""
    old: list[_Posting] = []
    new: list[_Posting] = []
    for was, row in changed:
        buckets = [rows.bucket_of(scope_id, rows.class_of(memory)) for memory in (was, row.memory)]
        before = {(buckets[0], word, row.seq) for word in rows.words_of(was)}
        after = {(buckets[1], word, row.seq) for word in rows.words_of(row.memory)}
        old += before - after
        new += after - before
    return old, new


_Posting = tuple[int, int, int]


async def _insert_postings(db: Connection, collection: str, postings: list[_Posting]) -> None:
    if postings:
        arrays = "unnest(%s::bigint[], %s::bigint[], %s::bigint[])"
        await db.execute(f"INSERT INTO {collection}_postings SELECT * FROM {arrays}".encode(), _columns(postings))


async def _remove_postings(db: Connection, collection: str, postings: list[_Posting]) -> None:
    if postings:
        arrays = "unnest(%s::bigint[], %s::bigint[], %s::bigint[]) t (bucket, word, memory)"
        same = "p.bucket = t.bucket AND p.word = t.word AND p.memory = t.memory"
        delete = f"DELETE FROM {collection}_postings p USING {arrays} WHERE {same}"
        await db.execute(delete.encode(), _columns(postings))


def _columns(postings: list[_Posting]) -> list[list[int]]:
    return [list(column) for column in zip(*sorted(postings), strict=True)]


async def _remove(db: Connection, collection: str, gone: Sequence[tuple[int, Row]], *, has_vectors: bool) -> None:
    """Remove locked rows, each with its scope, and all that is kept of them."""
    if not gone:
        return
    postings = [
        (rows.bucket_of(scope_id, rows.class_of(row.memory)), word, row.seq)
        for scope_id, row in gone
        for word in rows.words_of(row.memory)
    ]
    await _remove_postings(db, collection, postings)
    seqs = [row.seq for _, row in gone]
    await db.execute(f"DELETE FROM {collection}_memories WHERE seq = ANY(%s)", (seqs,))
    if has_vectors:
        await db.execute(f"DELETE FROM {collection}_vectors WHERE memory = ANY(%s)", (seqs,))


async def remove_some(
    db: Connection, collection: str, condition: tuple[str, Sequence[object]], now_us: int, *, has_vectors: bool
) -> tuple[int, int]:
    """Remove some rows that meet a condition; returns how many, and how many of those had not expired."""
    which, values = condition
    async with db.transaction():
        select = f"SELECT m.scope, {rows.COLUMNS} FROM {collection}_memories m WHERE {which}"
        found = await db.execute(f"{select} ORDER BY m.seq LIMIT {_AT_ONCE} FOR UPDATE".encode(), values)
        gone = [(columns[0], rows.row_from(columns[1:])) for columns in await found.fetchall()]
        await _remove(db, collection, gone, has_vectors=has_vectors)
    return len(gone), sum(is_alive(row.memory, now_us) for _, row in gone)


def these(collection: str, owner: bytes, ids: Sequence[bytes], kind: Kind) -> tuple[str, list[object]]:
    """The condition of what `delete` is to remove."""
    owned = f"m.scope IN (SELECT id FROM {collection}_scopes WHERE owner = %s)"
    return f"m.id = ANY(%s) AND m.class = ANY(%s) AND {owned}", [
        list(ids),
        rows.classes_of(kind, with_ended=True),
        owner,
    ]


def some_of_all(
    collection: str, owner: bytes, name: str | None, session: bytes | None, kind: Kind | None, level: Level | None
) -> tuple[str, list[object]]:
    """The condition of what `delete_all` is to remove."""
    which, values = "owner = %s", [owner]
    if name is not None:
        which, values = f"{which} AND name = %s", [owner, rows.scope_name(name)]
    whole = f"m.class = ANY(%s) AND m.scope IN (SELECT id FROM {collection}_scopes WHERE {which})"
    bound: list[object] = [rows.classes_of(kind, level, with_ended=True), *values]
    return (whole, bound) if session is None else (f"m.session = %s AND {whole}", [session, *bound])


def expired(now_us: int) -> tuple[str, list[object]]:
    """The condition of what has expired."""
    return "m.expires_us <= %s", [now_us]


async def put_vectors(db: Connection, collection: str, vectors: Sequence[Vector]) -> None:
    """Keep these vectors of memories that hold."""
    by_model: dict[tuple[str, int], dict[bytes, bytes]] = {}
    for vector in vectors:
        if (id_ := rows.id_bytes(vector.id)) is not None:
            by_model.setdefault((vector.model, len(vector.data) // 2), {})[id_] = vector.data
    for (name, dimensions), data in by_model.items():
        model = await model_number(db, collection, name.encode(), dimensions)
        async with db.transaction():
            select = f"SELECT seq, id, scope, class FROM {collection}_memories WHERE id = ANY(%s) AND ended_us IS NULL"
            found = await (await db.execute(f"{select} ORDER BY seq FOR UPDATE".encode(), (list(data),))).fetchall()
            insert = (
                f"INSERT INTO {collection}_vectors (memory, scope, class, model, data)"
                f" VALUES (%s, %s, %s, {model}, %s::halfvec) ON CONFLICT (memory)"
                " DO UPDATE SET model = excluded.model, data = excluded.data"
            )
            values = [(seq, scope_id, class_, halfvec(data[id_])) for seq, id_, scope_id, class_ in found]
            async with db.cursor() as cursor:
                await cursor.executemany(insert.encode(), values)
            seqs = [seq for seq, *_ in found]
            await db.execute(f"UPDATE {collection}_memories SET model = {model} WHERE seq = ANY(%s)", (seqs,))


def halfvec(data: bytes) -> str:
    """A vector as pgvector reads it."""
    values = struct.unpack(f"<{len(data) // 2}e", data)
    return "[" + ",".join(str(value if math.isfinite(value) else 0.0) for value in values) + "]"

"""The tables of memories in PostgreSQL, and the steps that led to them; replicas that start together take turns.

All names begin with the collection's, so that several collections share a database. A step that was released is never
changed; what is new is another step. The lists of words are a table of their own (`postings`), not a GIN index: a list
is read from its newest end and no further than planned, where GIN reads it whole before the first row comes.

Vectors need the extension pgvector 0.7 or newer. Where it is missing and may not be made, all else works without.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Any

import psycopg
from psycopg import AsyncConnection

from gateway.ports_memory import MemoryFault

MIN_VECTOR_VERSION = (0, 7)
ITERATIVE_VERSION = (0, 8)
MAX_INDEXED_DIMENSIONS = 4000
_is_name = re.compile(r"[a-z_][a-z0-9_]{0,30}").fullmatch
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE {p}_scopes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, owner bytea NOT NULL,"
        " name bytea NOT NULL, UNIQUE (owner, name))",
        "CREATE TABLE {p}_models (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name bytea NOT NULL,"
        " dimensions integer NOT NULL, UNIQUE (name, dimensions))",
        "CREATE TABLE {p}_memories ("
        "seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id bytea NOT NULL CONSTRAINT {p}_memories_id UNIQUE,"
        " scope bigint NOT NULL, class smallint NOT NULL, key bytea NOT NULL, topic bytea, session bytea,"
        " observed_us bigint NOT NULL, seen_us bigint NOT NULL, ended_us bigint, expires_us bigint,"
        " confidence double precision NOT NULL, model integer NOT NULL DEFAULT 0, body bytea NOT NULL,"
        " terms bytea NOT NULL, CONSTRAINT {p}_memories_key UNIQUE (scope, key))",
        "CREATE INDEX {p}_memories_order ON {p}_memories (scope, observed_us, id, class, expires_us)",
        "CREATE INDEX {p}_memories_topic ON {p}_memories (scope, topic) WHERE topic IS NOT NULL AND ended_us IS NULL",
        "CREATE INDEX {p}_memories_session ON {p}_memories (session) WHERE session IS NOT NULL",
        "CREATE INDEX {p}_memories_expires ON {p}_memories (expires_us) WHERE expires_us IS NOT NULL",
        "CREATE INDEX {p}_memories_model ON {p}_memories (model, observed_us, id) WHERE ended_us IS NULL",
        "CREATE TABLE {p}_postings (bucket bigint NOT NULL, word bigint NOT NULL, memory bigint NOT NULL,"
        " PRIMARY KEY (bucket, word, memory)) WITH (autovacuum_vacuum_insert_scale_factor = 0.02,"
        " autovacuum_vacuum_scale_factor = 0.05)",
    ),
)
SCHEMA_VERSION = len(MIGRATIONS)
_VECTORS = (
    "CREATE TABLE IF NOT EXISTS {p}_vectors (memory bigint PRIMARY KEY, scope bigint NOT NULL, class smallint NOT NULL,"
    " model integer NOT NULL, data halfvec NOT NULL)",
    "CREATE INDEX IF NOT EXISTS {p}_vectors_scope ON {p}_vectors (scope, model)",
)


def checked_name(collection: str) -> str:
    """The name of a collection, which all its tables' names begin with.

    Raises:
        ValueError: it is no plain identifier of up to 31 characters.
    """
    if not _is_name(collection):
        raise ValueError(f"a collection's name has to be a-z, 0-9 and _, up to 31 of them; this is {collection!r}")
    return collection


def lock_number(*parts: object) -> int:
    """What an advisory lock on this is known by."""
    named = ":".join(map(str, ("llm-gateway", *parts)))
    return int.from_bytes(blake2b(named.encode(), digest_size=8).digest(), signed=True)


async def migrate(db: AsyncConnection[Any], collection: str) -> None:
    """Bring the tables to this version's.

    Raises:
        MemoryFault: they are a later version's.
    """
    async with db.transaction():
        await db.execute("SELECT pg_advisory_xact_lock(%s)", (lock_number(collection, "schema"),))
        await db.execute(f"CREATE TABLE IF NOT EXISTS {collection}_schema_version (version integer NOT NULL)")
        found = await (await db.execute(f"SELECT version FROM {collection}_schema_version")).fetchone()
        version = found[0] if found else 0
        if version > SCHEMA_VERSION:
            known = f"this one knows {SCHEMA_VERSION}"
            raise MemoryFault("down", f"the tables of {collection} are of format {version}, a later version's; {known}")
        for step in MIGRATIONS[version:]:
            for statement in step:
                await db.execute(statement.replace("{p}", collection).encode())
        if version < SCHEMA_VERSION:
            await db.execute(f"DELETE FROM {collection}_schema_version")
            await db.execute(f"INSERT INTO {collection}_schema_version VALUES ({SCHEMA_VERSION})")


async def prepare_vectors(db: AsyncConnection[Any], collection: str) -> tuple[int, ...]:
    """Make ready for vectors, as far as the server allows; returns the version of pgvector, or () for no vectors."""
    async with db.transaction():
        await db.execute("SELECT pg_advisory_xact_lock(%s)", (lock_number("vector"),))
        try:
            async with db.transaction():
                await db.execute("CREATE EXTENSION IF NOT EXISTS vector")
        except psycopg.Error as error:
            if isinstance(error, psycopg.OperationalError) and db.broken:
                raise
        found = await (await db.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'")).fetchone()
        version = tuple(int(part) for part in found[0].split(".") if part.isdecimal()) if found else ()
        if version < MIN_VECTOR_VERSION:
            return ()
        for statement in _VECTORS:
            await db.execute(statement.replace("{p}", collection).encode())
        return version


async def model_number(db: AsyncConnection[Any], collection: str, name: bytes, dimensions: int) -> int:
    """The number of a model and the length of its vectors; its index is made when it is first seen."""
    select = f"SELECT id FROM {collection}_models WHERE name = %s AND dimensions = %s"
    found = await (await db.execute(select, (name, dimensions))).fetchone()
    if found is not None:
        return int(found[0])
    async with db.transaction():
        await db.execute("SELECT pg_advisory_xact_lock(%s)", (lock_number(collection, "models"),))
        await db.execute(
            f"INSERT INTO {collection}_models (name, dimensions) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            (name, dimensions),
        )
        found = await (await db.execute(select, (name, dimensions))).fetchone()
        number = int(found[0]) if found else 0
        if dimensions <= MAX_INDEXED_DIMENSIONS:
            await db.execute(
                f"CREATE INDEX IF NOT EXISTS {collection}_vectors_{number} ON {collection}_vectors"
                f" USING hnsw ((data::halfvec({dimensions})) halfvec_ip_ops) WHERE model = {number}".encode()
            )
    return number

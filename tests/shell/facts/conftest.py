"""Every kind of store of memories, for the tests of what all promise."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.ports_memory import MemoryStore
from gateway.shell.facts.postgres import PostgresMemoryStore
from gateway.shell.facts.sqlite import SqliteMemoryStore
from tests.postgres_server import postgres_server, shared_postgres
from tests.shell.facts.memories import Clock

__all__ = ["postgres_server", "shared_postgres"]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "file", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[MemoryStore]:
    made: SqliteMemoryStore | PostgresMemoryStore
    if request.param == "postgres":
        made = PostgresMemoryStore(request.getfixturevalue("postgres_server").dsn, clock=clock)
    else:
        made = SqliteMemoryStore(tmp_path / "facts.db" if request.param == "file" else None, clock=clock)
    yield made
    await made.close()


@pytest.fixture
async def with_vectors(store: MemoryStore) -> None:
    """Skips where the store has no vectors."""
    if isinstance(store, SqliteMemoryStore):
        pytest.importorskip("numpy", "2", reason="numpy is not installed")
    if isinstance(store, PostgresMemoryStore):
        await store.open()
        if not store.has_vectors:
            pytest.skip("this PostgreSQL has no pgvector")

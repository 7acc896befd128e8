"""Every kind of store of memories, for the tests of what all promise."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.ports_memory import MemoryStore
from gateway.shell.facts.sqlite import SqliteMemoryStore
from tests.shell.facts.memories import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "file"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[MemoryStore]:
    made = SqliteMemoryStore(tmp_path / "facts.db" if request.param == "file" else None, clock=clock)
    yield made
    await made.close()


@pytest.fixture
def with_vectors(store: MemoryStore) -> None:
    """Skips where the store has no vectors."""
    if isinstance(store, SqliteMemoryStore):
        pytest.importorskip("numpy", "2", reason="numpy is not installed")

"""Every kind of store of documents, for the tests of what all promise."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.shell.vision.sqlite import SqliteDocumentStore
from tests.shell.vision.documents import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "file"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[SqliteDocumentStore]:
    made = SqliteDocumentStore(tmp_path / "vision.db" if request.param == "file" else None, clock=clock)
    yield made
    await made.close()

"""Jobs of indexing with what they need, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from gateway.core.facts.memory import Scope
from gateway.core.vision.document import Job, JobStatus
from gateway.shell.vision.index_run import IndexOptions
from gateway.shell.vision.indexing import IndexJobs
from tests.fakes.document_readers import MadeFetcher, MadeReader
from tests.shell.vision.documents import ALICE

QUICK = IndexOptions(poll_s=0.02, first_wait_s=0.001, longest_wait_s=0.01)
ENDED = (JobStatus.SUCCEEDED, JobStatus.FAILED)


def count(text: str) -> int:
    """Tokens: words."""
    return len(text.split())


class Works:
    """Jobs over a store, with a made reader and fetcher unless others are given."""

    def __init__(self, store: Any, reader: Any = None, options: IndexOptions = QUICK, **rest: Any) -> None:
        self.store = store
        self.reader = reader or MadeReader()
        self.fetcher = MadeFetcher()
        self.jobs = IndexJobs(store, self.reader, self.fetcher, count, options, **rest)

    async def submit(self, data: bytes | None, scope: Scope = ALICE, source: str = "a.txt", **rest: Any) -> Job:
        told: dict[str, Any] = {"metadata": {}, "is_forced": False} | rest
        return await self.jobs.submit(scope, source, data, told["metadata"], is_forced=told["is_forced"])

    async def ended(self, job: Job) -> Job:
        """The job, once it has ended."""
        while True:
            now = await self.store.job(job.scope.owner, job.id)
            assert now is not None
            if now.status in ENDED and job.id not in self.jobs._runs:
                return now  # type: ignore[no-any-return]
            await asyncio.sleep(0.002)

    async def index(self, data: bytes | None, **rest: Any) -> Job:
        """Order and wait."""
        return await self.ended(await self.submit(data, **rest))


@asynccontextmanager
async def works(store: Any, reader: Any = None, options: IndexOptions = QUICK, **rest: Any) -> AsyncIterator[Works]:
    """Jobs that are worked on."""
    made = Works(store, reader, options, **rest)
    await made.jobs.start()
    try:
        yield made
    finally:
        await made.jobs.close()

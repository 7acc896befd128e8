"""Orders to index documents: taken, cancelled, and worked on in the background, by one worker or several.

Jobs wait in the store of documents, which may be shared with other processes: who claims one works on it while its
lease lasts. A job that was given here starts at once; one that another process lost is found at the next look. While
the store is not there workers wait and ask again. What runs when the gateway closes is given back, and goes on where
it was, here or elsewhere.

Invariants, each with a test of its own:
  1. No job that was taken is lost, whatever the store or a process does; each ends once.
  2. The same bytes in the same scope are read once, unless that is asked for.
  3. `close` takes about a second, whatever runs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from gateway.core.facts.memory import Scope
from gateway.core.vision.document import Job, JobStatus
from gateway.ports_vision import DocumentStore, Fetcher, Reader, VisionFault
from gateway.shell.vision.index_figures import IndexFigures
from gateway.shell.vision.index_run import IndexOptions, IndexParts, JobRun, Turns, cancelled

_log = logging.getLogger("gateway.vision.indexing")
_CLOSE_S = 5.0


class IndexJobs:
    """The queue and its workers.

    Args:
        store: where jobs and documents are kept.
        reader: reads documents; whoever made it closes it, after this.
        fetcher: brings those that are named by URL.
        count: tokens of a text; called from threads for large ones.
        options: how jobs are worked on.
        clock: seconds since 1970.

    Attributes:
        figures: what was done so far.
    """

    def __init__(
        self,
        store: DocumentStore,
        reader: Reader,
        fetcher: Fetcher,
        count: Callable[[str], int],
        options: IndexOptions,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.figures = IndexFigures()
        self._store = store
        self._options = options
        self._parts = IndexParts(store, reader, fetcher, count, clock, options, self.figures)
        self._turns = Turns()
        self._runs: dict[str, JobRun] = {}
        self._news = [asyncio.Event() for _ in range(options.workers)]
        self._name = f"{os.getpid()}-{os.urandom(6).hex()}"
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start to work on jobs."""
        works = [self._work(f"{self._name}-{number}", news) for number, news in enumerate(self._news)]
        self._tasks = [asyncio.create_task(work, name="index worker") for work in works]

    async def close(self) -> None:
        """Stop; what runs is given back."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSE_S)
        self._tasks = []

    async def submit(
        self, scope: Scope, source: str, data: bytes | None, metadata: Mapping[str, Any], *, is_forced: bool
    ) -> Job:
        """Order a document to be indexed.

        Args:
            scope: for whom.
            source: its URL; the name of the file where its bytes come along.
            data: its bytes, or None to fetch them.
            metadata: for the document.
            is_forced: read it even if it is indexed already.

        Raises:
            VisionFault: `full`, so many wait already; or the store's.
        """
        job = Job(
            id=os.urandom(16).hex(),
            scope=scope,
            source=source,
            is_uploaded=data is not None,
            metadata=metadata,
            is_forced=is_forced,
            created_us=self._parts.now_us(),
        )
        await self._store.put_job(job, data, self._options.queue_max)
        for news in self._news:
            news.set()
        return job

    async def cancel(self, owner: bytes, job_id: str) -> Job | None:
        """End a job if it has not ended.

        Returns:
            The job as it is now; None where this owner has none of this id.

        Raises:
            VisionFault: the store's.
        """
        job = await self._store.job(owner, job_id)
        if job is None or job.status in (JobStatus.SUCCEEDED, JobStatus.FAILED):
            return job
        ended = cancelled(job, self._parts.now_us())
        if not await self._store.cancel_job(ended):
            return await self._store.job(owner, job_id)
        if (run := self._runs.get(job_id)) is not None:
            run.stop()
        elif job.status is JobStatus.QUEUED:
            self.figures.jobs["cancelled"] += 1  # what it had begun is swept up
        return ended

    async def waiting(self) -> int:
        """Jobs that wait, as the store says.

        Raises:
            VisionFault: the store's.
        """
        return await self._store.waiting_jobs()

    @property
    def running(self) -> int:
        """Jobs that this process works on."""
        return len(self._runs)

    async def _work(self, worker: str, news: asyncio.Event) -> None:
        """Work on one job after the other."""
        wait_s = self._options.first_wait_s
        while True:
            news.clear()
            try:
                is_idle = not await self._work_once(worker)
            except VisionFault as fault:
                _log.warning("indexing waits", extra={"kind": fault.kind, "wait_s": wait_s})
                self.figures.store_waits += 1
            except Exception:  # noqa: BLE001 - one job's trouble must not end the worker
                _log.exception("a worker of indexing met a fault")
            else:
                wait_s = self._options.first_wait_s
                if is_idle:
                    await _heard(news, self._options.poll_s)
                continue
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, self._options.longest_wait_s)

    async def _work_once(self, worker: str) -> bool:
        """Claim a job and work on it; returns whether there was one."""
        job = await self._claim(worker)
        if job is None:
            return False
        run = JobRun(self._parts, self._turns, worker, job)
        self._runs[job.id] = run
        try:
            await run.run()
        finally:
            if self._runs.get(job.id) is run:
                del self._runs[job.id]
        return True

    async def _claim(self, worker: str) -> Job | None:
        """The next job; one that is claimed while the gateway closes is given back."""
        lease_us = int(self._options.lease_s * 1e6)
        claim = asyncio.ensure_future(self._store.claim_job(worker, self._parts.now_us(), lease_us))
        try:
            return await asyncio.shield(claim)
        except asyncio.CancelledError:
            with suppress(VisionFault):
                if (job := await claim) is not None:
                    await JobRun(self._parts, self._turns, worker, job).release()
            raise


async def _heard(news: asyncio.Event, poll_s: float) -> None:
    """Wait for news, or until it is time to look anyway."""
    with suppress(TimeoutError):
        async with asyncio.timeout(poll_s):
            await news.wait()

"""Orders to index documents: taken at once, carried out in the background, by one worker each, whatever ends.

An order is a job in the store, leased to its worker while it runs. What a worker has read is kept page by page, so a
job whose worker has died is taken up by another where it was left. A store that is down is waited for.

Invariants, each with a test of its own:
  1. A job that was taken ends: it succeeds, or fails with a reason; once, whoever works on it.
  2. A page that was kept is not read again, but where the order says so.
  3. The same bytes are one document of their memory, however many orders for them run at once.
  4. When this is closed, what runs is given back at once and nothing is left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from msgspec.structs import replace

from gateway.core.facts.memory import Scope
from gateway.core.vision.document import Document, Job, JobError, JobStatus, LaidPage, Region
from gateway.ports_vision import DocumentStore, Fetcher, Reader, VisionFault

T = TypeVar("T")
_log = logging.getLogger("gateway.vision")
_CODES = {
    "unreadable": "VALIDATION_ERROR",
    "forbidden": "VALIDATION_ERROR",
    "timeout": "TIMEOUT",
    "upstream": "UPSTREAM_ERROR",
    "disabled": "UPSTREAM_DISABLED",
}
_CANCELLED = JobError("CONFLICT", "The job was cancelled.")
_WAITED_FOR = frozenset({"down", "timeout"})
_FIRST_PAUSE_S, _MAX_PAUSE_S = 0.05, 5.0
_MAX_FAULTS = 3
"""A call that fails so often, while the store answers otherwise, fails the job."""
_COUNT_HERE_CHARS = 4_000
_GIVE_BACK_S = 1.0


@dataclass(frozen=True, slots=True)
class IndexRules:
    """How orders are carried out.

    Attributes:
        workers: documents that are indexed at once.
        queue_max: orders that may wait.
        lease_s: after so long without a word a worker is taken for dead.
        poll_s: how often orders of other processes are looked for.
    """

    workers: int = 1
    queue_max: int = 100
    lease_s: float = 60.0
    poll_s: float = 5.0


class _Lost(Exception):  # noqa: N818 - named for what it is
    """The job has ended, or is another's."""


@dataclass(slots=True)
class _Run:
    """A job on which a worker works."""

    job: Job
    worker: str


class IndexJobs:
    """`seeing.Jobs`, with the workers that carry them out.

    Args:
        store: of documents and jobs.
        reader: of documents.
        fetcher: of documents that are named by URL.
        count: tokens of a text.
        rules: how orders are carried out.
        clock: seconds since 1970.

    Attributes:
        tally: jobs by how they ended: succeeded, duplicate, failed, cancelled, given_back.
    """

    def __init__(
        self,
        store: DocumentStore,
        reader: Reader,
        fetcher: Fetcher,
        count: Callable[[str], int],
        rules: IndexRules,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.tally: Counter[str] = Counter()
        self._store = store
        self._reader = reader
        self._fetcher = fetcher
        self._count = count
        self._rules = rules
        self._clock = clock
        self._wake = asyncio.Event()
        self._workers: list[asyncio.Task[None]] = []
        self._running: dict[str, asyncio.Task[Job]] = {}
        self._cancelled: set[str] = set()
        self._turns: dict[str, list[asyncio.Lock]] = {}

    async def start(self) -> None:
        """Carry out orders from now on, those of earlier processes first."""
        self._workers = [asyncio.create_task(self._work(os.urandom(8).hex())) for _ in range(self._rules.workers)]

    async def close(self) -> None:
        """Give back what runs."""
        for worker in self._workers:
            worker.cancel()
        if self._workers:
            await asyncio.wait(self._workers)
        self._workers = []

    async def submit(
        self, scope: Scope, source: str, data: bytes | None, metadata: Mapping[str, Any], *, is_forced: bool
    ) -> Job:
        """Take an order.

        Raises:
            VisionFault: `full` or `down`.
        """
        job = Job(os.urandom(16).hex(), scope, source, data is not None, metadata, is_forced, self._now_us())
        await self._store.put_job(job, data, self._rules.queue_max)
        self._wake.set()
        return job

    async def cancel(self, owner: bytes, job_id: str) -> Job | None:
        """End a job; returns what became of it, None where it is not this owner's.

        Raises:
            VisionFault: the store does not answer.
        """
        job = await self._store.job(owner, job_id)
        if job is None or job.ended_us is not None:
            return job
        ended = replace(job, status=JobStatus.FAILED, error=_CANCELLED, ended_us=self._now_us())
        if not await self._store.cancel_job(ended):
            return await self._store.job(owner, job_id)
        self.tally["cancelled"] += 1
        if (running := self._running.get(job_id)) is not None:
            self._cancelled.add(job_id)
            running.cancel()
        return ended

    # Workers

    async def _work(self, worker: str) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            self._wake.clear()
            try:
                job = await self._store.claim_job(worker, self._now_us(), self._lease_us)
            except VisionFault:
                await asyncio.sleep(pause_s)
                pause_s = min(_MAX_PAUSE_S, 2 * pause_s)
                continue
            pause_s = _FIRST_PAUSE_S
            if job is not None:
                await self._carry_out(_Run(job, worker))
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._rules.poll_s):
                    await self._wake.wait()

    async def _carry_out(self, run: _Run) -> None:
        """See a job through to its end, or give it back where this is cancelled."""
        working = asyncio.create_task(self._index(run))
        beating = asyncio.create_task(self._beat(run, working))
        self._running[run.job.id] = working
        try:
            await asyncio.wait([working])
        except asyncio.CancelledError:
            await _ended(working, beating)
            await self._give_back(run)
            raise
        finally:
            del self._running[run.job.id]
        await _ended(beating)
        if not working.cancelled():
            await self._end(run, working)
        elif run.job.id in self._cancelled and run.job.doc_id:
            with contextlib.suppress(VisionFault):  # else it is swept
                await self._store.abandon(run.job.doc_id)
        self._cancelled.discard(run.job.id)

    async def _end(self, run: _Run, working: asyncio.Task[Job]) -> None:
        error = working.exception()
        if isinstance(error, _Lost):
            return
        job = run.job
        if error is None:
            job = working.result()
            self.tally["duplicate" if job.is_duplicate else "succeeded"] += 1
        else:
            if isinstance(error, VisionFault):
                told = JobError(_CODES.get(error.kind, "INTERNAL_ERROR"), error.message)
            else:
                _log.error("a document could not be indexed", exc_info=error, extra={"job_id": job.id})
                told = JobError("INTERNAL_ERROR", f"The gateway failed on it; its log names the job {job.id}.")
            job = replace(job, status=JobStatus.FAILED, error=told)
            self.tally["failed"] += 1
        run.job = replace(job, ended_us=self._now_us())
        try:
            if error is not None and job.doc_id:
                await self._waited(run, lambda: self._store.abandon(job.doc_id))
            await self._waited(run, lambda: self._save(run))
        except _Lost:
            return
        except VisionFault as fault:
            _log.warning("the end of a job could not be kept", extra={"job_id": job.id, "kind": fault.kind})

    async def _give_back(self, run: _Run) -> None:
        """Let another worker take it up at once; where that cannot be said, it takes it up after the lease."""
        self.tally["given_back"] += 1
        try:
            async with asyncio.timeout(_GIVE_BACK_S):
                await self._store.save_job(replace(run.job, status=JobStatus.QUEUED), run.worker, 0)
        except (VisionFault, TimeoutError) as fault:
            _log.warning("a job could not be given back", extra={"job_id": run.job.id, "reason": str(fault)})

    async def _beat(self, run: _Run, working: asyncio.Task[Job]) -> None:
        """Keep the lease while a page takes long, and give up what is lost."""
        while True:
            await asyncio.sleep(self._rules.lease_s / 4)
            try:
                await self._save(run)
            except _Lost:
                working.cancel()
                return
            except VisionFault:
                continue

    # One job

    async def _index(self, run: _Run) -> Job:
        """Do it; returns the job as it ends.

        Raises:
            VisionFault: it cannot be done.
            _Lost: it is not ours any more.
        """
        job = run.job
        data = await self._data_of(run)
        hash_ = await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())
        doc_id = doc_id_of(job.scope, hash_)
        async with self._turn(doc_id):
            found = await self._waited(run, lambda: self._store.find(job.scope, hash_))
            if found is not None and not job.is_forced:
                done = replace(run.job, doc_id=found.id, pages=found.pages, pages_done=found.pages, is_duplicate=True)
                return replace(done, status=JobStatus.SUCCEEDED)
            inspected = await self._reader.inspect(data)
            created_us = found.created_us if found is not None else job.created_us
            document = Document(
                id=doc_id,
                scope=job.scope,
                hash=hash_,
                source=job.source,
                media_type=inspected.media_type,
                size_bytes=len(data),
                metadata=job.metadata,
                pages=inspected.pages,
                created_us=created_us,
            )
            kept = await self._waited(run, lambda: self._store.begin(document, data))
            run.job = replace(run.job, doc_id=doc_id, pages=inspected.pages, pages_done=kept)
            await self._waited(run, lambda: self._save(run))
            await self._read(run, data, kept + 1)
            await self._waited(run, lambda: self._store.finish(doc_id))
        return replace(run.job, status=JobStatus.SUCCEEDED)

    async def _data_of(self, run: _Run) -> bytes:
        job = run.job
        if not job.is_uploaded:
            return await self._fetcher.fetch(job.source)
        data = await self._waited(run, lambda: self._store.job_data(job.id))
        if data is None:
            raise _Lost
        return data

    async def _read(self, run: _Run, data: bytes, first: int) -> None:
        """Read and keep the pages from this one."""
        doc_id, number = run.job.doc_id, first
        async with aclosing(self._reader.pages(data, first)) as pages:
            async for page in pages:
                await self._keep(run, doc_id, number, page)
                number += 1

    async def _keep(self, run: _Run, doc_id: str, number: int, page: LaidPage) -> None:
        costs = await self._costs_of(page)
        regions = [
            Region(os.urandom(16).hex(), doc_id, number, laid, tokens, page.size)
            for laid, tokens in zip(page.regions, costs, strict=True)
        ]
        await self._waited(run, lambda: self._store.add_page(doc_id, number, page, regions))
        run.job = replace(run.job, pages_done=number)
        await self._waited(run, lambda: self._save(run))

    async def _costs_of(self, page: LaidPage) -> list[int]:
        """Tokens of each region's text and caption."""
        texts = [f"{laid.caption}\n{laid.text}" if laid.caption else laid.text for laid in page.regions]
        if sum(map(len, texts)) <= _COUNT_HERE_CHARS:
            return list(map(self._count, texts))
        return await asyncio.to_thread(lambda: list(map(self._count, texts)))

    # The store

    async def _save(self, run: _Run) -> None:
        """Keep how far a job is, and the lease.

        Raises:
            _Lost: it is not ours any more.
            VisionFault: the store does not answer.
        """
        if not await self._store.save_job(run.job, run.worker, self._now_us() + self._lease_us):
            raise _Lost

    async def _waited(self, run: _Run, call: Callable[[], Awaitable[T]]) -> T:
        """What the store answers, however long it is down.

        Raises:
            VisionFault: it answers otherwise, but not to this.
            _Lost: the job is not ours any more.
        """
        pause_s, faults = _FIRST_PAUSE_S, 0
        while True:
            try:
                return await call()
            except VisionFault as fault:
                if fault.kind not in _WAITED_FOR or faults >= _MAX_FAULTS:
                    raise
            await asyncio.sleep(pause_s)
            pause_s = min(_MAX_PAUSE_S, 2 * pause_s)
            faults += await self._is_up(run)

    async def _is_up(self, run: _Run) -> bool:
        """Whether the store answers at all."""
        try:
            await self._save(run)
        except VisionFault:
            return False
        return True

    @asynccontextmanager
    async def _turn(self, doc_id: str) -> AsyncIterator[None]:
        """Orders for the same document wait for each other."""
        locks = self._turns.setdefault(doc_id, [])
        lock = locks[0] if locks else asyncio.Lock()
        locks.append(lock)
        try:
            async with lock:
                yield
        finally:
            locks.pop()
            if not locks:
                self._turns.pop(doc_id, None)

    @property
    def _lease_us(self) -> int:
        return int(self._rules.lease_s * 1e6)

    def _now_us(self) -> int:
        return int(self._clock() * 1e6)


def doc_id_of(scope: Scope, hash_: str) -> str:
    """The id of the document of these bytes in a memory: the same each time, and no other memory's."""
    name = scope.name.encode("utf-8", "surrogatepass")
    return hashlib.sha256(scope.owner + len(name).to_bytes(8) + name + bytes.fromhex(hash_)).hexdigest()[:32]


async def _ended(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)

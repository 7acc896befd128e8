"""One job of indexing, from its bytes to a document that is found.

The store decides whose a job is: the lease is kept up beside the work, and where it is lost the work stops. While the
store is not there the work waits for it; it is neither failed nor forgotten. Pages that are kept are not read again,
whoever goes on with the job.

Invariants, each with a test of its own:
  1. A job that was begun by another goes on at the first page that is not kept.
  2. A job that fails or is cancelled leaves nothing of its document, and one that was there before stays.
  3. What is told of a failure is one of the codes, and of a fault of our own nothing but that it was one.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

from gateway.core.facts.memory import Scope
from gateway.core.vision.document import Document, Job, JobError, JobStatus, LaidPage, Region
from gateway.ports_vision import DocumentStore, Fetcher, Inspected, Reader, VisionFault
from gateway.shell.vision.index_figures import IndexFigures

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

T = TypeVar("T")
_log = logging.getLogger("gateway.vision.indexing")
PASSING = frozenset({"down", "timeout"})
"""Kinds of faults of a store that pass by themselves."""
_CODES = {
    "unreadable": "VALIDATION_ERROR",
    "forbidden": "VALIDATION_ERROR",
    "timeout": "TIMEOUT",
    "upstream": "UPSTREAM_ERROR",
    "disabled": "UPSTREAM_DISABLED",
}
_LARGE_BYTES = 1 << 18
_LARGE_CHARACTERS = 1 << 14
_MAX_REFUSALS = 3
"""A store that is there and says `down` so often means what was asked for: the document was deleted meanwhile."""
_STARTS = 3
_RELEASE_S = 1.0
_CANCELLED = JobError("CONFLICT", "The job was cancelled.")
_BROKEN = JobError("INTERNAL_ERROR", "Indexing failed by a fault of the gateway; its log says which.")


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """How jobs are worked on.

    Attributes:
        workers: jobs at once.
        queue_max: jobs that may wait.
        lease_s: a worker that has not been heard of for so long has lost its job.
        poll_s: how often it is looked for jobs that others lost.
        first_wait_s: until a store that was not there is asked again; doubled each time, up to
        longest_wait_s: this.
    """

    workers: int = 1
    queue_max: int = 100
    lease_s: float = 30.0
    poll_s: float = 5.0
    first_wait_s: float = 0.25
    longest_wait_s: float = 10.0


class IndexParts(NamedTuple):
    """What jobs are worked on with; `count` is tokens of a text, called from threads for large ones."""

    store: DocumentStore
    reader: Reader
    fetcher: Fetcher
    count: Callable[[str], int]
    clock: Callable[[], float]
    options: IndexOptions
    figures: IndexFigures

    def now_us(self) -> int:
        """Microseconds since 1970."""
        return int(self.clock() * 1e6)


class Turns:
    """One at a time for each document, and others meanwhile."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def of(self, doc_id: str) -> AsyncGenerator[None, None]:
        """Its turn."""
        lock, users = self._locks.get(doc_id) or (asyncio.Lock(), 0)
        self._locks[doc_id] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            _, users = self._locks.pop(doc_id)
            if users > 1:
                self._locks[doc_id] = (lock, users - 1)


def doc_id_of(scope: Scope, hash_: str) -> str:
    """The id that a document of these bytes has in a scope, always."""
    name = scope.name.encode()
    parts = (scope.owner, len(name).to_bytes(4, "big"), name, bytes.fromhex(hash_))
    return hashlib.sha256(b"".join(parts)).hexdigest()[:32]


def cancelled(job: Job, now_us: int) -> Job:
    """The job as it ends when it is cancelled."""
    return msgspec.structs.replace(job, status=JobStatus.FAILED, error=_CANCELLED, ended_us=now_us)


class JobLostError(Exception):
    """The job is not this worker's any more: it was cancelled, deleted, or taken over."""


class StoreRefusalError(Exception):
    """The store is there, and will not do it: the document was deleted meanwhile, say."""


class JobRun:
    """A job that a worker has claimed."""

    def __init__(self, parts: IndexParts, turns: Turns, worker: str, job: Job) -> None:
        self._parts = parts
        self._turns = turns
        self._worker = worker
        self._job = job
        self._work: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """Stop working on it: it was cancelled."""
        if self._work is not None:
            self._work.cancel()

    async def run(self) -> None:
        """Work on it until it ends, or is another's.

        A worker that is cancelled itself gives the job back first.

        Raises:
            VisionFault: `down`, nothing can be read on this machine just now; the job was given back.
        """
        self._work = asyncio.create_task(self._index(), name=f"index {self._job.id}")
        beat = asyncio.create_task(self._keep_lease(), name=f"lease {self._job.id}")
        try:
            await asyncio.wait({self._work})
            beat.cancel()
            await self._settle(self._work)
        except asyncio.CancelledError:
            self._work.cancel()
            await asyncio.wait({self._work}, timeout=_RELEASE_S)
            await self.release()
            raise
        finally:
            beat.cancel()

    async def _settle(self, work: asyncio.Task[None]) -> None:
        """See to what the work came to."""
        if work.cancelled():
            await self._lost()
            return
        match work.exception():
            case None:
                return
            case JobLostError():
                await self._lost()
            case VisionFault(kind="down") as fault:
                await self.release()
                raise fault
            case VisionFault() as fault:
                await self._fail(JobError(_CODES.get(fault.kind, "INTERNAL_ERROR"), fault.message))
            case StoreRefusalError() as fault:
                await self._fail(JobError("INTERNAL_ERROR", str(fault)))
            case fault:
                _log.error("a document could not be indexed", exc_info=fault, extra={"job": self._job.id})
                await self._fail(_BROKEN)

    async def _index(self) -> None:
        """All of it."""
        data = await self._bytes()
        hash_ = await _hash_of(data)
        doc_id = doc_id_of(self._job.scope, hash_)
        async with self._turns.of(doc_id):
            if not self._job.is_forced:
                existing = await self._with_store(lambda: self._parts.store.find(self._job.scope, hash_))
                if existing is not None:
                    await self._succeed(existing, is_duplicate=True)
                    return
            inspected = await self._parts.reader.inspect(data)
            document = self._document(doc_id, hash_, len(data), inspected)
            await self._succeed(await self._keep(document, data), is_duplicate=False)

    async def _bytes(self) -> bytes:
        if not self._job.is_uploaded:
            return await self._parts.fetcher.fetch(self._job.source)
        data = await self._with_store(lambda: self._parts.store.job_data(self._job.id))
        if data is None:
            await self._save()  # which knows whether the job has ended, and its bytes have gone with it
            raise StoreRefusalError("The bytes of the document are not kept any more: upload it again.")
        return data

    def _document(self, doc_id: str, hash_: str, size_bytes: int, inspected: Inspected) -> Document:
        job = self._job
        return Document(
            id=doc_id,
            scope=job.scope,
            hash=hash_,
            source=job.source,
            media_type=inspected.media_type,
            size_bytes=size_bytes,
            metadata=job.metadata,
            pages=inspected.pages,
            created_us=job.created_us,
        )

    async def _keep(self, document: Document, data: bytes) -> Document:
        """Read what is not kept of it, and let it be found."""
        store = self._parts.store
        if self._job.doc_id not in ("", document.id):  # the URL leads to other bytes than before
            begun = self._job.doc_id
            await self._with_store(lambda: store.abandon(begun))
        for _ in range(_STARTS):
            kept = await self._with_store(lambda: store.begin(document, data))
            await self._save(doc_id=document.id, pages=document.pages, pages_done=kept)
            if kept < document.pages:
                await self._read(document, data, kept + 1)
            try:
                return await self._with_store(lambda: store.finish(document.id))
            except ValueError:  # another process has begun it anew, with other metadata: pages are missing
                continue
        raise StoreRefusalError("The document is indexed by several at once, each with other metadata: try again.")

    async def _read(self, document: Document, data: bytes, first: int) -> None:
        number = first
        async with aclosing(self._parts.reader.pages(data, first)) as pages:
            async for page in pages:
                await self._add(document.id, number, page)
                number += 1

    async def _add(self, doc_id: str, number: int, page: LaidPage) -> None:
        characters = sum(len(region.text) + len(region.caption) for region in page.regions)
        if characters > _LARGE_CHARACTERS:
            regions = await asyncio.to_thread(self._regions, doc_id, number, page)
        else:
            regions = self._regions(doc_id, number, page)
        await self._with_store(lambda: self._parts.store.add_page(doc_id, number, page, regions))
        await self._save(pages_done=number)

    def _regions(self, doc_id: str, number: int, page: LaidPage) -> list[Region]:
        count = self._parts.count
        return [
            Region(
                id=os.urandom(16).hex(),
                doc_id=doc_id,
                page=number,
                laid=laid,
                token_estimate=count("\n".join(filter(None, (laid.text, laid.caption)))),
                page_size=page.size,
            )
            for laid in page.regions
        ]

    async def _succeed(self, document: Document, *, is_duplicate: bool) -> None:
        await self._save(
            status=JobStatus.SUCCEEDED,
            doc_id=document.id,
            pages=document.pages,
            pages_done=document.pages,
            is_duplicate=is_duplicate,
            ended_us=self._parts.now_us(),
        )
        self._parts.figures.jobs["succeeded"] += 1
        self._parts.figures.duplicates += is_duplicate

    async def _fail(self, error: JobError) -> None:
        try:
            await self._with_store(self._abandon)
            await self._save(status=JobStatus.FAILED, error=error, ended_us=self._parts.now_us())
        except JobLostError:
            await self._lost()
            return
        self._parts.figures.jobs["failed"] += 1
        self._parts.figures.errors[error.code] += 1
        _log.info("a document was not indexed", extra={"job": self._job.id, "code": error.code})

    async def _lost(self) -> None:
        """Let go of what it left, unless another goes on with it."""
        job = self._job
        try:
            now = await self._parts.store.job(job.scope.owner, job.id)
            if now is None or now.status is JobStatus.FAILED:
                self._parts.figures.jobs["cancelled"] += 1
                await self._abandon()
        except VisionFault as fault:  # what nobody goes on with is swept up later
            _log.info("a lost job was not looked after", extra={"job": job.id, "kind": fault.kind})

    async def _abandon(self) -> None:
        if doc_id := self._job.doc_id:
            async with self._turns.of(doc_id):
                await self._parts.store.abandon(doc_id)

    async def release(self) -> None:
        """Give the job back, for whoever is next."""
        released = msgspec.structs.replace(self._job, status=JobStatus.QUEUED)
        try:
            async with asyncio.timeout(_RELEASE_S):
                if await self._parts.store.save_job(released, self._worker, 0):
                    self._parts.figures.jobs["released"] += 1
        except (VisionFault, TimeoutError):  # then its lease runs out
            _log.warning("a job could not be given back", extra={"job": self._job.id})

    async def _save(self, **changes: object) -> None:
        """Keep how far the job is, and the lease.

        Raises:
            JobLostError: it is not ours any more.
        """
        self._job = msgspec.structs.replace(self._job, **({"status": JobStatus.RUNNING} | changes))
        wait_s = self._parts.options.first_wait_s
        while not (is_ours := await self._try_to_save()):
            if is_ours is False:
                raise JobLostError
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, self._parts.options.longest_wait_s)

    async def _try_to_save(self) -> bool | None:
        """Whether the job is ours; None where the store is not there."""
        try:
            return await self._parts.store.save_job(self._job, self._worker, self._lease_until_us())
        except VisionFault as fault:
            if fault.kind not in PASSING:
                raise
            self._parts.figures.store_waits += 1
            return None

    async def _with_store(self, call: Callable[[], Awaitable[T]]) -> T:
        """Ask the store, and wait for it as long as it is not there.

        Raises:
            JobLostError: the job is not ours any more.
            StoreRefusalError: it will not do it.
            VisionFault: `full`.
        """
        refusals = 0
        while True:
            try:
                return await call()
            except VisionFault as fault:
                if fault.kind not in PASSING:
                    raise
                refusals += 1
                if refusals > _MAX_REFUSALS:
                    raise StoreRefusalError(fault.message) from fault
            await asyncio.sleep(self._parts.options.first_wait_s)
            await self._save()  # which waits until the store is there

    async def _keep_lease(self) -> None:
        """Keep the job while a page takes long; stop where it is not ours any more."""
        while True:
            await asyncio.sleep(self._parts.options.lease_s / 3)
            if await self._try_to_save() is False:
                self.stop()
                return

    def _lease_until_us(self) -> int:
        return self._parts.now_us() + int(self._parts.options.lease_s * 1e6)


async def _hash_of(data: bytes) -> str:
    digest = await asyncio.to_thread(hashlib.sha256, data) if len(data) > _LARGE_BYTES else hashlib.sha256(data)
    return digest.hexdigest()

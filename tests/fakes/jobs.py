"""A fake behind `seeing.Jobs`: each order is carried out at once, by one reader, into one store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from gateway.core.facts.memory import Scope
from gateway.core.vision.document import Document, Job, JobError, JobStatus, Region
from gateway.ports_vision import DocumentStore, Reader, VisionFault

WORKER = "fake"
_LEASE_US = 10**15


@dataclass
class ImmediateJobs:
    """`seeing.Jobs`; URLs are looked up in `web`. `holds`: orders are only taken."""

    store: DocumentStore
    reader: Reader
    queue_max: int = 100
    web: dict[str, bytes] = field(default_factory=dict)
    holds: bool = False

    async def submit(
        self, scope: Scope, source: str, data: bytes | None, metadata: Mapping[str, Any], *, is_forced: bool
    ) -> Job:
        job = Job(os.urandom(16).hex(), scope, source, data is not None, metadata, is_forced, 1_000_000)
        await self.store.put_job(job, data, self.queue_max)
        if self.holds:
            return job
        running = await self.store.claim_job(WORKER, 1_000_000, _LEASE_US)
        assert running is not None
        try:
            ended = await self._indexed(running, self.web[source] if data is None else data)
        except VisionFault as fault:
            error = JobError("VALIDATION_ERROR", fault.message)
            ended = replace(running, status=JobStatus.FAILED, error=error, ended_us=2_000_000)
        await self.store.save_job(ended, WORKER, _LEASE_US)
        return job

    async def _indexed(self, job: Job, data: bytes) -> Job:
        hash_ = hashlib.sha256(data).hexdigest()
        found = await self.store.find(job.scope, hash_)
        if found is not None and not job.is_forced:
            return replace(job, status=JobStatus.SUCCEEDED, doc_id=found.id, is_duplicate=True, ended_us=2_000_000)
        inspected = await self.reader.inspect(data)
        doc_id = hashlib.sha256(job.scope.owner + job.scope.name.encode() + data).hexdigest()[:32]
        document = Document(
            doc_id,
            job.scope,
            hash_,
            job.source,
            inspected.media_type,
            len(data),
            job.metadata,
            inspected.pages,
            1_000_000,
        )
        await self.store.begin(document, data)
        number = 0
        async for page in self.reader.pages(data, 1):
            number += 1
            regions = [Region(os.urandom(16).hex(), doc_id, number, laid, 9, page.size) for laid in page.regions]
            await self.store.add_page(doc_id, number, page, regions)
        await self.store.finish(doc_id)
        succeeded = replace(job, status=JobStatus.SUCCEEDED, doc_id=doc_id, pages=number, pages_done=number)
        return replace(succeeded, ended_us=2_000_000)

    async def cancel(self, owner: bytes, job_id: str) -> Job | None:
        job = await self.store.job(owner, job_id)
        if job is None or job.ended_us is not None:
            return job
        ended = replace(
            job, status=JobStatus.FAILED, error=JobError("CONFLICT", "It was cancelled."), ended_us=2_000_000
        )
        return ended if await self.store.cancel_job(ended) else await self.store.job(owner, job_id)

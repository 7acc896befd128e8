"""A service of its own that speaks `/v1/ocr`: it fetches, reads and keeps documents, and decodes regions of them.

What our jobs take for fetching is its indexing, polled until it has ended; what they take for the document is what it
has told of it. So jobs, search, ownership and deletion are ours, as for any document, and no id of the service's is
seen by a client. It has no picture of a region to give, and takes URLs only.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import TypeVar
from urllib.parse import quote

from gateway.core.routing.routes import Route
from gateway.core.vision.document import Box, Fidelity, LaidPage, Reading
from gateway.core.vision.service_wire import (
    FAILED,
    RUNNING,
    SUCCEEDED,
    Kept,
    ServiceJob,
    pages_of,
    read_decoding,
    read_job,
    read_kept,
    render_decoding,
    render_kept,
    render_order,
    service_id_of,
)
from gateway.exchange import Exchange
from gateway.ports import Upstream, UpstreamCall
from gateway.ports_vision import Inspected, ToDecode, VisionFault
from gateway.shell.vision.backend import BackendFault, ask_backend, unreadable_answer
from gateway.shell.vision.model_decoder import backend_headers

_FIRST_PAUSE_S, _MAX_PAUSE_S = 0.1, 5.0
_MAX_FAULTS = 5
"""Polls in a row that fail before the job does."""
_READ_INLINE_BYTES = 65_536
T = TypeVar("T")
MEDIA_TYPE = "application/vnd.llm-gateway.regions+json"


class RemoteService:
    """The service.

    Args:
        route: to it; its base URL is without `/v1/ocr`.
        upstream: the way there.
        timeout_s: of one call.
    """

    def __init__(self, route: Route, upstream: Upstream, timeout_s: float) -> None:
        self.route = route
        self._upstream = upstream
        self._timeout_s = timeout_s

    async def ask(self, method: str, path: str, body: bytes | None) -> bytes:
        """The body of its answer.

        Raises:
            BackendFault: there is none.
        """
        call = UpstreamCall(self.route, method, f"/v1/ocr{path}", backend_headers(self.route), body)
        return await ask_backend(self._upstream, call, self._timeout_s)

    async def index(self, doc_url: str) -> ServiceJob:
        """Order a document to be indexed."""
        return await _job_in(await self.ask("POST", "/index", render_order(doc_url)))

    async def job(self, job_id: str) -> ServiceJob:
        """How far it is."""
        return await _job_in(await self.ask("GET", f"/jobs/{quote(job_id, safe='')}", None))


async def _read(read: Callable[[bytes], T], body: bytes) -> T:
    """What stands in a text of JSON; a long one is read in a thread."""
    return read(body) if len(body) <= _READ_INLINE_BYTES else await asyncio.to_thread(read, body)


async def _job_in(body: bytes) -> ServiceJob:
    job = await _read(read_job, body)
    if job is None:
        raise unreadable_answer("it is no job")
    return job


class RemoteFetcher:
    """`ports.Fetcher`: what the service tells of a document once it has indexed it.

    Args:
        service: that indexes.
        check: refuses URLs that may not be asked for.
        timeout_s: for the whole.
    """

    def __init__(self, service: RemoteService, check: Callable[[str], None], timeout_s: float) -> None:
        self._service = service
        self._check = check
        self._timeout_s = timeout_s

    async def fetch(self, url: str) -> bytes:
        self._check(url)
        try:
            async with asyncio.timeout(self._timeout_s):
                job = await self._finished(await self._service.index(url))
        except TimeoutError:
            message = f"The vision service did not index the document within {self._timeout_s:g} s."
            raise VisionFault("timeout", message) from None
        if job.status in FAILED:
            reason = f": {job.reason}" if job.reason else "."
            raise VisionFault("unreadable", f"The vision service could not index the document{reason}")
        return await asyncio.to_thread(render_kept, url, job)

    async def _finished(self, job: ServiceJob) -> ServiceJob:
        """The job once it has ended; a poll that fails is made again, a few times."""
        pause_s, faults = _FIRST_PAUSE_S, 0
        while job.status not in SUCCEEDED + FAILED:
            if job.status not in RUNNING:
                raise unreadable_answer(f"a job has no status {job.status[:32]!a}")
            await asyncio.sleep(pause_s)
            pause_s = min(_MAX_PAUSE_S, 2 * pause_s)
            try:
                job, faults = await self._service.job(job.job_id), 0
            except BackendFault as fault:
                faults += 1
                if not fault.is_passing or faults >= _MAX_FAULTS:
                    raise
        if job.status in SUCCEEDED and job.regions is None:
            job = await self._service.job(job.job_id)  # an order that is done at once may tell no regions
        return job


class RemoteReader:
    """`ports.Reader` of what the service has told."""

    async def inspect(self, data: bytes) -> Inspected:
        return Inspected(MEDIA_TYPE, (await _kept_in(data)).pages)

    async def pages(self, data: bytes, first: int) -> AsyncGenerator[LaidPage, None]:
        for page in pages_of(await _kept_in(data), first):
            yield page
            await asyncio.sleep(0)

    async def render(self, data: bytes, page: int, box: Box | None, max_side_px: int) -> bytes:
        raise VisionFault("unreadable", "The vision service keeps the document: there is no picture of it here.")

    async def decode(self, data: bytes, page: int, box: Box, dpi: int) -> Reading:
        raise VisionFault("unreadable", "The vision service keeps the document: it is not read here.")

    async def close(self) -> None:
        """Nothing runs."""


async def _kept_in(data: bytes) -> Kept:
    kept = await _read(read_kept, data)
    if kept is None:
        message = "With vision.backend: remote documents are indexed by doc_url; a file cannot be read here."
        raise VisionFault("unreadable", message)
    return kept


class RemoteDecoder:
    """`ports.Decoder` by the service.

    Args:
        service: that decodes.
    """

    def __init__(self, service: RemoteService) -> None:
        self._service = service
        self.version = f"remote:{hashlib.sha256(service.route.base_url.encode()).hexdigest()[:16]}"

    async def decode(self, exchange: Exchange, wanted: ToDecode, fidelity: Fidelity) -> Reading:
        kept = await _kept_in(await wanted.fetch_data())
        service_id = await asyncio.to_thread(service_id_of, kept, wanted.region)
        if service_id is None:
            raise VisionFault("unreadable", "The vision service knows no such region.")
        body = await self._service.ask("POST", "/decode", render_decoding(service_id, fidelity))
        reading = await _read(partial(read_decoding, region_id=service_id), body)
        if reading is None:
            raise unreadable_answer("it says nothing of the region")
        return reading

"""From the options of vision to its store, its readers, its decoder and its stages; a root, as `compose` is."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from prometheus_client.core import Metric

from gateway.compose import make_endpoint_route
from gateway.core.routing.breaker import BreakerRules
from gateway.core.tokens.profiles import O200K, Profile
from gateway.core.vision.document import Fidelity
from gateway.core.vision.sources import SourceRefusedError, SourceRules, parse_source
from gateway.core.wire.request import OF_VISION, Endpoint
from gateway.pipeline import Stage
from gateway.ports import StateStore, Upstream
from gateway.ports_memory import Reminding
from gateway.ports_vision import Decoder, DocumentStore, Fetcher, Reader, VisionFault
from gateway.seeing import Jobs, Seeing, VisionRules, refuse_switched_off, refuse_unwanted
from gateway.settings import Settings
from gateway.settings_check import sqlite_path
from gateway.settings_check_vision import has_vision
from gateway.settings_vision import Vision
from gateway.shell.facts.embedder import Embedder
from gateway.shell.telemetry.figures_vision import VisionFigures, vision_metrics
from gateway.shell.telemetry.metrics import Metrics
from gateway.shell.tokens.counter import TiktokenCounter
from gateway.shell.vision.decode_cache import CachedDecoder, Remembered
from gateway.shell.vision.decode_flights import SharedDecoder
from gateway.shell.vision.decode_guard import GuardedDecoder, GuardRules
from gateway.shell.vision.decode_log import LoggedDecoder
from gateway.shell.vision.document_keeper import DocumentKeeper
from gateway.shell.vision.fetcher import DocumentFetcher
from gateway.shell.vision.index_figures import IndexFigures
from gateway.shell.vision.index_run import IndexOptions
from gateway.shell.vision.indexing import IndexJobs
from gateway.shell.vision.local_decoder import LocalDecoder
from gateway.shell.vision.measured_reader import MeasuredReader
from gateway.shell.vision.missing import NEEDED, MissingJobs, MissingReader
from gateway.shell.vision.model_decoder import ModelDecoder, ModelOptions
from gateway.shell.vision.pictures import PictureTexts
from gateway.shell.vision.reader_process import ReaderOptions
from gateway.shell.vision.readers import ChildReaders
from gateway.shell.vision.reminding import DocumentReminding
from gateway.shell.vision.remote_service import RemoteDecoder, RemoteFetcher, RemoteReader, RemoteService
from gateway.shell.vision.source import ReadLimits
from gateway.shell.vision.sqlite import SqliteDocumentStore
from gateway.shell.vision.vector_filler import RegionVectorFiller
from gateway.stages.answer_document import AnswerDocumentStage
from gateway.stages.answer_job import AnswerJobStage
from gateway.stages.decode_regions import DecodeRegionsStage
from gateway.stages.index_document import IndexDocumentStage
from gateway.stages.list_documents import ListDocumentsStage
from gateway.stages.search_regions import SearchRegionsStage
from gateway.stages.show_region import ShowRegionStage
from gateway.tasks import TaskGroup

_SERVICE_S = 3600.0
"""How long a service may index a document."""
_DRAIN_S = 0.5
"""How long pictures that are being read are waited for; they are read again by the next process."""
_TURN_S = 60.0
"""How long a decoding waits for its turn."""


class ManagedJobs(Jobs, Protocol):
    """Orders whose workers are started and ended."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...


class GatewayVision:
    """All of vision that lives as long as the process.

    Args:
        settings: with which the process was started.
        counter: of tokens.

    Attributes:
        pictures: what stands in those of chats, once it is connected; None where nobody reads them.
    """

    pictures: PictureTexts | None = None

    def __init__(self, settings: Settings, counter: TiktokenCounter) -> None:
        self._options = settings.vision
        self._counter = counter
        self._tally: Counter[tuple[str, str]] = Counter()
        self._cache: Counter[str] = Counter()
        self._tries: Counter[str] = Counter()
        self._tasks = TaskGroup()
        self._store: SqliteDocumentStore | None = None
        self._keeper: DocumentKeeper | None = None
        self._seeing: Seeing | None = None
        if has_vision(settings):
            options = settings.vision
            self._store = SqliteDocumentStore(sqlite_path(options.url), options.max_bytes)
            self._keeper = DocumentKeeper(self._store, options.job_ttl_seconds)
        self._reader: Reader | None = None
        self._jobs: ManagedJobs | None = None
        self._guard: GuardedDecoder | None = None
        self._reminding: DocumentReminding | None = None
        self._filling: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Open the store, as far as that is possible now."""
        if self._keeper is not None:
            await self._keeper.open()

    async def connect(self, upstream: Upstream, metrics: Metrics, state: StateStore, ttl_s: float) -> None:
        """Read and decode from now on: there is a way to whoever does it elsewhere.

        Args:
            upstream: the way.
            metrics: are told of pages.
            state: where what was read in chats' pictures is kept,
            ttl_s: for how long.
        """
        if self._store is None:
            return
        options = self._options
        rules = SourceRules(options.fetch.allow, options.fetch.allow_addresses)
        check = make_source_check(options, rules)
        service = make_service(options, upstream) if options.backend == "remote" else None
        self._reader = reader = RemoteReader() if service is not None else make_reader(options)
        fetcher = RemoteFetcher(service, check, _SERVICE_S) if service is not None else make_fetcher(options, rules)
        measured = MeasuredReader(reader, metrics.observe_page)
        if isinstance(reader, MissingReader):
            self._jobs = MissingJobs(self._store)
        else:
            self._jobs = make_jobs(options, self._store, measured, fetcher, self._counter)
        await self._jobs.start()
        backend = make_backend(options, upstream, reader, service, self._tasks)
        self._guard = GuardedDecoder(backend, make_guard_rules(options), self._tries)
        decoder = make_decoder(options, self._guard, self._cache)
        vision_rules = make_vision_rules(options)
        self._seeing = Seeing(self._store, reader, decoder, self._jobs, vision_rules, self._tally, check)
        if options.decode_old_images and options.ocr and isinstance(reader, ChildReaders):
            self.pictures = PictureTexts(reader, state, self._tasks, ttl_s)

    def beside(self, memories: Reminding, deadline_s: float, embedder: Embedder | None) -> Reminding:
        """What a memory holds, with what stands in its documents.

        Args:
            memories: what it holds otherwise.
            deadline_s: how long a chat waits.
            embedder: makes vectors, with which documents are searched from now on, if it can be asked on nobody's
                account: else regions never get any. None where nobody does.
        """
        if self._store is None:
            return memories
        own = embedder if embedder is not None and embedder.is_own else None
        self._reminding = DocumentReminding(memories, self._store, deadline_s, own)
        if own is not None and self._seeing is not None:
            self._seeing = replace(self._seeing, embedder=own)
            self._filling = asyncio.create_task(RegionVectorFiller(self._store, own).run())
        return self._reminding

    async def disconnect(self) -> None:
        """End what runs, before the way to others is closed: what breaks off by that would have failed."""
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.wait([self._filling])
        if self._jobs is not None:
            await self._jobs.close()
        await self._tasks.drain(_DRAIN_S)
        if self._reader is not None:
            await self._reader.close()

    async def close(self) -> None:
        """Close the store; nothing runs any more."""
        if self._keeper is not None:
            await self._keeper.close()

    def stages(self) -> dict[Endpoint, tuple[Stage, ...]]:
        """What answers the calls of vision, by endpoint."""
        return make_vision_stages(self._seeing, self._tasks)

    @property
    def forget(self) -> Callable[[bytes, str | None], Awaitable[int]] | None:
        """Lets go of a client's documents; None where there are none."""
        seeing = self._seeing
        if seeing is None:
            return None
        return lambda owner, name: seeing.ask(seeing.store.delete_all(owner, name))

    def metrics(self) -> list[Metric]:
        """Figures of all of it; nothing where vision is off."""
        if self._keeper is None:
            return []
        keeper = self._keeper
        faults = {kind: count for (_, kind), count in self._tally.items()}
        indexing = self._jobs.figures if isinstance(self._jobs, IndexJobs) else IndexFigures()
        breaker = self._guard.breaker.state.value if self._guard is not None else 0
        return vision_metrics(
            VisionFigures(
                keeper.documents,
                keeper.regions,
                keeper.held_bytes,
                keeper.waiting,
                breaker,
                self._cache,
                self._tries,
                faults,
                self._reminding.tally if self._reminding is not None else {},
                self.pictures.tally if self.pictures is not None else {},
                indexing.jobs,
                indexing.errors,
                _readers_of(self._reader),
            )
        )


def make_source_check(options: Vision, rules: SourceRules) -> Callable[[str], None]:
    """What refuses URLs as far as that can be said of them alone."""

    def check(url: str) -> None:
        if url[:5].lower() == "file:" and options.fetch.file_root is not None and options.backend != "remote":
            return
        try:
            rules.check(parse_source(url))
        except SourceRefusedError as error:
            raise VisionFault("forbidden", str(error)) from None

    return check


def make_fetcher(options: Vision, rules: SourceRules) -> Fetcher:
    """What brings documents from where a URL says."""
    fetch = options.fetch
    root = Path(fetch.file_root) if fetch.file_root is not None else None
    return DocumentFetcher(rules, options.max_document_bytes, fetch.timeout_seconds, fetch.max_redirects, root)


def make_service(options: Vision, upstream: Upstream) -> RemoteService:
    """A service that speaks `/v1/ocr`."""
    timeout_s = options.timeout_ms / 1000
    base_url = options.service_url.rstrip("/").removesuffix("/v1/ocr").removesuffix("/v1")
    return RemoteService(make_endpoint_route("vision", base_url, options.api_key, timeout_s), upstream, timeout_s)


def make_backend(
    options: Vision, upstream: Upstream, reader: Reader, service: RemoteService | None, tasks: TaskGroup
) -> Decoder:
    """Who reads regions again."""
    if service is not None:
        return RemoteDecoder(service)
    if options.backend == "local":
        return LocalDecoder(reader, tasks, reads_pictures=options.ocr)
    model, timeout_s = options.model, options.timeout_ms / 1000
    base_url = options.service_url.rstrip("/").removesuffix("/chat/completions")
    asked = ModelOptions(
        make_endpoint_route("vision", base_url, options.api_key, timeout_s),
        model.name,
        model.prompt,
        model.table_prompt,
        model.max_tokens,
        model.options,
        timeout_s,
        model.read_twice,
    )
    return ModelDecoder(asked, upstream, reader)


def make_guard_rules(options: Vision) -> GuardRules:
    """How a decoder is asked."""
    breaker = BreakerRules(options.circuit_breaker_failures, options.circuit_breaker_reset_secs)
    is_local = options.backend == "local"  # it has one process for those who wait, and does the same again if asked
    call_s = options.timeout_ms / 1000
    # Who asks elsewhere bounds each of its calls itself; pictures are made before, by a process that may have to start.
    try_s = call_s if is_local else 2 * (call_s + options.page_seconds)
    return GuardRules(
        1 if is_local else options.max_concurrent_decodes,
        try_s,
        _TURN_S,
        0 if is_local else options.retry_attempts,
        options.retry_backoff_ms / 1000,
        breaker,
    )


def make_decoder(options: Vision, guarded: Decoder, cache: Counter[str]) -> Decoder:
    """All that goes around whoever is guarded: equal decodings are one, and what was read is remembered."""
    decoder: Decoder = guarded if options.log_redact_text else LoggedDecoder(guarded)
    decoder = SharedDecoder(decoder)
    keeps = options.decode_cache_ttl_secs > 0 and options.decode_cache_max_size > 0
    if keeps and find_spec("aiocache") is not None:
        remembered = Remembered(options.decode_cache_ttl_secs, options.decode_cache_max_size)
        decoder = CachedDecoder(decoder, remembered, cache)
    return decoder


def make_vision_rules(options: Vision) -> VisionRules:
    """What holds for all clients."""
    return VisionRules(
        max_regions=options.max_regions_per_request,
        fidelity=Fidelity(options.default_fidelity),
        max_document_bytes=options.max_document_bytes,
        takes_files=options.backend != "remote",
    )


def make_vision_stages(seeing: Seeing | None, tasks: TaskGroup) -> dict[Endpoint, tuple[Stage, ...]]:
    """What answers the calls of vision, by endpoint."""
    if seeing is None:
        return dict.fromkeys(OF_VISION, (refuse_switched_off,))
    stages: dict[Endpoint, Stage] = {
        Endpoint.VISION_SEARCH: SearchRegionsStage(seeing),
        Endpoint.VISION_DECODE: DecodeRegionsStage(seeing),
        Endpoint.VISION_INDEX: IndexDocumentStage(seeing),
        Endpoint.VISION_JOB: AnswerJobStage(seeing),
        Endpoint.VISION_DOCUMENTS: ListDocumentsStage(seeing),
        Endpoint.VISION_DOCUMENT: AnswerDocumentStage(seeing),
        Endpoint.VISION_IMAGE: ShowRegionStage(seeing, tasks),
    }
    return {endpoint: (refuse_unwanted, stage) for endpoint, stage in stages.items()}


def make_reader(options: Vision) -> Reader:
    """Who reads documents on this machine."""
    if find_spec(NEEDED) is None:
        return MissingReader()
    return ChildReaders(
        ReaderOptions(
            ReadLimits(options.max_pages, options.max_pixels, options.ocr),
            options.index_workers,
            options.page_seconds,
            options.reader_idle_seconds,
            options.reader_memory_bytes,
            options.max_document_bytes,
        )
    )


def make_jobs(
    options: Vision, store: DocumentStore, reader: Reader, fetcher: Fetcher, counter: TiktokenCounter
) -> ManagedJobs:
    """Who carries out orders to index."""
    count = partial(counter.count_here, Profile(O200K))
    return IndexJobs(store, reader, fetcher, count, IndexOptions(options.index_workers, options.index_queue_max))


def _readers_of(reader: Reader | None) -> dict[str, int]:
    """Processes that read, by what became of them."""
    return {"started": reader.started, **reader.deaths} if isinstance(reader, ChildReaders) else {}

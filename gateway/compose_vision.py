"""From the options of vision to its store, its readers, its decoder and its stages; a root, as `compose` is."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from prometheus_client.core import Metric

from gateway.compose import make_endpoint_route
from gateway.core.routing.breaker import BreakerRules
from gateway.core.vision.document import Fidelity
from gateway.core.vision.sources import SourceRefusedError, SourceRules, parse_source
from gateway.core.wire.request import OF_VISION, Endpoint
from gateway.exchange import Exchange
from gateway.pipeline import Stage
from gateway.ports import Upstream
from gateway.ports_vision import Decoder, Fetcher, Reader, VisionFault
from gateway.seeing import Seeing, VisionRules, refuse_switched_off, refuse_unwanted
from gateway.settings import Settings
from gateway.settings_check import sqlite_path
from gateway.settings_check_vision import has_vision
from gateway.settings_vision import Vision
from gateway.shell.telemetry.figures_vision import VisionFigures, vision_metrics
from gateway.shell.telemetry.metrics import Metrics
from gateway.shell.tokens.counter import TiktokenCounter
from gateway.shell.vision.decode_cache import CachedDecoder, Remembered
from gateway.shell.vision.decode_flights import SharedDecoder
from gateway.shell.vision.decode_guard import GuardedDecoder, GuardRules
from gateway.shell.vision.decode_log import LoggedDecoder
from gateway.shell.vision.document_keeper import DocumentKeeper
from gateway.shell.vision.local_decoder import LocalDecoder
from gateway.shell.vision.model_decoder import ModelDecoder, ModelOptions
from gateway.shell.vision.remote_service import RemoteDecoder, RemoteFetcher, RemoteReader, RemoteService
from gateway.shell.vision.sqlite import SqliteDocumentStore
from gateway.stages.answer_document import AnswerDocumentStage
from gateway.stages.answer_job import AnswerJobStage
from gateway.stages.decode_regions import DecodeRegionsStage
from gateway.stages.index_document import IndexDocumentStage
from gateway.stages.list_documents import ListDocumentsStage
from gateway.stages.search_regions import SearchRegionsStage
from gateway.stages.show_region import ShowRegionStage

_TURN_S = 60.0
"""How long a decoding waits for its turn."""


class GatewayVision:
    """All of vision that lives as long as the process.

    Args:
        settings: with which the process was started.
        counter: of tokens.
    """

    def __init__(self, settings: Settings, counter: TiktokenCounter) -> None:
        self._options = settings.vision
        self._counter = counter
        self._tally: Counter[tuple[str, str]] = Counter()
        self._cache: Counter[str] = Counter()
        self._tries: Counter[str] = Counter()
        self._store: SqliteDocumentStore | None = None
        self._keeper: DocumentKeeper | None = None
        self._seeing: Seeing | None = None
        if has_vision(settings):
            options = settings.vision
            self._store = SqliteDocumentStore(sqlite_path(options.url), options.max_bytes)
            self._keeper = DocumentKeeper(self._store, options.job_ttl_seconds)

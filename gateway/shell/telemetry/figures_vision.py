"""Figures of vision: what is kept, what waits, what was remembered, and what went wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from prometheus_client.core import Metric

from gateway.shell.telemetry.metrics import counter_metric, gauge_metric


class VisionFigures(NamedTuple):
    """What is known of vision now.

    Attributes:
        documents: finished ones, when they were last counted.
        regions: of them.
        held_bytes: what they take.
        waiting: jobs that are queued.
        breaker: state of the decoder's, as numbers say it.
        cache: decodings that were remembered (hit) or not (miss).
        tries: calls of the backend, and those that were made again.
        faults: by kind.
        searches: of chats, by what they came to.
        pictures: of chats, by what became of them.
        jobs: of indexing, by how they ended.
        failures: of jobs that failed, by the code that their clients were told.
        readers: processes that read, by what became of them.
    """

    documents: int
    regions: int
    held_bytes: int
    waiting: int
    breaker: int
    cache: Mapping[str, int]
    tries: Mapping[str, int]
    faults: Mapping[str, int]
    searches: Mapping[str, int]
    pictures: Mapping[str, int]
    jobs: Mapping[str, int]
    failures: Mapping[str, int]
    readers: Mapping[str, int]


def vision_metrics(figures: VisionFigures) -> list[Metric]:
    """All of them."""
    cache = {"hit": 0, "miss": 0} | dict(figures.cache)
    ends = ("crashed", "killed", "memory", "broken", "garbage", "ended", "timeout")
    readers = dict.fromkeys(("started", *ends), 0) | dict(figures.readers)
    codes = dict.fromkeys(("VALIDATION_ERROR", "TIMEOUT", "UPSTREAM_ERROR", "UPSTREAM_DISABLED", "INTERNAL_ERROR"), 0)
    kinds = dict.fromkeys(("disabled", "timeout", "upstream", "unreadable", "forbidden", "full", "busy", "down"), 0)
    return [
        gauge_metric("vision_documents", "Documents that can be searched.", figures.documents),
        gauge_metric("vision_regions", "Their regions.", figures.regions),
        gauge_metric("vision_store_bytes", "What documents and their regions take.", figures.held_bytes),
        gauge_metric("vision_index_queue_depth", "Documents that wait to be indexed.", figures.waiting),
        gauge_metric("vision_breaker_state", "Of the decoder: 0 closed, 1 half-open, 2 open.", figures.breaker),
        counter_metric("vision_decode_cache", "Decodings, by whether they were remembered.", "result", {**cache}),
        counter_metric(
            "vision_decode_tries",
            "Decodings that the backend was asked for, and those of them that were asked for again.",
            "what",
            {"tries": 0, "retries": 0, **figures.tries},
        ),
        counter_metric("vision_readers", "Processes that read, by what became of them.", "what", {**readers}),
        counter_metric(
            "vision_faults", "What clients were told could not be had.", "kind", {**kinds, **figures.faults}
        ),
        counter_metric(
            "vision_index_jobs",
            "Orders to index that ended here, or were given back for another process to go on with.",
            "result",
            {**dict.fromkeys(("succeeded", "failed", "cancelled", "released"), 0), **figures.jobs},
        ),
        counter_metric(
            "vision_index_failures", "Orders to index that failed, by code.", "code", {**codes, **figures.failures}
        ),
        counter_metric(
            "vision_chat_searches",
            "Look-ups in the documents of a memory for its chats.",
            "result",
            {**dict.fromkeys(("found", "nothing", "timeout", "down"), 0), **figures.searches},
        ),
        counter_metric(
            "vision_chat_pictures",
            "Pictures of chats: what was read in them, or why not.",
            "result",
            {**dict.fromkeys(("read", "empty", "failed", "dropped"), 0), **figures.pictures},
        ),
    ]

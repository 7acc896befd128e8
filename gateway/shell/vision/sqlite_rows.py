"""Documents, regions and jobs as rows of a database, and back.

Invariants, each with a test of its own:
  1. What is encoded comes back the same, whatever its texts.
  2. What no database could hold is refused with `ValueError`, before anything is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.core.facts.memory import Scope
from gateway.core.vision.document import (
    Box,
    Document,
    Job,
    JobError,
    JobStatus,
    LaidRegion,
    PageSize,
    Region,
    RegionType,
)
from gateway.shell.facts.rows import id_bytes
from gateway.shell.vision.region_lists import MAX_PAGE

DOCUMENT_COLUMNS = "d.id, s.owner, s.name, d.hash, d.created_us, d.regions, d.body"
"""What is read of a document `d` and its scope `s`, for `document_from`."""
REGION_COLUMNS = "r.id, d.id, r.body"
"""What is read of a region `r` and its document `d`, for `region_from`."""
JOB_COLUMNS = "j.id, s.owner, s.name, j.status, j.created_us, j.ended_us, j.body"
"""What is read of a job `j` and its scope `s`, for `job_from`."""
QUEUED, RUNNING, ENDED = 0, 1, 2
_INT64 = range(-(2**63), 2**63)
_HASH_BYTES = 32


class _DocumentBody(msgspec.Struct, frozen=True, array_like=True):
    source: str
    media_type: str
    size_bytes: int
    metadata: dict[str, Any]
    pages: int


class _RegionBody(msgspec.Struct, frozen=True, array_like=True):
    page: int
    box: tuple[int, int, int, int]
    type: RegionType
    text: str
    caption: str
    has_text_layer: bool
    confidence: float
    token_estimate: int
    page_size: tuple[int, int]


class _JobBody(msgspec.Struct, frozen=True, array_like=True):
    source: str
    is_uploaded: bool
    metadata: dict[str, Any]
    is_forced: bool
    status: JobStatus
    doc_id: str
    pages_done: int
    pages: int
    is_duplicate: bool
    error: JobError | None


_encode = msgspec.json.Encoder().encode
_document_body = msgspec.json.Decoder(_DocumentBody).decode
_region_body = msgspec.json.Decoder(_RegionBody).decode
_job_body = msgspec.json.Decoder(_JobBody).decode


def known_id(id_: str) -> bytes:
    """An id as it is stored.

    Raises:
        ValueError: it is not 32 lowercase hexadecimal digits.
    """
    data = id_bytes(id_)
    if data is None:
        raise ValueError(f"an id has to be 32 lowercase hexadecimal digits, this is {id_!r}")
    return data


def hash_bytes(hash_: str) -> bytes:
    """A SHA-256 as it is stored.

    Raises:
        ValueError: it is none.
    """
    data = bytes.fromhex(hash_)
    if len(data) != _HASH_BYTES or data.hex() != hash_:
        raise ValueError(f"a hash has to be 64 lowercase hexadecimal digits, this is {hash_!r}")
    return data


def document_body(document: Document) -> bytes:
    """What of a document is kept beside its columns.

    Raises:
        ValueError: it cannot be stored.
    """
    told = _DocumentBody(
        document.source, document.media_type, document.size_bytes, dict(document.metadata), document.pages
    )
    return _body(told, "a document", document.created_us)


def document_from(columns: Sequence[Any]) -> Document:
    """The document of these `DOCUMENT_COLUMNS`."""
    id_, owner, name, hash_, created_us, regions, body = columns
    told = _document_body(body)
    return Document(
        id=id_.hex(),
        scope=Scope(owner, name.decode()),
        hash=hash_.hex(),
        source=told.source,
        media_type=told.media_type,
        size_bytes=told.size_bytes,
        metadata=told.metadata,
        pages=told.pages,
        created_us=created_us,
        regions=regions,
    )


def region_body(region: Region, page: int) -> bytes:
    """What of a region is kept beside its columns.

    Raises:
        ValueError: it cannot be stored, or is of another page.
    """
    if region.page != page or not 1 <= page <= MAX_PAGE:
        raise ValueError(f"a region of page {region.page} came with page {page}")
    laid = region.laid
    told = _RegionBody(
        region.page,
        (laid.box.x, laid.box.y, laid.box.w, laid.box.h),
        laid.type,
        laid.text,
        laid.caption,
        laid.has_text_layer,
        laid.confidence,
        region.token_estimate,
        (region.page_size.width, region.page_size.height),
    )
    return _body(told, "a region")


def region_from(columns: Sequence[Any]) -> Region:
    """The region of these `REGION_COLUMNS`."""
    id_, doc_id, body = columns
    told = _region_body(body)
    laid = LaidRegion(Box(*told.box), told.type, told.text, told.caption, told.has_text_layer, told.confidence)
    return Region(id_.hex(), doc_id.hex(), told.page, laid, told.token_estimate, PageSize(*told.page_size))


def job_body(job: Job) -> bytes:
    """What of a job is kept beside its columns.

    Raises:
        ValueError: it cannot be stored.
    """
    told = _JobBody(
        job.source,
        job.is_uploaded,
        dict(job.metadata),
        job.is_forced,
        job.status,
        job.doc_id,
        job.pages_done,
        job.pages,
        job.is_duplicate,
        job.error,
    )
    return _body(told, "a job", job.created_us, job.ended_us or 0)


def job_from(columns: Sequence[Any]) -> Job:
    """The job of these `JOB_COLUMNS`."""
    id_, owner, name, status, created_us, ended_us, body = columns
    told = _job_body(body)
    # A job is claimed without its body being written again.
    now = told.status if status == ENDED else (JobStatus.QUEUED, JobStatus.RUNNING)[status]
    return Job(
        id=id_.hex(),
        scope=Scope(owner, name.decode()),
        source=told.source,
        is_uploaded=told.is_uploaded,
        metadata=told.metadata,
        is_forced=told.is_forced,
        created_us=created_us,
        status=now,
        doc_id=told.doc_id,
        pages_done=told.pages_done,
        pages=told.pages,
        is_duplicate=told.is_duplicate,
        error=told.error,
        ended_us=ended_us,
    )


def status_number(status: JobStatus) -> int:
    """As it is stored: what has ended, however it did, has one."""
    return {JobStatus.QUEUED: QUEUED, JobStatus.RUNNING: RUNNING}.get(status, ENDED)


def _body(told: msgspec.Struct, what: str, *numbers: int) -> bytes:
    if not all(number in _INT64 for number in numbers):
        raise ValueError(f"{what} cannot be stored: its times have to be numbers of 64 bits")
    try:
        return _encode(told)
    except (UnicodeEncodeError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{what} cannot be stored: {error}") from None

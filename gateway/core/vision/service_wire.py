"""The `/v1/ocr` contract, as a service of its own speaks it: orders to index, jobs, and decodings.

    POST /v1/ocr/index {doc_url, metadata, force_reindex}  -> {job_id, status}
    GET  /v1/ocr/jobs/{id}                                 -> {job_id, status, progress, error?, pages?, regions?}
    POST /v1/ocr/decode {region_ids, fidelity}             -> {results: [{region_id, text, fidelity?, confidence}]}

Such a service keeps the document. What is kept here in place of its bytes is what it has said of it (`Kept`), by which
a region of ours is found among its own.

Invariants, each with a test of its own:
  1. Any bytes are an answer, or None.
  2. What is kept of a document is the same for the same regions, in whatever order and job they come.
  3. A region that was stored of a document is found again among the service's, by what it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.core.vision.document import Box, Fidelity, LaidPage, LaidRegion, PageSize, Reading, Region, RegionType

_Pixels = Annotated[float, Meta(ge=0, le=1_000_000)]
_Page = Annotated[int, Meta(ge=1, le=100_000)]
_Id = Annotated[str, Meta(min_length=1, max_length=512)]
_UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError)
_USUAL_SIDE_PX = 1584
RUNNING, SUCCEEDED, FAILED = ("queued", "running", "pending", "processing"), ("succeeded", "completed"), ("failed",)


class _Box(msgspec.Struct, frozen=True):
    x: _Pixels = 0
    y: _Pixels = 0
    w: _Pixels = 0
    h: _Pixels = 0


class _Size(msgspec.Struct, frozen=True):
    width: Annotated[int, Meta(ge=1, le=1_000_000)]
    height: Annotated[int, Meta(ge=1, le=1_000_000)]


class ServiceRegion(msgspec.Struct, frozen=True):
    """A region as the service tells it."""

    region_id: _Id
    page: _Page = 1
    bbox: _Box = _Box()
    type: str = "text"
    text: str = ""
    caption: str = ""
    page_size: _Size | None = None
    confidence: float | None = None


class _Error(msgspec.Struct, frozen=True):
    message: str = ""


class ServiceJob(msgspec.Struct, frozen=True):
    """A job as the service tells it."""

    job_id: _Id
    status: str = "queued"
    progress: float = 0.0
    pages: int | None = None
    regions: list[ServiceRegion] | None = None
    error: str | _Error | None = None

    @property
    def reason(self) -> str:
        """Why it failed, in the service's words."""
        return (self.error.message if isinstance(self.error, _Error) else self.error or "")[:500]


class _Result(msgspec.Struct, frozen=True):
    region_id: str
    text: str | None = None
    confidence: float | None = None


class _Results(msgspec.Struct, frozen=True):
    results: list[_Result]


class Kept(msgspec.Struct, frozen=True):
    """What is kept of a document that a service has indexed."""

    doc_url: str
    pages: int
    regions: list[ServiceRegion]


_encode = msgspec.json.Encoder(order="sorted").encode


def render_order(doc_url: str) -> bytes:
    """The body that orders a document to be indexed; what is known of it beside stays here."""
    return _encode({"doc_url": doc_url, "metadata": {}, "force_reindex": False})


def render_decoding(region_id: str, fidelity: Fidelity) -> bytes:
    """The body that asks for a region to be decoded."""
    return _encode({"region_ids": [region_id], "fidelity": fidelity.value})


def read_job(body: bytes) -> ServiceJob | None:
    """A job; None where the answer is none."""
    found: ServiceJob | None = _read(body, ServiceJob)
    return found


def read_decoding(body: bytes, region_id: str) -> Reading | None:
    """What the service read of this region; None where it does not say."""
    found = _read(body, _Results)
    for result in found.results if found is not None else ():
        if result.region_id == region_id and result.text is not None:
            confidence = result.confidence
            is_share = confidence is not None and 0 <= confidence <= 1
            return Reading(result.text, confidence if is_share else None)
    return None


def _read(body: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except _UNREADABLE:
        return None


def render_kept(doc_url: str, job: ServiceJob) -> bytes:
    """What is kept of a finished job."""
    regions = sorted(
        job.regions or [], key=lambda region: (region.page, region.bbox.y, region.bbox.x, region.region_id)
    )
    last = max((region.page for region in regions), default=1)
    pages = min(100_000, max(last, job.pages or 1))
    return _encode(Kept(doc_url, pages, regions))


def read_kept(data: bytes) -> Kept | None:
    """What `render_kept` made; None for any other bytes, such as an uploaded file's."""
    found: Kept | None = _read(data, Kept)
    return found


def pages_of(kept: Kept, first: int) -> Iterator[LaidPage]:
    """All pages from this one on; the first is 1."""
    by_page: dict[int, list[ServiceRegion]] = {}
    for region in kept.regions:
        by_page.setdefault(region.page, []).append(region)
    for number in range(first, kept.pages + 1):
        regions = by_page.get(number, [])
        yield LaidPage(_size_of(regions), [laid_of(region) for region in regions])


def _size_of(regions: Sequence[ServiceRegion]) -> PageSize:
    """As the service says; else as large as what stands on it, or as a usual page."""
    for region in regions:
        if region.page_size is not None:
            return PageSize(region.page_size.width, region.page_size.height)
    right = max((laid_of(region).box.x + laid_of(region).box.w for region in regions), default=_USUAL_SIDE_PX)
    bottom = max((laid_of(region).box.y + laid_of(region).box.h for region in regions), default=_USUAL_SIDE_PX)
    return PageSize(max(1, right), max(1, bottom))


def laid_of(region: ServiceRegion) -> LaidRegion:
    """A region of the service's, as one of ours; it reads from pictures, and a type that is not known is text."""
    known = {each.value: each for each in RegionType}
    box = region.bbox
    confidence = region.confidence if region.confidence is not None and 0 <= region.confidence <= 1 else 0.0
    return LaidRegion(
        Box(round(box.x), round(box.y), round(box.w), round(box.h)),
        known.get(region.type, RegionType.TEXT),
        region.text,
        region.caption,
        has_text_layer=False,
        confidence=confidence,
    )


def service_id_of(kept: Kept, region: Region) -> str | None:
    """By which id the service knows a region of ours; None where it has none like it."""
    for each in kept.regions:
        if each.page == region.page and laid_of(each) == region.laid:
            return each.region_id
    return None

"""Documents and the regions that they are cut into, as they are kept and told.

A document belongs to one memory of one client, as facts do. Places are pixels from the top left of a page that is
rendered, upright, at `RENDER_DPI`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gateway.core.facts.memory import Scope

RENDER_DPI = 144
"""The size that a page's pixels are told for; a picture's are its own."""


class RegionType(enum.Enum):
    """What a region shows."""

    TABLE = "table"
    FIGURE = "figure"
    CODE = "code"
    TEXT = "text"


class Fidelity(enum.Enum):
    """How finely a region is read: about so many text tokens for a vision token."""

    SKIM = "20x"
    DEFAULT = "10x"
    FINE = "5x"
    EXACT = "1x"

    @property
    def ratio(self) -> int:
        """Text tokens for a vision token."""
        return int(self.value.removesuffix("x"))


class Box(msgspec.Struct, frozen=True):
    """A place on a page, in pixels from its top left."""

    x: int
    y: int
    w: int
    h: int


class PageSize(msgspec.Struct, frozen=True):
    """Of a page as it is rendered, in pixels."""

    width: int
    height: int


class LaidRegion(msgspec.Struct, frozen=True):
    """A part of a page, as reading it gave it.

    Attributes:
        box: where it is.
        type: what it shows.
        text: what stands there: rows of a table are lines with ` | ` between cells; code keeps its indentation; "" of
            a picture that shows no text.
        caption: what is written to it, or "".
        has_text_layer: the document says itself what stands there; else it was read from the picture.
        confidence: 0 to 1: of a text layer 1; else how sure the reading was, by its characters.
    """

    box: Box
    type: RegionType
    text: str
    caption: str = ""
    has_text_layer: bool = True
    confidence: float = 1.0


class LaidPage(msgspec.Struct, frozen=True):
    """A page with its regions in reading order."""

    size: PageSize
    regions: Sequence[LaidRegion]


class Region(msgspec.Struct, frozen=True):
    """A region, as kept.

    Attributes:
        id: 32 hexadecimal digits.
        doc_id: of its document.
        page: from 1.
        laid: what it is.
        token_estimate: of its text and caption.
        page_size: of its page.
    """

    id: str
    doc_id: str
    page: int
    laid: LaidRegion
    token_estimate: int
    page_size: PageSize


class Document(msgspec.Struct, frozen=True):
    """A document, as kept. Times are microseconds since 1970, UTC.

    Attributes:
        id: 32 hexadecimal digits; the same for the same bytes indexed again in its scope.
        scope: to which it belongs.
        hash: SHA-256 of its bytes, in hex.
        source: the URL it was fetched from, or the name of the file that was uploaded; "" for none.
        media_type: what it is, by its bytes.
        size_bytes: of it.
        metadata: a JSON object of whoever indexed it.
        pages: how many it has.
        created_us: when it was indexed first.
        regions: how many it was cut into.
    """

    id: str
    scope: Scope
    hash: str
    source: str
    media_type: str
    size_bytes: int
    metadata: Mapping[str, Any]
    pages: int
    created_us: int
    regions: int = 0


class JobStatus(enum.Enum):
    """What became of an order to index."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class JobError(msgspec.Struct, frozen=True):
    """Why a job failed: one of the codes of `coded_errors`, and what to tell."""

    code: str
    message: str


class Job(msgspec.Struct, frozen=True):
    """An order to index a document.

    Attributes:
        id: 32 hexadecimal digits.
        scope: of the document.
        source: where the document comes from: a URL, or the name of an uploaded file.
        is_uploaded: its bytes came with the order, and are kept with the job until it ends.
        metadata: for the document.
        is_forced: index it even if the same bytes are indexed already.
        created_us: when it was ordered.
        status: what became of it.
        doc_id: of its document, once that is known.
        pages_done: pages that were read and kept.
        pages: how many there are; 0 while that is not known.
        is_duplicate: the same bytes were indexed already, and were not read again.
        error: why it failed.
        ended_us: when it succeeded or failed.
    """

    id: str
    scope: Scope
    source: str
    is_uploaded: bool
    metadata: Mapping[str, Any]
    is_forced: bool
    created_us: int
    status: JobStatus = JobStatus.QUEUED
    doc_id: str = ""
    pages_done: int = 0
    pages: int = 0
    is_duplicate: bool = False
    error: JobError | None = None
    ended_us: int | None = None

    @property
    def progress(self) -> float:
        """How much is done, 0 to 1."""
        if self.status is JobStatus.SUCCEEDED:
            return 1.0
        return self.pages_done / self.pages if self.pages else 0.0


class RegionsSought(msgspec.Struct, frozen=True):
    """What regions are looked for; None is any.

    Attributes:
        terms: of the question (`terms.name_terms`), each once, what matters most first.
        exact: those among them that stand for whole numbers, paths and identifiers.
        types: of regions.
        doc_ids: of documents.
        first_page: at least.
        last_page: at most.
        metadata: of documents: these keys have these values.
        vector: of the question, as the regions' are, or b"" for none.
        model: that made the vectors.
    """

    terms: Sequence[int]
    exact: frozenset[int] = frozenset()
    types: frozenset[RegionType] | None = None
    doc_ids: frozenset[str] | None = None
    first_page: int | None = None
    last_page: int | None = None
    metadata: Mapping[str, Any] | None = None
    vector: bytes = b""
    model: str = ""


class FoundRegion(msgspec.Struct, frozen=True):
    """A region that was found.

    Attributes:
        region: it.
        score: 0 to 1: the share of the question that it answers, by weight, or the similarity, whichever is greater;
            never less than that of what comes after it, and comparable between searches.
        matched: terms of the question that it holds, what weighs most first.
        similarity: cosine to the question, where both have a vector.
    """

    region: Region
    score: float
    matched: Sequence[int] = ()
    similarity: float | None = None


class Reading(msgspec.Struct, frozen=True):
    """What a region says, as it was read this time.

    Attributes:
        text: as in `LaidRegion`.
        confidence: 0 to 1, measured; None where nothing was measured.
        is_cut: whoever read it stopped before the end, at a limit or in a loop.
    """

    text: str
    confidence: float | None
    is_cut: bool = False

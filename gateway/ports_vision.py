"""What looking into documents needs of the world, as Protocols: who keeps, reads, fetches and decodes them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from gateway.core.facts.memory import Position, Scope, Vector
from gateway.core.vision.document import (
    Box,
    Document,
    Fidelity,
    FoundRegion,
    Job,
    LaidPage,
    Reading,
    Region,
    RegionsSought,
)
from gateway.exchange import Exchange


class VisionFault(Exception):  # noqa: N818 - named for what it is in logs and metrics
    """What was asked for could not be had; `kind` is a stable word, `message` says what a caller may know.

    Kinds: `disabled` (switched off, an extra is missing, a breaker is open), `timeout`, `upstream` (it answered with an
    error, or with what cannot be read), `unreadable` (the document: broken, encrypted, of no known type, too large,
    hostile), `forbidden` (a source that must not be fetched), `busy` (a full queue), `full` and `down` (the store).
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


class DocumentPage(msgspec.Struct, frozen=True):
    """Documents in the order (`created_us`, `id`), how many there are in all, and where to go on; None at the end."""

    documents: Sequence[Document]
    total: int
    next: Position | None = None


class DocumentStore(Protocol):
    """Documents, their regions, and jobs. A document is found whole or not at all: once `finish` was called.

    Every call may raise `VisionFault` of kind `down`, `timeout` or `full`.
    """

    async def find(self, scope: Scope, hash_: str) -> Document | None:
        """The finished document of these bytes in this scope."""

    async def begin(self, document: Document, data: bytes) -> int:
        """Start to keep a document that is not found before it is finished; what is kept of the same id before then
        is taken up again.

        Returns:
            How many of its pages are kept already, from an earlier start with the same bytes.
        """

    async def add_page(self, doc_id: str, number: int, page: LaidPage, regions: Sequence[Region]) -> None:
        """Keep a page (from 1) of a document that is not finished; a page that is there is replaced."""

    async def finish(self, doc_id: str) -> Document:
        """Let it be found, in place of the one with the same id that was finished before."""

    async def abandon(self, doc_id: str) -> None:
        """Let go of what is kept of a document that is not finished."""

    async def document(self, owner: bytes, doc_id: str) -> Document | None:
        """The finished document of this id, if it is this owner's."""

    async def data_of(self, owner: bytes, doc_id: str) -> bytes | None:
        """Its bytes."""

    async def documents(self, scope: Scope, after: Position | None, limit: int) -> DocumentPage:
        """Finished documents of a scope."""

    async def delete_document(self, owner: bytes, doc_id: str) -> bool:
        """Let it go with its regions, if it is this owner's; returns whether there was one."""

    async def delete_all(self, owner: bytes, name: str | None = None) -> int:
        """Let all documents and jobs of this owner go, or of one scope; returns how many documents went."""

    async def regions(self, owner: bytes, region_ids: Sequence[str]) -> Mapping[str, Region]:
        """Regions of finished documents by id, as far as they are this owner's."""

    async def search(self, scope: Scope, sought: RegionsSought, limit: int) -> Sequence[FoundRegion]:
        """Regions that answer a question, best first: by its words, and by its vector where it has one."""

    async def put_vectors(self, vectors: Sequence[Vector]) -> None:
        """Keep what a model made of these regions' texts, in place of what another made; b"" where there was nothing to
        make it of. Those of regions that are gone, or not of a finished document, are passed over.
        """

    async def lacking_vectors(self, model: str, limit: int) -> Sequence[Region]:
        """Regions of finished documents that this model was not given yet, newest first."""

    async def claim_filling(self, worker: str, lease_us: int) -> bool:
        """Whether this worker is, for so long, the one that has vectors made: no two pay for the same one."""

    async def put_job(self, job: Job, data: bytes | None, queue_max: int) -> None:
        """Keep a new job, with the bytes that came with it; `busy` where so many wait already."""

    async def job(self, owner: bytes, job_id: str) -> Job | None:
        """A job, if it is this owner's."""

    async def job_data(self, job_id: str) -> bytes | None:
        """The bytes that came with it, until it ended."""

    async def claim_job(self, worker: str, now_us: int, lease_us: int) -> Job | None:
        """The oldest job that is queued, or whose worker's lease has run out, now leased to this worker."""

    async def save_job(self, job: Job, worker: str, lease_until_us: int) -> bool:
        """Keep how far a job is, and the lease; False where it was cancelled, or is another's by now."""

    async def cancel_job(self, job: Job) -> bool:
        """End a job that has not ended, as this record says; returns whether it had not."""

    async def waiting_jobs(self) -> int:
        """Jobs that are queued."""

    async def sweep(self, ended_before_us: int) -> int:
        """Let go of jobs that ended before, and of documents that nobody is indexing any more."""


class Inspected(msgspec.Struct, frozen=True):
    """What a document is, by its bytes."""

    media_type: str
    pages: int


class Reader(Protocol):
    """Reads documents, away from the event loop and out of this process. Every call may raise `VisionFault`."""

    async def inspect(self, data: bytes) -> Inspected:
        """What it is; `unreadable` with the reason where it is refused."""

    def pages(self, data: bytes, first: int) -> AsyncGenerator[LaidPage, None]:
        """Its pages from this one (from 1), in order, one at a time."""

    async def render(self, data: bytes, page: int, box: Box | None, max_side_px: int) -> bytes:
        """A part of a page as PNG, no side longer than this; None for the whole page."""

    async def decode(self, data: bytes, page: int, box: Box, dpi: int) -> Reading:
        """What a part of a page says: its text layer if it has one there, else read from the page at this size."""

    async def close(self) -> None:
        """End what runs."""


class Fetcher(Protocol):
    """Brings documents from where a URL says, as far as it may."""

    async def fetch(self, url: str) -> bytes:
        """The document.

        Raises:
            VisionFault: `forbidden`, `timeout`, `upstream`, or `unreadable` where it is too large.
        """


@dataclass(frozen=True, slots=True)
class ToDecode:
    """A region that is to be read again.

    Attributes:
        region: it.
        document_hash: of its document.
        fetch_data: its document's bytes.
    """

    region: Region
    document_hash: str
    fetch_data: Callable[[], Awaitable[bytes]]


class Decoder(Protocol):
    """Reads regions at a fidelity.

    Attributes:
        version: names the backend, its model and its prompts: what another one read is not taken for its own.
    """

    version: str

    async def decode(self, exchange: Exchange, wanted: ToDecode, fidelity: Fidelity) -> Reading:
        """What the region says.

        Raises:
            VisionFault: `disabled`, `timeout`, `upstream` or `unreadable`.
        """


@dataclass(frozen=True, slots=True)
class ReadPictures:
    """What is known of a chat's pictures.

    Attributes:
        texts: what was read in them, by `elide_parts.picture_key`: "" where nothing stands in one, and nothing of one
            that is not read yet.
        told: messages with that in place of their pictures (`elide_parts.tell_pictures`), by their place.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    told: Mapping[int, bytes] = field(default_factory=dict)


class Pictures(Protocol):
    """What stands written in the pictures of chats. Never raises."""

    async def look(
        self, exchange: Exchange, messages: Mapping[int, bytes], read: Callable[[int], msgspec.Raw | bytes]
    ) -> ReadPictures:
        """What was read so far in the encoded pictures of these messages; what was not is read in the background.

        Args:
            exchange: on whose account.
            messages: a digest that stands for each, by its place.
            read: gives the one in a place.
        """

"""From the bytes of a document to what is found in it: real processes, real readers, the real store."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from io import BytesIO

import pytest
from PIL import Image

from gateway.core.vision.document import JobStatus
from gateway.shell.vision.reader_process import ReaderOptions
from gateway.shell.vision.readers import ChildReaders
from gateway.shell.vision.source import ReadLimits
from gateway.shell.vision.sqlite import SqliteDocumentStore
from tests.shell.vision.documents import ALICE, sought
from tests.shell.vision.indexing import works
from tests.shell.vision.made_documents import scanned_pdf, text_pdf

PAGES = [
    ["The pump is switched off by the red lever.", "It stands behind the boiler."],
    ["Zirconium valves are greased every March."],
    ["The invoice number is 4711-0815."],
]
OPTIONS = ReaderOptions(ReadLimits(max_pages=10))


@pytest.fixture
async def readers() -> AsyncIterator[ChildReaders]:
    made = ChildReaders(OPTIONS)
    yield made
    await made.close()


async def test_a_pdf_is_indexed_and_found_rendered_and_decoded(
    store: SqliteDocumentStore, readers: ChildReaders
) -> None:
    """What is found says its page and place; there it is rendered and read again."""
    data = text_pdf(PAGES)
    async with works(store, readers) as work:
        job = await work.index(data, source="manual.pdf")
        found = (await store.search(ALICE, sought("greased zirconium"), 3))[0].region
    kept = await store.data_of(ALICE.owner, job.doc_id)
    assert kept is not None
    picture = Image.open(BytesIO(await readers.render(kept, found.page, found.laid.box, 300)))
    reading = await readers.decode(kept, found.page, found.laid.box, 144)

    assert (job.status, job.pages) == (JobStatus.SUCCEEDED, 3)
    assert kept == data
    assert (found.page, found.laid.confidence, found.laid.has_text_layer) == (2, 1.0, True)
    assert "Zirconium valves are greased every March." in found.laid.text
    assert max(picture.size) <= 300
    assert "Zirconium valves" in reading.text


async def test_a_scan_is_read_and_found(store: SqliteDocumentStore, readers: ChildReaders) -> None:
    """In a process that may take as much memory as is set, and has one thread."""
    async with works(store, readers) as work:
        job = await work.index(scanned_pdf(PAGES[1:2]))
        found = (await store.search(ALICE, sought("zirconium valves"), 3))[0].region

    assert job.status is JobStatus.SUCCEEDED
    assert not found.laid.has_text_layer
    assert 0.5 < found.laid.confidence < 1


BAD = {
    "nothing": b"",
    "no known type": b"just words",
    "a truncated PDF": text_pdf(PAGES)[:700],
    "too many pages": text_pdf([["page"]] * 11),
    "half a picture": b"\x89PNG\r\n\x1a\n" + b"\x00" * 50,
}


@pytest.mark.parametrize("kind", BAD)
async def test_what_is_no_document_is_refused_with_its_reason(
    store: SqliteDocumentStore, readers: ChildReaders, kind: str
) -> None:
    """And no process is lost by it."""
    async with works(store, readers) as work:
        job = await work.index(BAD[kind])

    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error.code == "VALIDATION_ERROR"
    assert len(job.error.message) > 20
    assert not readers.deaths


async def test_a_scan_that_needs_more_memory_than_there_may_be_is_refused(store: SqliteDocumentStore) -> None:
    """Its process ends by it, and not the machine."""
    small = ChildReaders(dataclasses.replace(OPTIONS, memory_bytes=1 << 28))
    async with works(store, small) as work:
        job = await work.index(scanned_pdf([["words and more words of a line"] * 40]))
        other = await work.index(text_pdf(PAGES))
    await small.close()

    assert job.error is not None
    assert "needed more memory than it may take, twice" in job.error.message
    assert other.status is JobStatus.SUCCEEDED

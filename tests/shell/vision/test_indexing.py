"""Orders to index documents: what becomes of them, and of the documents."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib

import pytest

from gateway.core.vision.document import JobStatus, RegionsSought
from gateway.ports_vision import VisionFault
from gateway.shell.vision.index_run import doc_id_of
from gateway.shell.vision.sqlite import SqliteDocumentStore
from tests.shell.vision.documents import ALICE, BOB, OTHER, sought, texts
from tests.shell.vision.indexing import QUICK, Works, works

DATA = b"alpha one\nbeta two words\ngamma three"


async def found(store: SqliteDocumentStore, question: str) -> list[str]:
    return texts(await store.search(ALICE, sought(question), 5))


async def test_a_document_is_read_page_by_page_and_found(store: SqliteDocumentStore) -> None:
    """Its regions have ids, tokens and pages; the job says how it went."""
    async with works(store) as work:
        job = await work.index(DATA, metadata={"team": "red"})
        (page,) = await store.search(ALICE, sought("beta"), 5)
        document = await store.document(ALICE.owner, job.doc_id)

    assert (job.status, job.pages_done, job.pages, job.progress) == (JobStatus.SUCCEEDED, 3, 3, 1.0)
    assert (page.region.page, page.region.token_estimate, len(page.region.id)) == (2, 3, 32)
    assert document is not None
    assert (document.id, document.media_type, document.source) == (job.doc_id, "text/x-made", "a.txt")
    assert (document.hash, document.metadata) == (hashlib.sha256(DATA).hexdigest(), {"team": "red"})
    assert work.reader.read == [1, 2, 3]
    assert work.jobs.figures.jobs == {"succeeded": 1}


async def test_a_document_is_fetched_by_its_url(store: SqliteDocumentStore) -> None:
    """Once, by the worker."""
    async with works(store) as work:
        work.fetcher.documents["https://a.example/d"] = DATA
        job = await work.index(None, source="https://a.example/d")

    assert job.status is JobStatus.SUCCEEDED
    assert work.fetcher.fetched == ["https://a.example/d"]


async def test_the_same_bytes_are_read_once_in_a_scope(store: SqliteDocumentStore) -> None:
    """A second order succeeds at once with the first one's document; another scope reads for itself."""
    async with works(store) as work:
        jobs = [await work.index(DATA, scope=scope) for scope in (ALICE, ALICE, OTHER, BOB)]

    assert [job.is_duplicate for job in jobs] == [False, True, False, False]
    assert [job.status for job in jobs] == [JobStatus.SUCCEEDED] * 4
    assert jobs[0].doc_id == jobs[1].doc_id
    assert len({job.doc_id for job in jobs}) == 3
    assert work.reader.inspected == 3
    assert work.jobs.figures.duplicates == 1


async def test_orders_at_the_same_time_read_the_same_bytes_once(store: SqliteDocumentStore) -> None:
    """The second waits for the first, and finds its document."""
    async with works(store, options=dataclasses.replace(QUICK, workers=3)) as work:
        jobs = await asyncio.gather(*(work.submit(DATA) for _ in range(6)))
        ended = [await work.ended(job) for job in jobs]

    assert sorted(job.is_duplicate for job in ended) == [False] + [True] * 5
    assert work.reader.read == [1, 2, 3]


async def test_a_forced_order_reads_again_and_keeps_the_id(store: SqliteDocumentStore) -> None:
    """The document's id stays; its regions are new."""
    async with works(store) as work:
        first = await work.index(DATA)
        old = (await store.search(ALICE, sought("beta"), 5))[0].region.id
        second = await work.index(DATA, is_forced=True)
        new = [each.region.id for each in await store.search(ALICE, sought("beta"), 5)]

    assert (second.doc_id, second.is_duplicate) == (first.doc_id, False)
    assert work.reader.read == [1, 2, 3] * 2
    assert len(new) == 1
    assert new != [old]


def test_ids_of_documents_are_told_apart_by_scope_and_bytes() -> None:
    """Neither owners, names nor bytes can be taken for each other's."""
    one, two = hashlib.sha256(b"1").hexdigest(), hashlib.sha256(b"2").hexdigest()
    ids = [doc_id_of(scope, hash_) for scope in (ALICE, BOB, OTHER) for hash_ in (one, two)]

    assert len(set(ids)) == 6
    assert all(len(id_) == 32 for id_ in ids)
    assert doc_id_of(ALICE, one) == ids[0]


FAULTS = [
    ("unreadable", "VALIDATION_ERROR"),
    ("forbidden", "VALIDATION_ERROR"),
    ("timeout", "TIMEOUT"),
    ("upstream", "UPSTREAM_ERROR"),
    ("disabled", "UPSTREAM_DISABLED"),
    ("full", "INTERNAL_ERROR"),
]


@pytest.mark.parametrize(("kind", "code"), FAULTS)
async def test_a_failed_fetch_fails_the_job(store: SqliteDocumentStore, kind: str, code: str) -> None:
    """With a code, and what the fetcher said; the next job is worked on."""
    async with works(store) as work:
        work.fetcher.documents["u"] = VisionFault(kind, "Because.")
        job = await work.index(None, source="u")
        other = await work.index(DATA)

    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert (job.error.code, job.error.message) == (code, "Because.")
    assert other.status is JobStatus.SUCCEEDED
    assert work.jobs.figures.errors == {code: 1}


@pytest.mark.parametrize("page", [0, 2])
async def test_what_cannot_be_read_fails_and_leaves_nothing(store: SqliteDocumentStore, page: int) -> None:
    """Whether it is found out at the start or at a page."""
    async with works(store) as work:
        work.reader.faults[page] = VisionFault("unreadable", "It is broken.")
        job = await work.index(DATA)
        held = await store.held_bytes()
        again = await work.index(DATA)

    assert job.error is not None
    assert (job.error.code, job.error.message) == ("VALIDATION_ERROR", "It is broken.")
    assert held < 2000
    assert again.status is JobStatus.SUCCEEDED
    assert work.reader.read[-3:] == [1, 2, 3]


async def test_a_failed_forced_order_leaves_the_document_as_it_was(store: SqliteDocumentStore) -> None:
    """What was found is found still."""
    async with works(store) as work:
        await work.index(DATA)
        work.reader.faults[2] = VisionFault("unreadable", "It is broken.")
        job = await work.index(DATA, is_forced=True)

    assert job.status is JobStatus.FAILED
    assert await found(store, "gamma") == ["gamma three"]


async def test_a_fault_of_our_own_is_told_as_one(store: SqliteDocumentStore, caplog: pytest.LogCaptureFixture) -> None:
    """Its words are for the log, and the worker lives on."""
    async with works(store) as work:
        work.reader.faults[1] = RuntimeError("inner words")
        job = await work.index(DATA)
        other = await work.index(DATA)

    assert job.error is not None
    assert job.error.code == "INTERNAL_ERROR"
    assert "inner words" not in job.error.message
    assert "inner words" in caplog.text
    assert other.status is JobStatus.SUCCEEDED


async def test_a_job_that_waits_is_cancelled(store: SqliteDocumentStore) -> None:
    """It never runs."""
    work = Works(store)
    job = await work.submit(DATA)
    ended = await work.jobs.cancel(ALICE.owner, job.id)
    await work.jobs.start()
    other = await work.index(b"other")
    await work.jobs.close()

    assert ended is not None
    assert ended.error is not None
    assert (ended.status, ended.error.code) == (JobStatus.FAILED, "CONFLICT")
    assert other.status is JobStatus.SUCCEEDED
    assert work.reader.inspected == 1


async def test_a_job_that_runs_is_cancelled(store: SqliteDocumentStore) -> None:
    """Its reading is left at once, and nothing stays of its document."""
    async with works(store) as work:
        work.reader.gate.clear()
        work.reader.gate_at = 2
        job = await work.submit(DATA)
        await work.reader.arrived.wait()
        cancelled = await work.jobs.cancel(ALICE.owner, job.id)
        ended = await work.ended(job)
        held = await store.held_bytes()
        other = await work.index(b"other")

    assert cancelled is not None
    assert ended == cancelled
    assert held < 2000
    assert work.reader.left == 1
    assert other.status is JobStatus.SUCCEEDED
    assert work.jobs.figures.jobs == {"cancelled": 1, "succeeded": 1}


async def test_a_job_that_another_process_cancelled_stops_at_its_next_page(store: SqliteDocumentStore) -> None:
    """The store says so when the page is kept."""
    elsewhere = Works(store)
    async with works(store) as work:
        work.reader.gate.clear()
        work.reader.gate_at = 2
        job = await work.submit(DATA)
        await work.reader.arrived.wait()
        await elsewhere.jobs.cancel(ALICE.owner, job.id)
        work.reader.gate.set()
        ended = await work.ended(job)
        other = await work.index(b"other")

    assert ended.status is JobStatus.FAILED
    assert other.status is JobStatus.SUCCEEDED
    assert await store.find(ALICE, hashlib.sha256(DATA).hexdigest()) is None
    assert work.reader.read == [1, 2, 1]


async def test_a_page_that_never_ends_is_left_when_another_process_cancels(store: SqliteDocumentStore) -> None:
    """The lease is kept up beside the page, and is refused."""
    elsewhere = Works(store)
    async with works(store, options=dataclasses.replace(QUICK, lease_s=0.03)) as work:
        work.reader.gate.clear()
        job = await work.submit(DATA)
        await work.reader.arrived.wait()
        await elsewhere.jobs.cancel(ALICE.owner, job.id)
        ended = await work.ended(job)

    assert ended.status is JobStatus.FAILED
    assert work.reader.left == 1


async def test_cancelling_what_ended_or_is_anothers_changes_nothing(store: SqliteDocumentStore) -> None:
    """The one is told as it is, the other not at all."""
    async with works(store) as work:
        job = await work.index(DATA)

        assert await work.jobs.cancel(ALICE.owner, job.id) == job
        assert await work.jobs.cancel(BOB.owner, job.id) is None
        assert await work.jobs.cancel(ALICE.owner, "0" * 32) is None


async def test_a_full_queue_refuses(store: SqliteDocumentStore) -> None:
    """As the store says."""
    work = Works(store, options=dataclasses.replace(QUICK, queue_max=1))
    await work.submit(DATA)
    with pytest.raises(VisionFault) as caught:
        await work.submit(DATA)

    assert caught.value.kind == "busy"
    assert await work.jobs.waiting() == 1


async def test_a_large_page_is_counted_in_a_thread(store: SqliteDocumentStore) -> None:
    """What it holds is the same."""
    async with works(store) as work:
        await work.index(b"word " * 50_000)
        (region,) = await store.search(ALICE, RegionsSought(sought("word").terms), 5)

    assert region.region.token_estimate == 50_000

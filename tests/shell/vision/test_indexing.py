"""Orders to index: what becomes of them, over a real store, with a reader that can be held up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.core.facts.memory import Scope
from gateway.core.vision.document import Document, Job, JobError, JobStatus, LaidPage
from gateway.ports_vision import VisionFault
from gateway.shell.vision.indexing import IndexJobs, IndexRules, doc_id_of
from gateway.shell.vision.sqlite import SqliteDocumentStore
from tests.fakes.documents import LinesReader
from tests.shell.vision.documents import ALICE, BOB, OTHER, sought, texts

RULES = IndexRules(workers=1, queue_max=10, lease_s=60.0, poll_s=0.02)
PAGES = b"the red barn\fthe blue boat\fthe green door"


class HeldReader(LinesReader):
    """Stops before the page that is named, until it may go on; counts what it reads."""

    def __init__(self) -> None:
        self.read: list[int] = []
        self.held_page = 0
        self.is_holding = asyncio.Event()
        self.may_go_on = asyncio.Event()
        self.fault: Exception | None = None

    async def pages(self, data: bytes, first: int) -> AsyncGenerator[LaidPage, None]:
        number = first
        async for page in super().pages(data, first):
            if number == self.held_page:
                self.is_holding.set()
                await self.may_go_on.wait()
                if self.fault is not None:
                    raise self.fault
            self.read.append(number)
            yield page
            number += 1


class Web:
    """Answers URLs, or says why not."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes | Exception] = {}

    async def fetch(self, url: str) -> bytes:
        answer = self.answers[url]
        if isinstance(answer, Exception):
            raise answer
        return answer


class ShakyStore(SqliteDocumentStore):
    """Fails some calls."""

    def __init__(self) -> None:
        super().__init__(None)
        self.down: set[str] = set()
        self.faults = 0

    def _check(self, call: str) -> None:
        if call in self.down:
            self.faults += 1
            raise VisionFault("down", "no")

    async def claim_job(self, worker: str, now_us: int, lease_us: int) -> Job | None:
        self._check("claim_job")
        return await super().claim_job(worker, now_us, lease_us)

    async def add_page(self, doc_id: str, number: int, page: LaidPage, regions: Any) -> None:
        self._check("add_page")
        await super().add_page(doc_id, number, page, regions)

    async def save_job(self, job: Job, worker: str, lease_until_us: int) -> bool:
        self._check("save_job")
        return await super().save_job(job, worker, lease_until_us)

    async def finish(self, doc_id: str) -> Document:
        self._check("finish")
        return await super().finish(doc_id)


class Desk:
    """A store, a reader, a web, and jobs over them."""

    def __init__(self, store: SqliteDocumentStore, rules: IndexRules = RULES) -> None:
        self.store = store
        self.reader = HeldReader()
        self.web = Web()
        self.rules = rules
        self.jobs = self.more()

    def more(self) -> IndexJobs:
        """Jobs of another process."""
        return IndexJobs(self.store, self.reader, self.web, len, self.rules)

    async def order(
        self, data: bytes | None = PAGES, scope: Scope = ALICE, source: str = "a.txt", is_forced: bool = False
    ) -> Job:
        return await self.jobs.submit(scope, source, data, {"year": 2024}, is_forced=is_forced)

    async def ended(self, job: Job) -> Job:
        """What became of it."""
        return await self.once(job, lambda found: found.ended_us is not None)

    async def once(self, job: Job, is_so: Callable[[Job], bool]) -> Job:
        for _ in range(1000):
            found = await self.store.job(job.scope.owner, job.id)
            assert found is not None
            if is_so(found):
                return found
            await asyncio.sleep(0.01)
        raise AssertionError(f"still {found}")


@pytest.fixture(params=["memory", "file"])
async def desk(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Desk]:
    made = Desk(SqliteDocumentStore(tmp_path / "vision.db" if request.param == "file" else None))
    await made.jobs.start()
    yield made
    await made.jobs.close()
    await made.store.close()


async def test_an_upload_is_indexed(desk: Desk) -> None:
    """Its pages can be searched; each region's tokens were counted."""
    job = await desk.ended(await desk.order())
    found = await desk.store.search(ALICE, sought("blue boat"), 5)
    document = await desk.store.document(ALICE.owner, job.doc_id)

    assert (job.status, job.progress, job.pages, job.pages_done) == (JobStatus.SUCCEEDED, 1.0, 3, 3)
    assert job.doc_id == doc_id_of(ALICE, document.hash if document else "")
    assert texts(found)[0] == "the blue boat"
    assert found[0].region.token_estimate == len("the blue boat")
    assert document is not None
    assert (document.pages, document.regions, document.metadata) == (3, 3, {"year": 2024})
    assert await desk.store.job_data(job.id) is None
    assert desk.jobs.tally == {"succeeded": 1}


async def test_a_url_is_fetched(desk: Desk) -> None:
    """By whoever may."""
    desk.web.answers["https://docs.example.com/a"] = PAGES
    job = await desk.ended(await desk.order(None, source="https://docs.example.com/a"))

    assert job.status is JobStatus.SUCCEEDED


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (VisionFault("forbidden", "not from there"), "VALIDATION_ERROR"),
        (VisionFault("unreadable", "too large"), "VALIDATION_ERROR"),
        (VisionFault("timeout", "too slow"), "TIMEOUT"),
        (VisionFault("upstream", "404"), "UPSTREAM_ERROR"),
        (VisionFault("disabled", "no extra"), "UPSTREAM_DISABLED"),
        (VisionFault("full", "no room"), "INTERNAL_ERROR"),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
async def test_a_fault_fails_the_job(desk: Desk, fault: VisionFault, code: str) -> None:
    """With its reason; the next one is carried out."""
    desk.web.answers["https://docs.example.com/a"] = fault
    job = await desk.ended(await desk.order(None, source="https://docs.example.com/a"))
    after = await desk.ended(await desk.order())

    assert (job.status, job.error) == (JobStatus.FAILED, JobError(code, fault.message))
    assert after.status is JobStatus.SUCCEEDED
    assert desk.jobs.tally == {"failed": 1, "succeeded": 1}


async def test_a_broken_document_fails_the_job(desk: Desk) -> None:
    """Nothing of it is kept."""
    job = await desk.ended(await desk.order(b"\xff\xfe"))

    assert job.error == JobError("VALIDATION_ERROR", "The document is no text.")
    assert await desk.store.totals() == (0, 0)


@pytest.mark.parametrize("fault", [VisionFault("unreadable", "page 2 is broken"), ZeroDivisionError()])
async def test_a_page_that_cannot_be_read_fails_the_job(desk: Desk, fault: Exception) -> None:
    """The pages before it are let go; a bug names the job in the log."""
    desk.reader.held_page, desk.reader.fault = 2, fault
    desk.reader.may_go_on.set()
    job = await desk.ended(await desk.order())

    assert job.error is not None
    assert job.error.code == ("VALIDATION_ERROR" if isinstance(fault, VisionFault) else "INTERNAL_ERROR")
    assert "ZeroDivision" not in job.error.message
    assert (job.pages_done, job.pages) == (1, 3)
    assert await desk.store.held_bytes() < 1000


async def test_the_same_bytes_are_indexed_once(desk: Desk) -> None:
    """In one memory; another memory, and another client, have their own."""
    first = await desk.ended(await desk.order())
    again = await desk.ended(await desk.order())
    forced = await desk.ended(await desk.order(is_forced=True))
    others = [await desk.ended(await desk.order(scope=scope)) for scope in (OTHER, BOB)]

    assert (again.status, again.doc_id, again.is_duplicate) == (JobStatus.SUCCEEDED, first.doc_id, True)
    assert (forced.doc_id, forced.is_duplicate) == (first.doc_id, False)
    assert len({first.doc_id, *(other.doc_id for other in others)}) == 3
    assert desk.reader.read == [1, 2, 3] * 4


async def test_orders_for_the_same_bytes_wait_for_each_other(tmp_path: Path) -> None:
    """However many run at once, the document is read once."""
    desk = Desk(SqliteDocumentStore(tmp_path / "vision.db"), IndexRules(workers=3, poll_s=0.02))
    await desk.jobs.start()
    orders = [await desk.order() for _ in range(3)]
    ended = [await desk.ended(order) for order in orders]
    await desk.jobs.close()
    await desk.store.close()

    assert sorted(job.is_duplicate for job in ended) == [False, True, True]
    assert desk.reader.read == [1, 2, 3]


async def test_progress_is_told(desk: Desk) -> None:
    """Page by page."""
    desk.reader.held_page = 3
    order = await desk.order()
    await desk.reader.is_holding.wait()
    half = await desk.once(order, lambda job: job.pages_done == 2)
    hidden = await desk.store.search(ALICE, sought("red barn"), 5)
    desk.reader.may_go_on.set()
    await desk.ended(order)

    assert (half.status, half.pages, round(half.progress, 2)) == (JobStatus.RUNNING, 3, 0.67)
    assert hidden == []


async def test_a_running_job_can_be_cancelled(desk: Desk) -> None:
    """What was read is let go, and the worker goes on with the next."""
    desk.reader.held_page = 2
    order = await desk.order()
    await desk.reader.is_holding.wait()
    foreign = await desk.jobs.cancel(BOB.owner, order.id)
    cancelled = await desk.jobs.cancel(ALICE.owner, order.id)
    again = await desk.jobs.cancel(ALICE.owner, order.id)
    desk.reader.held_page = 0
    after = await desk.ended(await desk.order(b"another"))

    assert foreign is None
    assert cancelled is not None
    assert cancelled == again == await desk.store.job(ALICE.owner, order.id)
    assert cancelled.error == JobError("CONFLICT", "The job was cancelled.")
    assert after.status is JobStatus.SUCCEEDED
    assert (await desk.store.totals())[0] == 1


async def test_a_job_cancelled_elsewhere_is_given_up(tmp_path: Path) -> None:
    """By the lease, in the middle of a page."""
    desk = Desk(SqliteDocumentStore(tmp_path / "vision.db"), IndexRules(lease_s=0.2, poll_s=0.02))
    await desk.jobs.start()
    desk.reader.held_page = 2
    order = await desk.order()
    await desk.reader.is_holding.wait()
    await desk.more().cancel(ALICE.owner, order.id)
    desk.reader.held_page = 0
    after = await desk.ended(await desk.order(b"another"))
    await desk.jobs.close()
    await desk.store.close()

    assert after.status is JobStatus.SUCCEEDED
    assert desk.jobs.tally == {"succeeded": 1}


async def test_what_runs_is_given_back_at_the_end(desk: Desk) -> None:
    """Another process goes on at the page that comes next."""
    desk.reader.held_page = 3
    order = await desk.order()
    await desk.reader.is_holding.wait()
    await desk.jobs.close()
    given_back = await desk.store.job(ALICE.owner, order.id)
    desk.reader.held_page = 0
    others = desk.more()
    await others.start()
    ended = await desk.ended(order)
    await others.close()

    assert given_back is not None
    assert given_back.status is JobStatus.QUEUED
    assert (ended.status, ended.pages_done) == (JobStatus.SUCCEEDED, 3)
    assert desk.reader.read == [1, 2, 3]


async def test_a_worker_that_died_is_replaced_after_its_lease(tmp_path: Path) -> None:
    """Its job goes on where it was left."""
    desk = Desk(SqliteDocumentStore(tmp_path / "vision.db"), IndexRules(lease_s=0.3, poll_s=0.02))
    order = await desk.order()
    dead = await desk.store.claim_job("dead", desk.jobs._now_us(), 300_000)
    await desk.jobs.start()
    early = await desk.store.job(ALICE.owner, order.id)
    ended = await desk.ended(order)
    await desk.jobs.close()
    await desk.store.close()

    assert dead is not None
    assert early is not None
    assert early.status is JobStatus.RUNNING
    assert ended.status is JobStatus.SUCCEEDED


async def test_a_long_page_keeps_its_lease(tmp_path: Path) -> None:
    """Nobody else takes the job meanwhile."""
    desk = Desk(SqliteDocumentStore(tmp_path / "vision.db"), IndexRules(lease_s=0.2, poll_s=0.02))
    await desk.jobs.start()
    others = desk.more()
    await others.start()
    desk.reader.held_page = 2
    order = await desk.order()
    await desk.reader.is_holding.wait()
    await asyncio.sleep(0.5)  # two leases and a half
    desk.reader.may_go_on.set()
    ended = await desk.ended(order)
    await desk.jobs.close()
    await others.close()
    await desk.store.close()

    assert ended.status is JobStatus.SUCCEEDED
    assert desk.reader.read == [1, 2, 3]


async def test_a_full_queue_takes_no_more(desk: Desk) -> None:
    """It says so."""
    await desk.jobs.close()
    for number in range(RULES.queue_max):
        await desk.order(b"%d" % number)

    with pytest.raises(VisionFault) as raised:
        await desk.order(b"one more")
    assert raised.value.kind == "full"


@pytest.mark.parametrize("calls", [{"claim_job"}, {"add_page", "save_job", "claim_job"}, {"finish", "save_job"}])
async def test_a_store_that_is_down_is_waited_for(calls: set[str]) -> None:
    """The job ends when it is there again."""
    store = ShakyStore()
    desk = Desk(store)
    await desk.jobs.start()
    store.down = calls
    order = await desk.order()
    while store.faults < 6:
        await asyncio.sleep(0.01)
    store.down = set()
    ended = await desk.ended(order)
    await desk.jobs.close()
    await store.close()

    assert ended.status is JobStatus.SUCCEEDED
    assert desk.reader.read == [1, 2, 3]


async def test_a_store_that_refuses_one_call_only_fails_the_job() -> None:
    """It would be asked for ever."""
    store = ShakyStore()
    desk = Desk(store)
    await desk.jobs.start()
    store.down = {"add_page"}
    ended = await desk.ended(await desk.order())
    await desk.jobs.close()
    await store.close()

    assert ended.error == JobError("INTERNAL_ERROR", "no")


async def test_a_client_that_lets_all_go_loses_its_jobs(desk: Desk) -> None:
    """One that runs ends without a word, and leaves nothing."""
    desk.reader.held_page = 2
    await desk.order()
    await desk.reader.is_holding.wait()
    await desk.store.delete_all(ALICE.owner)
    desk.reader.may_go_on.set()
    after = await desk.ended(await desk.order(b"another"))

    assert after.status is JobStatus.SUCCEEDED
    assert (await desk.store.totals())[0] == 1
    assert desk.jobs.tally == {"succeeded": 1}


def test_documents_of_different_memories_have_different_ids() -> None:
    """Whatever their names are made of."""
    ids = {doc_id_of(Scope(b"o" * 32, name), "00" * 32) for name in ("", "a", "ab", "b", "\x00")}

    assert len(ids) == 5

"""Indexing while stores, processes and workers come and go: no job is lost, no page read twice."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from gateway.core.vision.document import Job, JobStatus, LaidPage
from gateway.ports_vision import VisionFault
from gateway.shell.vision.measured_reader import MeasuredReader
from gateway.shell.vision.reader_process import ReaderOptions
from gateway.shell.vision.readers import ChildReaders
from gateway.shell.vision.source import ReadLimits
from gateway.shell.vision.sqlite import SqliteDocumentStore
from tests.fakes.document_readers import FlakyStore
from tests.shell.vision.bad_reader import document
from tests.shell.vision.documents import ALICE, sought, texts
from tests.shell.vision.indexing import QUICK, Works, works

DATA = b"alpha one\nbeta two\ngamma three\ndelta four"


async def in_the_middle(work: Works, page: int = 3) -> Job:
    """A job whose worker waits before this page."""
    work.reader.gate.clear()
    work.reader.gate_at = page
    job = await work.submit(DATA)
    await work.reader.arrived.wait()
    return job


async def test_what_runs_at_the_close_is_given_back_and_gone_on_with(store: SqliteDocumentStore) -> None:
    """At the page where it was, by whoever is next; at once, and not when a lease has run out."""
    async with works(store) as first:
        job = await in_the_middle(first)
    between = await store.job(ALICE.owner, job.id)
    async with works(store) as second:
        ended = await second.ended(job)

    assert between is not None
    assert (between.status, between.pages_done) == (JobStatus.QUEUED, 2)
    assert ended.status is JobStatus.SUCCEEDED
    assert (first.reader.read, second.reader.read) == ([1, 2], [3, 4])
    assert texts(await store.search(ALICE, sought("alpha"), 5)) == ["alpha one"]
    assert texts(await store.search(ALICE, sought("delta"), 5)) == ["delta four"]
    assert first.jobs.figures.jobs == {"released": 1}


async def test_a_worker_that_vanished_loses_its_job_when_its_lease_is_over(store: SqliteDocumentStore) -> None:
    """Another goes on where it was."""
    now = time.time()
    first = Works(store, clock=lambda: now)
    await first.jobs.start()
    job = await in_the_middle(first)
    async with works(store, clock=lambda: now + 100) as second:
        ended = await second.ended(job)
    first.reader.gate.set()
    await first.jobs.close()

    assert ended.status is JobStatus.SUCCEEDED
    assert second.reader.read == [3, 4]
    assert texts(await store.search(ALICE, sought("gamma"), 5)) == ["gamma three"]


async def test_a_worker_that_lost_its_job_does_the_other_no_harm(store: SqliteDocumentStore) -> None:
    """What it comes back with is refused, and what the other has begun stays."""
    now = time.time()
    async with works(store, clock=lambda: now) as first:
        job = await in_the_middle(first, 2)
        second = Works(store, clock=lambda: now + 100)
        second.reader.gate.clear()
        second.reader.gate_at = 4
        await second.jobs.start()
        await second.reader.arrived.wait()
        first.reader.gate.set()
        while first.jobs.running:
            await asyncio.sleep(0.002)
        second.reader.gate.set()
        ended = await second.ended(job)
        await second.jobs.close()

    assert ended.status is JobStatus.SUCCEEDED
    assert first.jobs.figures.jobs == {}
    assert texts(await store.search(ALICE, sought("alpha"), 5)) == ["alpha one"]


CALLS = ["claim_job", "job_data", "find", "begin", "save_job", "add_page", "finish"]


@pytest.mark.parametrize("kind", ["down", "timeout"])
@pytest.mark.parametrize("name", [*CALLS, *(f"+{name}" for name in CALLS)])
async def test_a_store_that_is_not_there_is_waited_for(store: SqliteDocumentStore, name: str, kind: str) -> None:
    """Whatever call fails, and whether or not it was done all the same, the document is whole at the end."""
    flaky = FlakyStore(store)
    flaky.failing, flaky.kind = {name: 3}, kind
    options = dataclasses.replace(QUICK, lease_s=0.3) if name == "+claim_job" else QUICK
    async with works(flaky, options=options) as work:
        job = await work.index(DATA)

    assert (job.status, job.pages_done) == (JobStatus.SUCCEEDED, 4)
    assert work.reader.read == [1, 2, 3, 4]
    assert flaky.failing == {name: 0}
    for word in ("alpha", "beta", "gamma", "delta"):
        assert len(texts(await store.search(ALICE, sought(word), 5))) == 1


async def test_a_store_that_is_away_for_long_costs_nothing(store: SqliteDocumentStore) -> None:
    """All calls fail again and again, and the job is done."""
    flaky = FlakyStore(store)
    flaky.failing = dict.fromkeys(("save_job", "claim_job"), 20)
    async with works(flaky) as work:
        job = await work.index(DATA)

    assert job.status is JobStatus.SUCCEEDED
    assert work.reader.read == [1, 2, 3, 4]


async def test_a_full_store_fails_the_job(store: SqliteDocumentStore) -> None:
    """That does not pass by waiting."""
    flaky = FlakyStore(store)
    flaky.failing, flaky.kind = {"add_page": 1}, "full"
    async with works(flaky) as work:
        job = await work.index(DATA)

    assert job.error is not None
    assert (job.error.code, job.error.message) == ("INTERNAL_ERROR", "the store is not there")


async def test_a_document_that_is_deleted_while_it_is_read_ends_its_job(store: SqliteDocumentStore) -> None:
    """It is not waited for, and does not come back."""
    async with works(store) as work:
        await work.index(DATA)
        work.reader.arrived.clear()
        work.reader.gate.clear()
        work.reader.gate_at = 3
        job = await work.submit(DATA, is_forced=True)
        await work.reader.arrived.wait()
        was_there = await store.delete_document(ALICE.owner, (await store.job(ALICE.owner, job.id)).doc_id)  # type: ignore[union-attr]
        work.reader.gate.set()
        ended = await work.ended(job)

    assert was_there
    assert ended.error is not None
    assert ended.error.code == "INTERNAL_ERROR"
    assert "deleted while it was indexed" in ended.error.message
    assert await store.search(ALICE, sought("alpha"), 5) == []


async def test_all_of_an_owner_deleted_while_it_is_read_leaves_nothing(store: SqliteDocumentStore) -> None:
    """Nor does its job."""
    async with works(store) as work:
        job = await in_the_middle(work)
        await store.delete_all(ALICE.owner)
        work.reader.gate.set()
        while work.jobs.running:
            await asyncio.sleep(0.002)

    assert await store.job(ALICE.owner, job.id) is None
    assert await store.search(ALICE, sought("alpha"), 5) == []
    assert await store.held_bytes() < 2000


async def test_a_machine_without_room_for_readers_is_waited_for(store: SqliteDocumentStore) -> None:
    """The job is given back and tried again, and no page is read twice."""
    async with works(store) as work:
        work.reader.faults = {0: VisionFault("down", "no process"), 3: VisionFault("down", "no process")}
        job = await work.index(DATA)

    assert job.status is JobStatus.SUCCEEDED
    assert work.reader.read == [1, 2, 3, 4]


async def test_a_url_that_leads_elsewhere_after_a_restart_is_read_anew(store: SqliteDocumentStore) -> None:
    """What was kept of the other bytes goes."""
    async with works(store) as first:
        first.fetcher.documents["u"] = DATA
        first.reader.gate.clear()
        first.reader.gate_at = 3
        job = await first.submit(None, source="u")
        await first.reader.arrived.wait()
    async with works(store) as second:
        second.fetcher.documents["u"] = b"omega\n" + DATA
        ended = await second.ended(job)

    assert ended.status is JobStatus.SUCCEEDED
    assert second.reader.read == [1, 2, 3, 4, 5]
    assert len(texts(await store.search(ALICE, sought("alpha"), 5))) == 1


async def test_a_job_that_is_submitted_starts_at_once(store: SqliteDocumentStore) -> None:
    """Not when it is looked for next."""
    async with works(store, options=dataclasses.replace(QUICK, poll_s=3600.0, workers=2)) as work:
        jobs = [await work.index(b"first"), await work.index(b"second")]

    assert [job.status for job in jobs] == [JobStatus.SUCCEEDED] * 2


async def test_processes_that_index_the_same_bytes_otherwise_told_end_with_a_whole_document(
    store: SqliteDocumentStore,
) -> None:
    """One begins what the other is in the middle of anew; both jobs succeed, and every page is found once."""
    first, second = Works(store), Works(store)
    await first.jobs.start()
    jobs = [await in_the_middle(first)]
    await second.jobs.start()
    second.reader.gate.clear()
    second.reader.gate_at = 2
    jobs.append(await second.submit(DATA, metadata={"team": "red"}))
    await second.reader.arrived.wait()
    first.reader.gate.set()
    ended = [await first.ended(jobs[0])]
    second.reader.gate.set()
    ended.append(await second.ended(jobs[1]))
    await first.jobs.close()
    await second.jobs.close()

    assert [job.status for job in ended] == [JobStatus.SUCCEEDED] * 2
    assert first.reader.read == [1, 2, 3, 4, 1, 2, 3, 4]
    for word in ("alpha", "beta", "gamma", "delta"):
        assert len(texts(await store.search(ALICE, sought(word), 5))) == 1


async def test_a_reader_killed_in_the_middle_costs_no_page(store: SqliteDocumentStore) -> None:
    """Real processes: `kill -9` of one, and the document is whole."""
    readers = ChildReaders(ReaderOptions(ReadLimits(), module="tests.shell.vision.bad_reader"))

    class Killing:
        """Kills the process after the second page."""

        async def add_page(self, doc_id: str, number: int, page: LaidPage, regions: object) -> None:
            if number == 2:
                os.kill(readers.pids[0], signal.SIGKILL)
            await store.add_page(doc_id, number, page, regions)  # type: ignore[arg-type]

        def __getattr__(self, name: str) -> object:
            return getattr(store, name)

    async with works(Killing(), readers) as work:
        job = await work.index(document(4))
    await readers.close()

    assert (job.status, job.pages_done) == (JobStatus.SUCCEEDED, 4)
    assert readers.started == 2


async def test_a_gateway_killed_in_the_middle_of_a_document_costs_nothing(tmp_path: Path) -> None:
    """Real processes: after `kill -9` of it and of its reader, another goes on at the page where it was."""
    path = tmp_path / "vision.db"
    arguments = (sys.executable, "-m", "tests.shell.vision.indexing_child", str(path))
    killed = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE)
    assert killed.stdout is not None
    job_id = (await killed.stdout.readline()).decode().strip()
    await killed.stdout.readline()
    killed.kill()
    await killed.wait()
    (tmp_path / "vision.db.flag").touch()
    store = SqliteDocumentStore(path)
    readers = ChildReaders(ReaderOptions(ReadLimits(), module="tests.shell.vision.bad_reader"))
    read: list[str] = []
    measured = MeasuredReader(readers, lambda source, _: read.append(source))
    async with works(store, measured, clock=lambda: time.time() + 100) as work:
        job = await store.job(ALICE.owner, job_id)
        assert job is not None
        ended = await work.ended(job)
        found = [len(await store.search(ALICE, sought(f"page {page}"), 9)) for page in range(1, 5)]
    await readers.close()
    await store.close()

    assert (ended.status, ended.pages_done) == (JobStatus.SUCCEEDED, 4)
    assert read == ["document"] * 2
    assert found == [4] * 4


async def test_a_job_that_is_claimed_while_the_gateway_closes_is_given_back(store: SqliteDocumentStore) -> None:
    """Nobody waits for its lease."""
    claimed, go_on = asyncio.Event(), asyncio.Event()

    class Slow:
        """Answers a claim late."""

        async def claim_job(self, worker: str, now_us: int, lease_us: int) -> Job | None:
            job = await store.claim_job(worker, now_us, lease_us)
            claimed.set()
            await go_on.wait()
            return job

        def __getattr__(self, name: str) -> object:
            return getattr(store, name)

    work = Works(Slow())
    job = await work.submit(DATA)
    await work.jobs.start()
    await claimed.wait()
    closing = asyncio.create_task(work.jobs.close())
    await asyncio.sleep(0)
    go_on.set()
    await closing
    left = await store.job(ALICE.owner, job.id)

    assert left is not None
    assert left.status is JobStatus.QUEUED


async def test_bytes_that_are_not_kept_any_more_fail_their_job(store: SqliteDocumentStore) -> None:
    """It says so, and is not tried for ever."""

    class Forgetful:
        """Has lost what came with jobs."""

        async def job_data(self, job_id: str) -> bytes | None:
            return None

        def __getattr__(self, name: str) -> object:
            return getattr(store, name)

    async with works(Forgetful()) as work:
        job = await work.index(DATA)

    assert job.error is not None
    assert (job.error.code, job.error.message[-16:]) == ("INTERNAL_ERROR", "upload it again.")


async def test_a_store_that_hangs_does_not_hold_up_the_close(store: SqliteDocumentStore) -> None:
    """The job is left to its lease."""

    class Hanging:
        """Saves nothing, and does not say so."""

        async def save_job(self, job: Job, worker: str, lease_until_us: int) -> bool:
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

        def __getattr__(self, name: str) -> object:
            return getattr(store, name)

    work = Works(Hanging())
    await work.jobs.start()
    job = await work.submit(DATA)
    while not work.jobs.running:
        await asyncio.sleep(0.002)
    async with asyncio.timeout(10):
        await work.jobs.close()
    left = await store.job(ALICE.owner, job.id)

    assert left is not None
    assert left.status is JobStatus.RUNNING


@pytest.mark.parametrize("act", ["crash", "memory", "nonsense"])
async def test_a_hostile_document_fails_alone(store: SqliteDocumentStore, act: str) -> None:
    """Real processes: it is refused with a reason, and the one behind it is indexed."""
    options = ReaderOptions(ReadLimits(), module="tests.shell.vision.bad_reader", memory_bytes=1 << 28)
    readers = ChildReaders(options)
    async with works(store, readers) as work:
        jobs = [await work.submit(document(3, p2=act)), await work.submit(document(2))]
        bad, good = [await work.ended(job) for job in jobs]
    await readers.close()

    assert bad.error is not None
    assert (bad.error.code, bad.error.message[:22]) == ("VALIDATION_ERROR", "Page 2 cannot be read:")
    assert good.status is JobStatus.SUCCEEDED


async def test_closing_in_the_middle_of_a_page_ends_its_process(store: SqliteDocumentStore) -> None:
    """Real processes: a page that hangs holds nobody up."""
    readers = ChildReaders(ReaderOptions(ReadLimits(), module="tests.shell.vision.bad_reader"))
    async with works(store, readers) as work:
        job = await work.submit(document(2, p2="hang"))
        while (await store.job(ALICE.owner, job.id)).pages_done < 1:  # type: ignore[union-attr]
            await asyncio.sleep(0.005)
    pids = readers.pids
    await readers.close()
    left = await store.job(ALICE.owner, job.id)

    assert pids == []
    assert left is not None
    assert (left.status, left.pages_done) == (JobStatus.QUEUED, 1)

"""Any sequence of calls leaves a store as it leaves a dictionary: what `DocumentStore` promises, told plainly."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from gateway.core.facts.memory import Scope, Vector
from gateway.core.vision.document import Document, Job, JobStatus, Region
from gateway.ports_vision import VisionFault
from gateway.shell.vision.sqlite import SqliteDocumentStore
from gateway.shell.vision.sqlite_vectors import VECTOR_BYTES
from tests.shell.facts.vectors import packed
from tests.shell.vision.documents import Clock, add_page, document, job, laid, sought

SCOPES = (Scope(b"a" * 32, "notes"), Scope(b"a" * 32, "other"), Scope(b"b" * 32, "notes"))
BYTES, WORDS = (b"one", b"two"), ("pump", "valve")
WORKERS = ("w1", "w2")
MODELS, VECTOR = ("m1", "m2"), packed([1.0, 2.0])
LEASE_US = 5
scopes, contents, words, workers = map(st.sampled_from, (SCOPES, BYTES, WORDS, WORKERS))


@dataclass
class Draft:
    """A document that is being indexed."""

    document: Document
    touched_us: int
    pages: dict[int, list[Region]] = field(default_factory=dict)


@dataclass
class Lease:
    """A job, whose it is and until when."""

    job: Job
    worker: str = ""
    until_us: int = 0
    data: bytes | None = None


class Machine(RuleBasedStateMachine):
    """The store and dictionaries, side by side."""

    runner: asyncio.Runner
    made: list[SqliteDocumentStore]

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.store = SqliteDocumentStore(clock=self.clock)
        self.made.append(self.store)
        self.drafts: dict[str, Draft] = {}
        self.finished: dict[str, tuple[Document, list[Region]]] = {}
        self.jobs: dict[str, Lease] = {}
        self.models: dict[str, str] = {}
        """By region that was given a vector."""

    @rule(scope=scopes, data=contents, team=st.sampled_from("xy"), pages=st.integers(0, 2))
    def begin(self, scope: Scope, data: bytes, team: str, pages: int) -> None:
        made = document(scope, data, pages, metadata={"team": team}, created_us=self.clock.now_us)
        draft = self.drafts.get(made.id)
        if draft is None or (draft.document.metadata, draft.document.pages) != (made.metadata, pages):
            draft = self.drafts[made.id] = Draft(made, 0)
        draft.touched_us = self.clock.now_us
        kept = next(number for number in range(4) if number + 1 not in draft.pages)

        assert self.runner.run(self.store.begin(made, data)) == kept

    @rule(scope=scopes, data=contents, page=st.integers(1, 2), said=st.lists(words, max_size=2))
    def add_page(self, scope: Scope, data: bytes, page: int, said: list[str]) -> None:
        id_ = document(scope, data).id
        draft = self.drafts.get(id_)
        try:
            regions = self.runner.run(add_page(self.store, id_, page, [laid(word) for word in said]))
        except VisionFault:
            assert (id_ in self.finished, draft) == (False, None)
        except ValueError:
            assert page > (draft.document.pages if draft else 9)
        else:
            if draft is not None:
                draft.pages[page] = regions
                draft.touched_us = self.clock.now_us

    @rule(scope=scopes, data=contents)
    def finish(self, scope: Scope, data: bytes) -> None:
        id_ = document(scope, data).id
        draft, old = self.drafts.get(id_), self.finished.get(id_)
        try:
            made = self.runner.run(self.store.finish(id_))
        except VisionFault:
            assert (draft, old) == (None, None)
        except ValueError:
            assert len(draft.pages) < draft.document.pages if draft else False
        else:
            if draft is not None:
                regions = [region for page in draft.pages.values() for region in page]
                created_us = old[0].created_us if old else draft.document.created_us
                told = msgspec.structs.replace(draft.document, regions=len(regions), created_us=created_us)
                self.finished[id_] = (told, regions)
                del self.drafts[id_]
            assert made == self.finished[id_][0]

    @rule(scope=scopes, data=contents)
    def abandon(self, scope: Scope, data: bytes) -> None:
        id_ = document(scope, data).id
        self.runner.run(self.store.abandon(id_))
        self.drafts.pop(id_, None)

    @rule(scope=scopes, data=contents, owner=st.sampled_from((b"a" * 32, b"b" * 32)))
    def delete(self, scope: Scope, data: bytes, owner: bytes) -> None:
        id_ = document(scope, data).id
        is_there = id_ in self.finished and scope.owner == owner

        assert self.runner.run(self.store.delete_document(owner, id_)) == is_there
        if is_there:
            del self.finished[id_]
            self.drafts.pop(id_, None)

    @rule(scope=scopes, is_all=st.booleans())
    def delete_all(self, scope: Scope, is_all: bool) -> None:
        def goes(other: Scope) -> bool:
            return other.owner == scope.owner and (is_all or other.name == scope.name)

        count = sum(goes(each.scope) for each, _ in self.finished.values())
        name = None if is_all else scope.name

        assert self.runner.run(self.store.delete_all(scope.owner, name)) == count
        self.finished = {id_: each for id_, each in self.finished.items() if not goes(each[0].scope)}
        self.drafts = {id_: each for id_, each in self.drafts.items() if not goes(each.document.scope)}
        self.jobs = {id_: each for id_, each in self.jobs.items() if not goes(each.job.scope)}

    @rule(model=st.sampled_from(MODELS), count=st.integers(1, 5))
    def embed(self, model: str, count: int) -> None:
        lacking = self.runner.run(self.store.lacking_vectors(model, count))
        regions = [region for _, each in self.finished.values() for region in each]
        without = [region.id for region in regions if self.models.get(region.id) != model]
        self.runner.run(self.store.put_vectors([Vector(region.id, model, VECTOR) for region in lacking]))
        self.models |= {region.id: model for region in lacking}

        assert {region.id for region in lacking} <= set(without)
        assert len(lacking) == min(count, len(without))

    @rule(by_us=st.integers(1, 9))
    def wait(self, by_us: int) -> None:
        self.clock.now_us += by_us

    @rule(scope=scopes, data=st.none() | contents)
    def put_job(self, scope: Scope, data: bytes | None) -> None:
        made = job(scope, self.clock.now_us + len(self.jobs), doc_id=document(scope, data or b"one").id)
        waiting = sum(each.job.status is JobStatus.QUEUED for each in self.jobs.values())
        try:
            self.runner.run(self.store.put_job(made, data, 3))
        except VisionFault:
            assert waiting >= 3
        else:
            assert waiting < 3
            self.jobs[made.id] = Lease(made, data=data)

    @rule(worker=workers)
    def claim(self, worker: str) -> None:
        now_us = self.clock.now_us
        claimed = self.runner.run(self.store.claim_job(worker, now_us, LEASE_US))
        free = [
            each
            for each in self.jobs.values()
            if each.job.status is JobStatus.QUEUED or (each.job.status is JobStatus.RUNNING and each.until_us <= now_us)
        ]
        if claimed is None:
            assert free == []
            return
        lease = self.jobs[claimed.id]
        assert lease in free
        assert claimed.created_us == min(each.job.created_us for each in free)
        lease.job = msgspec.structs.replace(lease.job, status=JobStatus.RUNNING)
        lease.worker, lease.until_us = worker, now_us + LEASE_US
        assert claimed == lease.job

    @rule(worker=workers, place=st.integers(0, 5), status=st.sampled_from(JobStatus), is_cancelled=st.booleans())
    def change_job(self, worker: str, place: int, status: JobStatus, is_cancelled: bool) -> None:
        leases = list(self.jobs.values())[place : place + 1]
        for lease in leases:
            is_end = status in (JobStatus.SUCCEEDED, JobStatus.FAILED)
            ended_us = self.clock.now_us if is_end else None
            told = msgspec.structs.replace(lease.job, status=status, pages_done=place, ended_us=ended_us)
            until_us = self.clock.now_us + LEASE_US
            if is_cancelled and is_end:
                may = lease.job.status in (JobStatus.QUEUED, JobStatus.RUNNING)
                assert self.runner.run(self.store.cancel_job(told)) == may
            else:
                may = lease.job.status is JobStatus.RUNNING and lease.worker == worker
                assert self.runner.run(self.store.save_job(told, worker, until_us)) == may
            if may:
                lease.job, lease.until_us = told, until_us
                lease.data = None if is_end else lease.data

    @rule(ago_us=st.integers(0, 5))
    def sweep(self, ago_us: int) -> None:
        before_us = self.clock.now_us - ago_us
        open_jobs = [each.job for each in self.jobs.values() if each.job.ended_us is None]
        drafts = {
            id_: each
            for id_, each in self.drafts.items()
            if each.touched_us >= before_us or any(one.doc_id == id_ for one in open_jobs)
        }
        jobs = {
            id_: each for id_, each in self.jobs.items() if each.job.ended_us is None or each.job.ended_us >= before_us
        }
        gone = len(self.drafts) - len(drafts) + len(self.jobs) - len(jobs)
        self.drafts, self.jobs = drafts, jobs

        assert self.runner.run(self.store.sweep(before_us)) == gone

    @invariant()
    def every_scope_is_as_it_should_be(self) -> None:
        for scope in SCOPES:
            mine = [each for each in self.finished.values() if each[0].scope == scope]
            listed = self.runner.run(self.store.documents(scope, None, 99))
            expected = sorted((each for each, _ in mine), key=lambda each: (each.created_us, each.id))

            assert ([*listed.documents], listed.total) == (expected, len(mine))
            for word in WORDS:
                found = self.runner.run(self.store.search(scope, sought(word), 99))
                said = {each.id for _, regions in mine for each in regions if each.laid.text == word}
                assert {each.region.id for each in found} == said
            for model in MODELS:
                near = self.runner.run(self.store.search(scope, sought("", vector=VECTOR, model=model), 99))
                made_by = {each.id for _, regions in mine for each in regions if self.models.get(each.id) == model}
                assert {each.region.id for each in near} == made_by
            for made, regions in mine:
                ids = [each.id for each in regions]
                assert self.runner.run(self.store.regions(scope.owner, ids)) == {each.id: each for each in regions}
                assert self.runner.run(self.store.find(scope, made.hash)) == made

    @invariant()
    def every_job_is_as_it_should_be(self) -> None:
        for id_, lease in self.jobs.items():
            assert self.runner.run(self.store.job(lease.job.scope.owner, id_)) == lease.job
            assert self.runner.run(self.store.job_data(id_)) == lease.data

    @invariant()
    def what_is_counted_is_what_there_is(self) -> None:
        held = self.runner.run(self.store.held_bytes())
        tables = " UNION ALL ".join(f"SELECT size FROM {each}" for each in ("documents", "pages", "jobs", "contents"))
        tables += f" UNION ALL SELECT {VECTOR_BYTES} + length(data) FROM vectors"
        total = f"SELECT coalesce(sum(size), 0) FROM ({tables})"

        assert held == self.runner.run(self.store._read(lambda db: db.execute(total).fetchone()[0]))
        if not (self.drafts or self.finished or self.jobs):
            assert held == 0


def test_sqlite_is_as_a_dictionary() -> None:
    """Each example has a store of its own."""
    limits = settings(
        max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    with asyncio.Runner() as runner:
        kind = type("Running", (Machine,), {"runner": runner, "made": []})
        run_state_machine_as_test(kind, settings=limits)  # type: ignore[no-untyped-call]
        for store in kind.made:  # type: ignore[attr-defined]
            runner.run(store.close())

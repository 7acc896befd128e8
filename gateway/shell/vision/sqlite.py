"""`ports_vision.DocumentStore` in SQLite: in memory, or in a file that several processes may share.

Writes have a thread and a connection of their own, and so do reads of a file (`facts.lane`, `facts.sqlite_file`). What
was acknowledged outlives `kill -9`. The store is bounded: what there is no room for is refused, and nothing that was
kept goes for it. A document is hidden until it is finished, and gone at once when it is deleted; what it took is
removed a little at a time, so that others get in between.

Invariants, beside those of `DocumentStore`, each with a test of its own:
  1. After `kill -9` every document is there whole or not at all, and the file is sound.
  2. Whatever stands in the file, no call raises anything but `VisionFault`, and no foreign database is touched.
  3. The store holds no more than its bound by its own reckoning, and what is deleted makes room for as much.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gateway.core.facts.memory import Position, Scope, Vector
from gateway.core.vision.document import Document, FoundRegion, Job, LaidPage, Region, RegionsSought
from gateway.ports_memory import MemoryFault
from gateway.ports_vision import DocumentPage, VisionFault
from gateway.shell.facts.lane import Lane
from gateway.shell.facts.sqlite_file import Connector, give_back_disk
from gateway.shell.vision import sqlite_contents, sqlite_jobs, sqlite_read, sqlite_vectors, sqlite_write
from gateway.shell.vision.sqlite_schema import FORMAT

if TYPE_CHECKING:
    from gateway.shell.vision.sqlite_search import Searched

T = TypeVar("T")
DEFAULT_MAX_BYTES = 1 << 28
_CACHE_KIB = 32_768
_PATIENCE_S = 30.0
"""How long a call may take at all; what is asked within a shorter time is the caller's to say."""


class SqliteDocumentStore:
    """Documents, their regions and jobs, in SQLite.

    Args:
        path: of the file, which is made, readable by its owner only, if there is none; None for memory alone.
        max_bytes: what all documents, regions and jobs may take.
        clock: seconds since 1970, for when a document was last added to.
    """

    def __init__(
        self, path: Path | None = None, max_bytes: int = DEFAULT_MAX_BYTES, clock: Callable[[], float] = time.time
    ) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self.faults: Counter[str] = Counter()
        self._searched: Searched | None = None
        self._writer = Lane(Connector(FORMAT, path, self.faults, _CACHE_KIB), "vision", FORMAT.what)
        self._reader = self._writer
        if path is not None:
            reader = Connector(FORMAT, path, self.faults, _CACHE_KIB, is_reader=True)
            self._reader = Lane(reader, "vision-read", FORMAT.what)

    async def open(self) -> None:
        """Open it now, rather than at the first use, so that trouble is known at the start.

        Raises:
            VisionFault: it cannot be used.
        """
        await self._write(lambda _: None)
        await self._read(self._make_ready)

    def _make_ready(self, db: sqlite3.Connection) -> None:
        """Where there are documents, the first search is not the one that waits for what searching needs."""
        if sqlite_read.totals(db)[0]:
            with contextlib.suppress(VisionFault):
                self._needs()

    async def close(self) -> None:
        """Finish what is pending and close the file."""
        await self._reader.close()
        await self._writer.close()

    async def find(self, scope: Scope, hash_: str) -> Document | None:
        return await self._read(lambda db: sqlite_read.find(db, scope, hash_))

    async def begin(self, document: Document, data: bytes) -> int:
        now_us = self._now_us()
        kept = await self._write(lambda db: sqlite_write.begin(db, document, data, now_us, self._max_bytes))
        if not kept:
            await self._purge(*sqlite_write.one_of(document.id))  # an earlier start may have gone
        return kept

    async def add_page(self, doc_id: str, number: int, page: LaidPage, regions: Sequence[Region]) -> None:
        now_us = self._now_us()
        await self._write(lambda db: sqlite_write.add_page(db, doc_id, number, regions, now_us, self._max_bytes))

    async def finish(self, doc_id: str) -> Document:
        document = await self._write(lambda db: sqlite_write.finish(db, doc_id))
        await self._read(self._make_ready)
        await self._purge(*sqlite_write.one_of(doc_id))
        return document

    async def abandon(self, doc_id: str) -> None:
        await self._write(lambda db: sqlite_write.abandon(db, doc_id))
        await self._purge(*sqlite_write.one_of(doc_id))

    async def document(self, owner: bytes, doc_id: str) -> Document | None:
        return await self._read(lambda db: sqlite_read.document(db, owner, doc_id))

    async def data_of(self, owner: bytes, doc_id: str) -> bytes | None:
        return await self._read(lambda db: sqlite_read.data_of(db, owner, doc_id))

    async def documents(self, scope: Scope, after: Position | None, limit: int) -> DocumentPage:
        return await self._read(lambda db: sqlite_read.documents(db, scope, after, limit))

    async def delete_document(self, owner: bytes, doc_id: str) -> bool:
        was_there = await self._write(lambda db: sqlite_write.delete(db, owner, doc_id))
        if was_there:
            await self._purge(*sqlite_write.one_of(doc_id))
        return was_there

    async def delete_all(self, owner: bytes, name: str | None = None) -> int:
        def work(db: sqlite3.Connection) -> int:
            sqlite_jobs.delete_all(db, owner, name)
            return sqlite_write.delete_all(db, owner, name)

        count = await self._write(work)
        await self._purge(*sqlite_write.all_of(owner, name))
        return count

    async def regions(self, owner: bytes, region_ids: Sequence[str]) -> Mapping[str, Region]:
        return await self._read(lambda db: sqlite_read.regions(db, owner, region_ids))

    async def search(self, scope: Scope, sought: RegionsSought, limit: int) -> Sequence[FoundRegion]:
        """As `DocumentStore.search`; `disabled` where numpy is missing."""
        return await self._read(lambda db: self._search(db, scope, sought, limit))

    def _search(self, db: sqlite3.Connection, scope: Scope, sought: RegionsSought, limit: int) -> Sequence[FoundRegion]:
        scope_id = sqlite_contents.scope_id_of(db, scope)
        if scope_id is None:
            return []
        searched = self._needs()
        from gateway.shell.vision.sqlite_search import search  # loaded by now

        return search(db, searched, scope_id, sought, limit)

    async def put_vectors(self, vectors: Sequence[Vector]) -> None:
        await self._write(lambda db: sqlite_vectors.put(db, vectors, self._max_bytes))

    async def lacking_vectors(self, model: str, limit: int) -> Sequence[Region]:
        return await self._read(lambda db: sqlite_vectors.lacking(db, model, limit))

    async def claim_filling(self, worker: str, lease_us: int) -> bool:
        now_us = self._now_us()
        return await self._write(lambda db: sqlite_vectors.claim(db, worker, now_us, lease_us))

    def _needs(self) -> Searched:
        """What searching needs: the modules that need numpy, which nobody loads who keeps no documents.

        Raises:
            VisionFault: `disabled`.
        """
        if self._searched is None:
            try:
                from gateway.shell.vision.sqlite_search import Searched
            except ImportError:
                raise VisionFault("disabled", "documents are searched with numpy: install the extra vision") from None
            self._searched = Searched()
        return self._searched

    async def put_job(self, job: Job, data: bytes | None, queue_max: int) -> None:
        await self._write(lambda db: sqlite_jobs.put(db, job, data, queue_max, self._max_bytes))

    async def job(self, owner: bytes, job_id: str) -> Job | None:
        return await self._read(lambda db: sqlite_jobs.get(db, owner, job_id))

    async def job_data(self, job_id: str) -> bytes | None:
        return await self._read(lambda db: sqlite_jobs.data_of(db, job_id))

    async def claim_job(self, worker: str, now_us: int, lease_us: int) -> Job | None:
        return await self._write(lambda db: sqlite_jobs.claim(db, worker, now_us, lease_us))

    async def save_job(self, job: Job, worker: str, lease_until_us: int) -> bool:
        return await self._write(lambda db: sqlite_jobs.save(db, job, worker, lease_until_us))

    async def cancel_job(self, job: Job) -> bool:
        return await self._write(lambda db: sqlite_jobs.cancel(db, job))

    async def waiting_jobs(self) -> int:
        return await self._read(sqlite_jobs.waiting)

    async def sweep(self, ended_before_us: int) -> int:
        gone = await self._write(lambda db: sqlite_write.forget_unfinished(db, ended_before_us))
        while count := await self._write(lambda db: sqlite_jobs.sweep_some(db, ended_before_us)):
            gone += count
        await self._purge()
        while await self._write(give_back_disk):
            pass
        return gone

    async def held_bytes(self) -> int:
        """What is kept takes so much, as it is counted against `max_bytes`."""
        return await self._read(sqlite_contents.held_bytes)

    async def totals(self) -> tuple[int, int]:
        """How many finished documents there are, and how many regions they have."""
        return await self._read(sqlite_read.totals)

    async def _purge(self, condition: str = "1", values: Sequence[object] = ()) -> None:
        """Remove what was let go, in steps between which others get in."""
        while await self._write(lambda db: sqlite_write.purge_some(db, condition, values)):
            pass

    def _now_us(self) -> int:
        return int(self._clock() * 1e6)

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._counted(self._reader, work, is_write=False)

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._counted(self._writer, work, is_write=True)

    async def _counted(self, lane: Lane, work: Callable[[sqlite3.Connection], T], *, is_write: bool) -> T:
        try:
            return await lane.call(work, is_write=is_write, patience_s=_PATIENCE_S)
        except MemoryFault as fault:
            if fault.kind == "timeout":
                self.faults["slow"] += 1
            raise VisionFault(fault.kind, fault.message) from None

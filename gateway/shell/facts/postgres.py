"""`ports_memory.MemoryStore` in a PostgreSQL that any number of replicas share (14 or newer).

Every call is a transaction of its own on one of a few connections; what was acknowledged is committed. The server may
come later than the gateway, and go and come again: a call that meets it down says so, and the next one finds it up.
Vectors need pgvector; without it all else works, which is said once and shown by `has_vectors`. The server's disk is
the bound of the store. The address, which may hold a password, is never logged.

Invariants, beside those of `MemoryStore`, each with a test of its own:
  1. Replicas that put the same facts at once leave what one after the other would, and never deadlock.
  2. What was acknowledged is there after the server was killed; no call raises anything but `MemoryFault`, and none
     but those that were under way fails for it once the server is up again.
  3. Other tables of the same database are not touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection, conninfo, errors
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from gateway.core.facts.memory import Found, Kind, Level, Memory, Page, Position, Scope, Sought, Stored, Vector, Wanted
from gateway.ports_memory import MemoryFault
from gateway.shell.facts import postgres_read, postgres_write, ranking, rows
from gateway.shell.facts.postgres_schema import ITERATIVE_VERSION, checked_name, migrate, prepare_vectors
from gateway.tasks import TaskGroup

T = TypeVar("T")
_log = logging.getLogger("gateway.facts")
_PATIENCE_S = 30.0
"""How long a call may take at all; what is asked within a shorter time is the caller's to say."""
_CONNECT_S = 1.5
_MAX_WAITING = 1024
_TRIES = 4
_SCAN_AT_ONCE = 500
_ALIVE = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
    "application_name": "llm-gateway",
}
"""How soon a server that is gone without a word is noticed; what the address says comes first."""


class PostgresMemoryStore:
    """Memories in PostgreSQL.

    Args:
        dsn: address of the database, as `postgresql://user:password@host:port/database`.
        collection: what all tables' names begin with.
        clock: seconds since 1970, for expiry.
        max_connections: to the server, of this process.

    Raises:
        ValueError: the collection's name is no plain identifier, or the address cannot be read.
    """

    def __init__(
        self,
        dsn: str,
        collection: str = "facts",
        clock: Callable[[], float] = time.time,
        max_connections: int = 8,
    ) -> None:
        self._collection = checked_name(collection)
        self._clock = clock
        try:
            told = conninfo.conninfo_to_dict(dsn)
        except psycopg.Error:
            raise ValueError("the address of the memories' PostgreSQL cannot be read") from None
        self._pool = AsyncConnectionPool(
            conninfo.make_conninfo("", **(_ALIVE | told)),
            kwargs={"autocommit": True},
            min_size=1,
            max_size=max_connections,
            max_waiting=_MAX_WAITING,
            timeout=_CONNECT_S,
            reconnect_timeout=1.0,
            configure=_configure,
            open=False,
            name=f"facts-{collection}",
        )
        self._tasks = TaskGroup()
        self._lock = asyncio.Lock()
        self._is_open = self._is_ready = self._is_closed = self._is_checking = False
        self.has_vectors = False
        self.faults: Counter[str] = Counter()
        self.evicted = 0

    async def open(self) -> None:
        """Connect now, and bring the tables to this version's, so that trouble is known at the start.

        Raises:
            MemoryFault: it cannot be used now; each later call tries again.
        """
        await self._run(_nothing)

    async def close(self) -> None:
        """Let go."""
        self._is_closed = True
        await self._tasks.drain(1)
        await self._pool.close(timeout=2)

    async def put(self, scope: Scope, memories: Sequence[Memory]) -> Sequence[Stored]:
        rows.checked(scope, memories)
        if not memories:
            return []
        now_us, name = self._now_us(), self._collection
        return await self._run(
            lambda db: postgres_write.put(db, name, scope, memories, now_us, has_vectors=self.has_vectors)
        )

    async def get(self, owner: bytes, memory_id: str, kind: Kind) -> Memory | None:
        id_, now_us = rows.id_bytes(memory_id), self._now_us()
        if id_ is None:
            return None
        return await self._run(lambda db: postgres_read.get(db, self._collection, owner, id_, kind, now_us))

    async def page(self, scope: Scope, wanted: Wanted, after: Position | None, limit: int) -> Page:
        now_us = self._now_us()
        return await self._run(lambda db: postgres_read.page(db, self._collection, scope, wanted, after, limit, now_us))

    async def search(self, scope: Scope, sought: Sought, limit: int) -> Sequence[Found]:
        return await self._run(lambda db: self._search(db, scope, sought, limit, self._now_us()))

    async def _search(
        self, db: AsyncConnection[Any], scope: Scope, sought: Sought, limit: int, now_us: int
    ) -> Sequence[Found]:
        name = self._collection
        classes = rows.classes_of(sought.kind, sought.level)
        place = await postgres_read.place_of(db, name, scope, classes, ranking.terms_to_ask(sought))
        if place is None or not limit:
            return []
        lexical = await postgres_read.by_words(db, name, place, sought, limit, now_us) if sought.terms else []
        nearest: dict[int, float] = {}
        if sought.vector and self.has_vectors:
            nearest = await postgres_read.nearest(db, name, place, sought, limit, now_us)
        found = await postgres_read.found_rows(db, name, list({*lexical, *nearest}))
        memories = {row.seq: row.memory for row in found}
        return ranking.found_by(
            [number for number in lexical if number in memories],
            {number: cosine for number, cosine in nearest.items() if number in memories},
            memories,
            limit,
        )

    async def delete(self, owner: bytes, memory_ids: Sequence[str], kind: Kind) -> int:
        ids = rows.ids_bytes(memory_ids)
        return await self._remove(postgres_write.these(self._collection, owner, ids, kind))

    async def delete_all(
        self,
        owner: bytes,
        name: str | None = None,
        session: bytes | None = None,
        kind: Kind | None = None,
        level: Level | None = None,
    ) -> int:
        return await self._remove(postgres_write.some_of_all(self._collection, owner, name, session, kind, level))

    async def _remove(self, condition: tuple[str, Sequence[object]], *, is_sweep: bool = False) -> int:
        """Remove all that meet a condition, some at a time; returns how many had not expired, in a sweep how many."""
        now_us, count = self._now_us(), 0
        while True:
            gone, seen = await self._run(
                lambda db: postgres_write.remove_some(
                    db, self._collection, condition, now_us, has_vectors=self.has_vectors
                )
            )
            count += gone if is_sweep else seen
            if not gone:
                return count

    async def scan(self, scope: Scope) -> AsyncGenerator[Memory, None]:
        after: Position | None = None
        while True:
            some = await self._some_of_scope(scope, after)
            for memory in some:
                yield memory
            if len(some) < _SCAN_AT_ONCE:
                return
            after = Position(some[-1].observed_us, some[-1].id)

    async def _some_of_scope(self, scope: Scope, after: Position | None) -> list[Memory]:
        now_us = self._now_us()
        return await self._run(
            lambda db: postgres_read.some_of_scope(db, self._collection, scope, after, _SCAN_AT_ONCE, now_us)
        )

    async def names(self, owner: bytes) -> Mapping[str, int]:
        return await self._run(lambda db: postgres_read.names(db, self._collection, owner, self._now_us()))

    async def put_vectors(self, vectors: Sequence[Vector]) -> None:
        rows.checked_vectors(vectors)
        await self._run(
            lambda db: postgres_write.put_vectors(db, self._collection, vectors) if self.has_vectors else _nothing(db)
        )

    async def lacking_vectors(self, model: str, limit: int) -> Sequence[Memory]:
        now_us = self._now_us()
        found = await self._run(lambda db: postgres_read.lacking_vectors(db, self._collection, model, limit, now_us))
        return found if self.has_vectors else []

    async def sweep(self) -> int:
        return await self._remove(postgres_write.expired(self._now_us()), is_sweep=True)

    async def totals(self) -> Mapping[Kind, int]:
        return await self._run(lambda db: postgres_read.totals(db, self._collection, self._now_us()))

    def _now_us(self) -> int:
        return int(self._clock() * 1e6)

    async def _run(self, work: Callable[[AsyncConnection[Any]], Awaitable[T]]) -> T:
        """Do work on a connection; again, if another replica was in the way."""
        if self._is_closed:
            raise MemoryFault("down", "the store of memories is closed")
        try:
            async with asyncio.timeout(_PATIENCE_S):
                if not self._is_ready:
                    await self._make_ready()
                return await self._tried(work)
        except (psycopg.Error, OSError, TimeoutError, MemoryFault) as error:
            raise self._fault(error) from None

    async def _tried(self, work: Callable[[AsyncConnection[Any]], Awaitable[T]]) -> T:
        for _ in range(_TRIES - 1):
            try:
                return await self._once(work)
            except _IN_THE_WAY:
                self.faults["again"] += 1
        return await self._once(work)

    async def _once(self, work: Callable[[AsyncConnection[Any]], Awaitable[T]]) -> T:
        async with self._pool.connection() as db:
            try:
                return await work(db)
            except errors.ReadOnlySqlTransaction:
                await db.close()  # this server is a replica now; the next connection finds the primary
                raise
            except errors.UniqueViolation as error:
                if error.diag.constraint_name == f"{self._collection}_memories_id":
                    raise ValueError("it cannot be stored: its id is another memory's") from None
                raise

    async def _make_ready(self) -> None:
        async with self._lock:
            if self._is_ready:
                return
            if not self._is_open:
                await self._pool.open()
                self._is_open = True
            await self._once(self._prepare)
            self._is_ready = True

    async def _prepare(self, db: AsyncConnection[Any]) -> None:
        await migrate(db, self._collection)
        version = await prepare_vectors(db, self._collection)
        self.has_vectors = bool(version)
        if not version:
            _log.warning("PostgreSQL has no pgvector; memories are found by words alone")
        elif version < ITERATIVE_VERSION:
            _log.warning("pgvector is older than 0.8; searches by vector may find too few")

    def _fault(self, error: Exception) -> MemoryFault | ValueError:
        """What a caller is told; connections that may have gone with the server are tried in the background."""
        if isinstance(error, MemoryFault):
            self.faults[error.kind] += 1
            return error
        if isinstance(error, psycopg.DataError):
            return ValueError(f"it cannot be stored: {type(error).__name__}")
        kind = _kind_of(error)
        self.faults[kind] += 1
        if isinstance(error, errors.UndefinedTable):
            self._is_ready = False
        if kind == "down" and self._is_open and not self._is_checking:
            self._is_checking = True
            self._tasks.spawn(self._check(), "facts-check")
        return MemoryFault(kind, f"PostgreSQL: {type(error).__name__}")

    async def _check(self) -> None:
        try:
            with contextlib.suppress(psycopg.Error, OSError):
                await self._pool.check()
        finally:
            self._is_checking = False


_IN_THE_WAY = (errors.DeadlockDetected, errors.SerializationFailure, errors.UniqueViolation)
_TIMEOUTS = (TimeoutError, PoolTimeout, TooManyRequests, errors.QueryCanceled, errors.LockNotAvailable)
_FULL = (errors.DiskFull, errors.OutOfMemory, errors.ProgramLimitExceeded)


def _kind_of(error: Exception) -> str:
    if isinstance(error, PoolClosed):
        return "down"
    if isinstance(error, _TIMEOUTS):
        return "timeout"
    return "full" if isinstance(error, _FULL) else "down"


async def _configure(db: AsyncConnection[Any]) -> None:
    """What each connection begins with: a search is too short to compile, and all that is read is read in the order of
    an index, which a planner that has no statistics yet does not see; searches by vector read on in theirs.
    """
    await db.execute("SET jit = off")
    await db.execute("SET enable_bitmapscan = off")
    await db.execute("SET hnsw.ef_search = 100")
    await db.execute("SET hnsw.iterative_scan = 'relaxed_order'")


async def _nothing(_: AsyncConnection[Any]) -> None:
    """Only see that there is a connection."""

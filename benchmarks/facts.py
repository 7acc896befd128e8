"""What stores of memories take, from a thousand facts to a million: inserts, searches, pages, disk and memory.

    python3 dev.py bench-facts [--largest 100000] [--stores sqlite,postgres] [--scopes 1] [--vectors 0]

A store grows from size to size, its facts dealt out to so many scopes, and is measured at each: inserts one by one, in
batches of 100, and in bulk (batches of 1,000); searches by words with questions of some ten words, of which some are
in a fact that is there and some are not; a chat's look-up, which takes more of them; pages of 100. With `--vectors N` the first N facts have vectors, in clusters,
and searches by both are measured. PostgreSQL is a fresh server of the tests' (`fsync` on, its defaults but for 64 MB
of shared buffers), vacuumed before it is asked, as it does by itself within minutes. Facts are made beforehand; times
are of the calls alone, as their caller sees them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import random
import statistics
import struct
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import psycopg

from benchmarks.facts_texts import Texts, Told, scope_number, sought
from benchmarks.measurement import percentile
from gateway.core.facts.memory import Vector, Wanted
from gateway.exchange import Exchange
from gateway.shell.facts.postgres import PostgresMemoryStore
from gateway.shell.facts.reminding import StoredReminding
from gateway.shell.facts.sqlite import SqliteMemoryStore
from tests.postgres_server import PostgresServer

Store = SqliteMemoryStore | PostgresMemoryStore
SIZES = (1_000, 10_000, 100_000, 1_000_000)
BULK, BATCH = 1_000, 100
ONE_BY_ONE, BATCHES, QUESTIONS, PAGES = 100, 10, 200, 20
MODEL = "bench"
NOBODY: Exchange = None  # type: ignore[assignment]
"""Nothing is asked on anybody's account without embeddings."""
CLUSTERS = 200


class Vectors:
    """Vectors in clusters, as those of texts are."""

    def __init__(self, dimensions: int) -> None:
        self._chance = random.Random(3)
        self._dimensions = dimensions
        self._centres = [self._gauss() for _ in range(CLUSTERS)]

    def _gauss(self) -> list[float]:
        return [self._chance.gauss(0, 1) for _ in range(self._dimensions)]

    def near_one(self) -> bytes:
        """Somewhere near one of the centres."""
        centre = self._chance.choice(self._centres)
        values = [c + 0.7 * n for c, n in zip(centre, self._gauss(), strict=True)]
        length = sum(value * value for value in values) ** 0.5
        return struct.pack(f"<{self._dimensions}e", *(value / length for value in values))


class Bench:
    """A store that grows.

    Args:
        store: to measure.
        scopes: that facts are dealt out to.
        disk_bytes: what it takes of a disk now.
    """

    def __init__(self, store: Store, scopes: int, disk_bytes: Callable[[], int]) -> None:
        self._store = store
        self._scopes = scopes
        self._disk_bytes = disk_bytes
        self._texts = Texts()
        self._facts = 0
        self._batches = 0
        self._known: list[tuple[Told, int]] = []
        self._chance = random.Random(5)

    async def _put(self, count: int) -> tuple[float, Sequence[Told]]:
        """Store so many; returns how long that took."""
        facts = list(self._texts.many(count))
        scope = self._batches % self._scopes
        self._batches += 1
        began_s = time.perf_counter()
        await self._store.put(scope_number(scope), [told.memory for told in facts])
        took_s = time.perf_counter() - began_s
        self._facts += count
        self._known += [(told, scope) for told in facts[:: max(1, count // 3)]]
        return took_s, facts

    async def grow(self, size: int, vectors: int, made: Vectors) -> None:
        """To this size; the first have vectors."""
        bulk_s, bulk = 0.0, 0
        began = self._facts
        while self._facts < size - (ONE_BY_ONE + BATCHES * BATCH if size > BULK else 0):
            took_s, facts = await self._put(BULK if size > BULK else BATCH)
            bulk_s, bulk = bulk_s + took_s, self._facts - began
            if self._facts <= vectors:
                await self._store.put_vectors([Vector(told.memory.id, MODEL, made.near_one()) for told in facts])
        batched_s = [(await self._put(BATCH))[0] for _ in range(BATCHES)] if size > BULK else []
        single_s = [(await self._put(1))[0] for _ in range(ONE_BY_ONE)]
        each_bytes = self._disk_bytes() / max(1, self._facts)
        print(f"{self._facts:9,} facts in {self._scopes} scope(s), {each_bytes:,.0f} bytes each")
        print(f"          inserts/s: bulk {bulk / max(bulk_s, 1e-9):7,.0f}", end="")
        if batched_s:
            print(f", in batches of {BATCH} {BATCH / statistics.median(batched_s):7,.0f}", end="")
        print(f", one by one {1 / statistics.median(single_s):6,.0f}")
        together_s = await self._together()
        print(f"          {ONE_BY_ONE} callers at once, one each: {ONE_BY_ONE / together_s:,.0f} inserts/s")

    async def _together(self) -> float:
        facts = list(self._texts.many(ONE_BY_ONE))
        began_s = time.perf_counter()
        await asyncio.gather(*(self._store.put(scope_number(0), [told.memory]) for told in facts))
        self._facts += len(facts)
        return time.perf_counter() - began_s

    async def ask(self, made: Vectors | None) -> None:
        """Searches of known and unknown things."""
        chosen = [self._chance.choice(self._known) for _ in range(QUESTIONS)]
        found = 0
        taken: list[float] = []
        for told, scope in chosen:
            asked = sought(told.question, made.near_one() if made else b"", MODEL)
            began_s = time.perf_counter()
            answers = await self._store.search(scope_number(scope), asked, 20)
            taken.append(time.perf_counter() - began_s)
            found += any(answer.memory.id == told.memory.id for answer in answers)
        what = "search by words and vector" if made else "search by words"
        self._say(what, taken, f"; found what was asked for {found / QUESTIONS:.1%}")

    async def remind(self) -> None:
        """What a chat that names the memory waits for: a rough search of many, as what recall ranks."""
        reminding = StoredReminding(self._store, 60.0)
        taken, found = [], 0
        for told, scope in [self._chance.choice(self._known) for _ in range(QUESTIONS)]:
            began_s = time.perf_counter()
            reminders = await reminding.find(NOBODY, scope_number(scope), told.question, set())
            taken.append(time.perf_counter() - began_s)
            found += any(each.id == told.memory.id for each in reminders)
        self._say("a chat's look-up", taken, f"; found what was asked for {found / QUESTIONS:.1%}")

    async def page(self) -> None:
        """The first page, and pages by a predicate and a word."""
        scope = scope_number(0)
        words = [name for told, _ in self._known[:PAGES] for name in told.memory.terms[-1:]]
        kinds: dict[str, Callable[[int], Wanted]] = {
            "page of 100, all": lambda n: Wanted(),
            "page of 100, by a word": lambda n: Wanted(terms=[words[n % len(words)]]),
            "page of 100, by predicate": lambda n: Wanted(predicate="uses"),
        }
        for name, wanted in kinds.items():
            taken = [await timed(lambda n=n, w=wanted: self._store.page(scope, w(n), None, 100)) for n in range(PAGES)]  # type: ignore[misc]
            self._say(name, taken)

    def _say(self, what: str, taken_s: list[float], more: str = "") -> None:
        middle, high = statistics.median(taken_s) * 1e3, percentile(taken_s, 0.99) * 1e3
        print(f"          {what}: median {middle:.1f} ms, p99 {high:.1f} ms{more}", flush=True)


async def timed(call: Callable[[], Awaitable[object]]) -> float:
    """Seconds that a call takes."""
    began_s = time.perf_counter()
    await call()
    return time.perf_counter() - began_s


def resident_mib() -> float:
    """Of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


async def vacuum(store: PostgresMemoryStore) -> None:
    """What the server does by itself some minutes after so many rows came at once."""
    async with store._pool.connection() as db:
        await db.execute("VACUUM (ANALYZE)")


@contextlib.contextmanager
def made_store(kind: str) -> Iterator[tuple[Store, Callable[[], int]]]:
    """A fresh store, and what it takes of a disk."""
    if kind == "postgres":
        with PostgresServer() as server:

            def size() -> int:
                with psycopg.connect(server.dsn) as db:
                    found = db.execute("SELECT pg_database_size(current_database())").fetchone()
                return int(found[0]) if found else 0

            empty = size()
            yield PostgresMemoryStore(server.dsn), lambda: size() - empty
        return
    with tempfile.TemporaryDirectory() as folder:
        path = None if kind == "memory" else Path(folder) / "facts.db"
        yield SqliteMemoryStore(path, 1 << 40), lambda: sum(each.stat().st_size for each in Path(folder).iterdir())


async def measure(kind: str, arguments: argparse.Namespace) -> None:
    gc.collect()
    before_mib = resident_mib()
    with made_store(kind) as (store, disk_bytes):
        bench, made = Bench(store, arguments.scopes, disk_bytes), Vectors(arguments.dimensions)
        for size in [size for size in SIZES if size <= arguments.largest]:
            print(f"{kind}:")
            await bench.grow(size, arguments.vectors, made)
            if isinstance(store, PostgresMemoryStore):
                await vacuum(store)
            await bench.ask(None)
            await bench.remind()
            if arguments.vectors:
                await bench.ask(made)
            await bench.page()
        print(
            f"          resident memory of this process: {resident_mib() - before_mib:+.0f} MiB, facts' making included"
        )
        await store.close()


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, default=100_000)
    parser.add_argument("--stores", default="sqlite,postgres", help="of memory, sqlite, postgres")
    parser.add_argument("--scopes", type=int, default=1)
    parser.add_argument("--vectors", type=int, default=0)
    parser.add_argument("--dimensions", type=int, default=384)
    arguments = parser.parse_args()
    for kind in arguments.stores.split(","):
        asyncio.run(measure(kind, arguments))


if __name__ == "__main__":
    main()

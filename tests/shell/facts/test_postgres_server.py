"""Memories in PostgreSQL outlive its restarts, and replicas share them; what every store promises is elsewhere."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial

import psycopg
import pytest

from gateway.compose_memory import make_remembering
from gateway.core.facts.memory import Kind, Sought, Wanted
from gateway.ports_memory import MemoryFault
from gateway.settings_memory import Facts
from gateway.shell.facts.chat_store import ChatMemoryStore
from gateway.shell.facts.postgres import PostgresMemoryStore
from tests.postgres_server import PostgresServer, binaries_on_path, packaged_binaries
from tests.redis_server import free_port
from tests.shell.facts.memories import ALICE, BOB, fact, text, told
from tests.shell.facts.vectors import MODEL, packed, vector_of


async def test_a_restart_in_mid_load_fails_no_call(postgres_server: PostgresServer) -> None:
    """Its processes are killed while twelve callers store and read, and it is started again: nothing is lost."""
    store = PostgresMemoryStore(postgres_server.dsn)
    calls, chats = make_remembering(store, Facts(wait_seconds=60), tally := Counter()), ChatMemoryStore(store)
    acknowledged: list[str] = []
    is_over = asyncio.Event()

    async def load(caller: int) -> None:
        number = 0
        while not is_over.is_set():
            one = fact(f"caller {caller}", "says", str(number), topic=True, observed_us=number)
            (stored,) = await calls.ask(partial(store.put, ALICE, [one]))
            assert not stored.is_duplicate
            acknowledged.append(stored.id)
            await calls.ask(partial(store.get, ALICE.owner, one.id, Kind.FACT))
            number += 1

    async def until(count: int) -> None:
        while len(acknowledged) < count:
            await asyncio.sleep(0.01)

    callers = [asyncio.create_task(load(caller)) for caller in range(12)]
    for _ in range(2):
        await until(len(acknowledged) + 60)
        postgres_server.kill()
        for number in range(20):
            chats.put_later(BOB, [text(f"said meanwhile {number}")])
        await asyncio.to_thread(postgres_server.start)
    await until(len(acknowledged) + 60)
    is_over.set()
    await asyncio.gather(*callers)
    await chats.close(60)
    kept = {memory.id async for memory in store.scan(ALICE)}
    bobs = await store.names(BOB.owner)
    await store.close()

    assert set(acknowledged) == kept
    assert tally["fault", "down"] + tally["fault", "timeout"] > 0
    assert bobs == {"notes": 20}
    assert chats.dropped == 0


async def test_replicas_that_put_the_same_at_once(postgres_server: PostgresServer) -> None:
    """They start together, too. Each fact is stored once; of a topic the latest holds; nothing deadlocks."""
    stores = [PostgresMemoryStore(postgres_server.dsn, max_connections=4) for _ in range(3)]

    async def load(store: PostgresMemoryStore, step: int) -> int:
        fresh = 0
        for turn in range(12):
            numbers = [(step * n) % 23 for n in range(1, 23)]
            batch = [fact("fact", "is", str(n), doc=f"d{step}", observed_us=n) for n in numbers]
            batch += [fact(f"topic {n % 4}", "is", str(turn), topic=True, observed_us=turn) for n in numbers]
            fresh += sum(not each.is_duplicate for each in await store.put(ALICE, batch))
            await store.put_vectors([vector_of(memory, packed([1, step])) for memory in batch[:5]])
            if turn % 4 == 3:
                await store.delete(ALICE.owner, [memory.id for memory in batch[:3]], Kind.FACT)
        return fresh

    fresh = await asyncio.gather(*(load(stores[n % 3], n) for n in range(1, 7)))
    page = await stores[0].page(ALICE, Wanted(), None, 500)
    everything = await stores[1].page(ALICE, Wanted(with_ended=True), None, 500)
    faults = [store.faults for store in stores]
    for store in stores:
        await store.close()

    assert len({memory.key for memory in everything.memories}) == everything.total
    topics = [memory for memory in page.memories if memory.topic]
    assert sorted((memory.subject, memory.object) for memory in topics) == [(f"topic {n}", "11") for n in range(4)]
    assert sum(fresh) >= everything.total
    assert faults == [{}, {}, {}]
    with psycopg.connect(postgres_server.dsn) as db:
        (orphans,) = db.execute(
            "SELECT count(*) FROM facts_postings p WHERE NOT EXISTS (SELECT FROM facts_memories WHERE seq = p.memory)"
        ).fetchone() or (1,)
    assert orphans == 0


async def test_the_server_may_come_later() -> None:
    """A call that meets none says so in bounded time; none is lost to it later."""
    store = PostgresMemoryStore(f"postgresql://tester:secret@127.0.0.1:{free_port()}/postgres")
    with pytest.raises(MemoryFault) as failed:
        await store.open()
    await store.close()

    assert failed.value.kind in ("down", "timeout")
    assert "secret" not in failed.value.message
    assert sum(store.faults.values()) == 1


async def test_tables_that_vanish_are_made_again(postgres_server: PostgresServer) -> None:
    """The call that finds out fails; the next one does not."""
    store = PostgresMemoryStore(postgres_server.dsn)
    await store.put(ALICE, [text("x")])
    with psycopg.connect(postgres_server.dsn, autocommit=True) as db:
        db.execute("DROP SCHEMA public CASCADE")
        db.execute("CREATE SCHEMA public")
    with pytest.raises(MemoryFault):
        await store.put(ALICE, [text("y")])
    await store.put(ALICE, [text("z")])

    assert told((await store.page(ALICE, Wanted(), None, 9)).memories) == ["z"]
    await store.close()


async def test_collections_share_a_database(postgres_server: PostgresServer) -> None:
    """And other programs' tables are left alone."""
    with psycopg.connect(postgres_server.dsn, autocommit=True) as db:
        db.execute("CREATE TABLE customers (name text)")
        one, other = (PostgresMemoryStore(postgres_server.dsn, name) for name in ("facts", "other_9"))
        await one.put(ALICE, [text("one")])
        await other.put(ALICE, [text("other")])
        tables = db.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()

    assert told((await one.page(ALICE, Wanted(), None, 9)).memories) == ["one"]
    assert told((await other.page(ALICE, Wanted(), None, 9)).memories) == ["other"]
    assert {name for (name,) in tables if not name.startswith(("facts_", "other_9_"))} == {"customers"}
    await one.close()
    await other.close()


@pytest.mark.parametrize("name", ["", "Facts", "a;b", 'a"', "1a", "x" * 32, "a b", "ä"])
def test_a_collections_name_is_an_identifier(name: str) -> None:
    with pytest.raises(ValueError, match="collection"):
        PostgresMemoryStore("postgresql://localhost/x", name)


def test_an_address_that_cannot_be_read_is_refused() -> None:
    """Without its password in the message."""
    with pytest.raises(ValueError, match="address") as refused:
        PostgresMemoryStore("postgresql://user:secret@host:port:port/x?nonsense=1")

    assert "secret" not in str(refused.value)


async def test_a_later_versions_tables_are_left_alone(postgres_server: PostgresServer) -> None:
    store = PostgresMemoryStore(postgres_server.dsn)
    await store.open()
    await store.close()
    with psycopg.connect(postgres_server.dsn, autocommit=True) as db:
        db.execute("UPDATE facts_schema_version SET version = 99")
    store = PostgresMemoryStore(postgres_server.dsn)
    with pytest.raises(MemoryFault, match="later version"):
        await store.put(ALICE, [text("x")])
    await store.close()


async def test_without_pgvector_all_else_works(caplog: pytest.LogCaptureFixture) -> None:
    """It is said, and shown; vectors are passed over."""
    binaries = binaries_on_path()
    if binaries is None:
        pytest.skip("no PostgreSQL on the PATH beside the packaged one")
    with PostgresServer(binaries) as server:
        with psycopg.connect(server.dsn) as db:
            names = [name for (name,) in db.execute("SELECT name FROM pg_available_extensions")]
        if "vector" in names:
            pytest.skip("the PostgreSQL on the PATH has pgvector")
        store = PostgresMemoryStore(server.dsn)
        one = text("alpha beta")
        await store.put(ALICE, [one])
        await store.put_vectors([vector_of(one, packed([1, 0]))])
        sought = Sought(one.terms, vector=packed([1, 0]), model=MODEL)
        (found,) = await store.search(ALICE, sought, 9)
        lacking = await store.lacking_vectors(MODEL, 9)
        gone = await store.delete_all(ALICE.owner)
        await store.close()

    assert (found.lexical_rank, found.vector_rank) == (0, None)
    assert not store.has_vectors
    assert lacking == []
    assert gone == 1
    assert "no pgvector" in caplog.text


async def test_a_large_scope_is_searched_by_the_index(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a small one of the same store finds its own."""
    if packaged_binaries() is None:
        pytest.skip("no PostgreSQL with pgvector")
    monkeypatch.setattr("gateway.shell.facts.postgres_read.EXACT_VECTORS", 20)
    store = PostgresMemoryStore(postgres_server.dsn)
    many = [fact("a", "is", str(n)) for n in range(200)]
    few = [fact("b", "is", str(n)) for n in range(25)]
    await store.put(ALICE, many)
    await store.put(BOB, few)
    await store.put_vectors([vector_of(memory, packed([1, n / 40, 0.1])) for n, memory in enumerate(many)])
    await store.put_vectors([vector_of(memory, packed([0, n / 40, 1])) for n, memory in enumerate(few)])
    sought = Sought((), vector=packed([1, 0, 0.1]), model=MODEL)
    alices = [each.memory.text for each in await store.search(ALICE, sought, 5)]
    bobs = [each.memory.subject for each in await store.search(BOB, sought, 30)]
    await store.close()

    assert alices == [f"a is {n}" for n in range(5)]
    assert bobs == ["b"] * 25

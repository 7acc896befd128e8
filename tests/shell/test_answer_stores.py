"""Answers in memory stay within their bounds; a Redis that fails costs answers, never a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.cache.answer import Record, write_record
from tests.redis_server import RedisServer, StallingWire, free_port, redis_server, shared_redis

pytest.importorskip("aiocache", reason="aiocache is not installed (extra `cache`)")

if TYPE_CHECKING:
    from gateway.shell.cache.memory import MemoryAnswers
    from gateway.shell.cache.redis import RedisAnswers

__all__ = ["redis_server", "shared_redis"]

AT_MOST_S = 20


def record_of(size: int = 10, mark: int = 0) -> Record:
    return Record(False, [("content-type", "application/json")], b"x" * size, mark, 0, 1.0)


class Clock:
    """Seconds as they are set."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def memory(ttl_s: float = 100, entries: int = 10, size: int = 100_000, clock: Any = None) -> MemoryAnswers:
    from gateway.shell.cache.memory import MemoryAnswers

    return MemoryAnswers(ttl_s, entries, size, clock or Clock())


async def test_what_is_put_is_found() -> None:
    store = memory()
    await store.put(b"a", record_of(mark=1))
    await store.put(b"a", record_of(mark=2))

    assert await store.get(b"a") == record_of(mark=2)
    assert await store.get(b"b") is None
    await store.close()


async def test_what_has_expired_is_gone() -> None:
    """And counts no more; neither a moment before."""
    clock = Clock()
    store = memory(ttl_s=5, clock=clock)
    await store.put(b"a", record_of())
    clock.now_s = 4.999
    before = await store.get(b"a"), store.held_bytes
    clock.now_s = 5.0
    after = await store.get(b"a"), store.held_bytes

    assert before[0] == record_of()
    assert before[1] > 0
    assert after == (None, 0)
    await store.close()


async def test_the_library_lets_values_go_by_itself() -> None:
    """No clock of ours is asked, and nobody looks the value up in between."""
    store = memory(ttl_s=0.01)
    await store.put(b"a", record_of())
    async with asyncio.timeout(AT_MOST_S):
        while await store._cache.get(b"a") is not None:
            await asyncio.sleep(0.01)

    assert await store.get(b"a") is None
    assert store.held_bytes == 0


async def test_what_was_not_used_for_longest_goes_first() -> None:
    store = memory(entries=2)
    await store.put(b"a", record_of())
    await store.put(b"b", record_of())
    await store.get(b"a")
    await store.put(b"c", record_of())

    assert [await store.get(key) is not None for key in (b"a", b"b", b"c")] == [True, False, True]
    assert store.evicted == 1
    await store.close()


async def test_what_is_larger_than_everything_is_not_kept() -> None:
    store = memory(size=2000)
    await store.put(b"a", record_of(10))
    await store.put(b"b", record_of(3000))

    assert await store.get(b"b") is None
    assert await store.get(b"a") is not None
    assert store.faults == {"full": 1}
    await store.close()


actions = st.tuples(st.sampled_from("pgt"), st.integers(0, 6), st.integers(0, 1500))


@given(st.lists(actions, max_size=40), st.integers(1, 4), st.integers(700, 6000))
def test_the_bounds_hold(done: list[tuple[str, int, int]], entries: int, size: int) -> None:
    """Whatever is put, found and left to expire, the ledger and what the library holds agree, within the bounds."""

    async def run() -> None:
        clock = Clock()
        store = memory(10, entries, size, clock)
        for what, number, amount in done:
            key = b"%d" % number
            if what == "p":
                await store.put(key, record_of(amount))
            elif what == "g":
                await store.get(key)
            else:
                clock.now_s += number
            held = [value for value in [await store._cache.get(key) for key in store._sizes] if value is not None]

            assert len(store._sizes) <= entries
            assert store.held_bytes <= size
            assert sum(map(len, held)) <= size
        await store.close()

        assert (store.held_bytes, store._sizes) == (0, {})

    asyncio.run(run())


@asynccontextmanager
async def in_redis(url: str, ttl_s: float = 100) -> AsyncIterator[RedisAnswers]:
    from gateway.shell.cache.redis import RedisAnswers

    store = RedisAnswers(url, ttl_s)
    try:
        yield store
    finally:
        await store.close()


async def test_redis_keeps_bytes_as_they_are(redis_server: RedisServer) -> None:
    """For every process that shares it, for as long as it is told, under our own name."""
    record = Record(True, [("content-type", "text/event-stream")], bytes(range(256)) * 100, 5, 6, 7.25)
    async with in_redis(redis_server.url) as one, in_redis(redis_server.url) as two:
        await one.put(b"\x00\xff", record)
        found = await two.get(b"\x00\xff")
        missing = await two.get(b"\x00")
    with redis_server.client() as client:
        keys = client.keys("*")
        left_ms = client.pttl(keys[0])

    assert (found, missing) == (record, None)
    assert keys == [b"llm-gateway:answer:00ff"]
    assert 0 < left_ms <= 100_000


async def test_redis_forgets_in_time(redis_server: RedisServer) -> None:
    async with in_redis(redis_server.url, ttl_s=0.05) as store:
        await store.put(b"a", record_of())
        async with asyncio.timeout(AT_MOST_S):
            while await store.get(b"a") is not None:
                await asyncio.sleep(0.01)

    assert store.faults == {}


async def test_what_is_no_answer_is_none(redis_server: RedisServer) -> None:
    """Damaged, of another version, or of another type; the next answer is kept over it."""
    with redis_server.client() as client:
        client.set("llm-gateway:answer:61", write_record(record_of())[:-3])
        client.set("llm-gateway:answer:62", write_record(Record(False, [], b"", 0, 0, 0.0, form=99)))
        client.lpush("llm-gateway:answer:63", b"x")
    async with in_redis(redis_server.url) as store:
        found = [await store.get(key) for key in (b"a", b"b", b"c")]
        await store.put(b"c", record_of())
        later = await store.get(b"c")

    assert found == [None] * 3
    assert later == record_of()
    assert store.faults == {"unreadable": 2, "refused": 1}


async def test_a_redis_that_is_not_there(caplog: pytest.LogCaptureFixture) -> None:
    """All are misses, it is said once, and no password is."""
    async with in_redis(f"redis://:s3cret@127.0.0.1:{free_port()}/0") as store:
        await store.open()
        await store.put(b"a", record_of())
        found = [await store.get(b"a") for _ in range(5)]

    assert found == [None] * 5
    assert store.faults == {"error": 1, "down": 6}
    assert len(caplog.records) == 1
    assert "s3cret" not in str([vars(record) for record in caplog.records])


OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "get": lambda store: store.get(b"a"),
    "put": lambda store: store.put(b"a", record_of()),
}


@pytest.mark.parametrize("name", OPERATIONS)
async def test_a_redis_that_stalls(name: str, redis_server: RedisServer) -> None:
    """One call waits, for a bounded time; those after it do not; and it is used again when it is back."""
    async with StallingWire(redis_server.port) as wire, in_redis(wire.url) as store:
        await store.put(b"a", record_of())
        wire.stall()
        async with asyncio.timeout(AT_MOST_S):
            await OPERATIONS[name](store)
            for _ in range(100):
                await OPERATIONS[name](store)
        faults = dict(store.faults)
        wire.flow()
        async with asyncio.timeout(AT_MOST_S):
            while await store.get(b"a") is None:
                await asyncio.sleep(0.02)

    assert faults == {"slow": 1, "down": 100}

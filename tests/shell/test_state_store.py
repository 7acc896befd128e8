"""Every state store keeps the same promises: in memory, in a file, in a Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ports import StateStore
from gateway.shell.state.key_value import ENTRY_BYTES, MemoryStateStore, after_prefix
from gateway.shell.state.redis import RedisStateStore
from gateway.shell.state.sqlite import SqliteStateStore
from tests.redis_server import RedisServer, find_server, redis_server, shared_redis

__all__ = ["redis_server", "shared_redis"]
MAX_BYTES = 100_000
BOUNDED = ["memory", "sqlite"]
"""Those that bound themselves; Redis has bounds of its own."""
Made = Callable[..., Any]


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_s


@asynccontextmanager
async def closing(store: Any) -> AsyncIterator[Any]:
    try:
        yield store
    finally:
        await store.close()


class World:
    """Makes stores of one kind, and lets time pass for them."""

    def __init__(self, kind: str, folder: Path, server: RedisServer | None, stack: AsyncExitStack) -> None:
        self._kind, self._folder, self._server, self._stack = kind, folder, server, stack
        self._clock = Clock()

    async def store(self, max_bytes: int = MAX_BYTES) -> Any:
        made: Any
        if self._kind == "memory":
            made = MemoryStateStore(max_bytes, self._clock)
        elif self._kind == "sqlite":
            made = SqliteStateStore(self._folder / "state.db", max_bytes, self._clock)
        else:
            assert self._server is not None
            made = RedisStateStore(self._server.url, max_bytes)
        self._stack.push_async_callback(made.close)
        return made

    def let_pass(self, seconds: int) -> None:
        """For Redis, each key is given so much less to live."""
        self._clock.now_s += seconds
        if self._server is not None:
            with self._server.client() as client:
                for key in client.scan_iter():
                    if (left_ms := client.pttl(key)) >= 0:
                        client.pexpire(key, left_ms - seconds * 1000)


@pytest.fixture(params=["memory", "sqlite", "redis"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    server = request.getfixturevalue("redis_server") if request.param == "redis" else None
    async with AsyncExitStack() as stack:
        yield World(request.param, tmp_path, server, stack)


@pytest.fixture
def make(world: World) -> Made:
    """Makes a store of each kind."""
    return world.store


async def listed(store: StateStore, space: str = "s", prefix: bytes = b"") -> list[tuple[bytes, bytes]]:
    return [entry async for entry in store.scan(space, prefix)]


async def test_what_was_put_is_found(make: Made) -> None:
    """Under its space and key, byte for byte, until another value takes its place."""
    store = await make()
    values = [b"", b"x", bytes(range(256)), b"\x00" * 20_000]
    for place, value in enumerate(values):
        await store.put("s", b"k%d" % place, value)
        await store.put("other", b"k%d" % place, b"other")
    await store.put("s", b"k1", b"newer")

    assert [await store.get("s", b"k%d" % place) for place in range(4)] == [b"", b"newer", values[2], values[3]]
    assert await store.get("s", b"none") is None
    assert await store.get("other", b"k1") == b"other"


async def test_the_first_one_stands(make: Made) -> None:
    store = await make()

    assert await store.put_if_absent("s", b"k", b"first") == b"first"
    assert await store.put_if_absent("s", b"k", b"second") == b"first"
    assert await store.get("s", b"k") == b"first"


async def test_many_at_once_agree(make: Made) -> None:
    """Of concurrent writers one wins, and all are told which."""
    store = await make()
    stood = await asyncio.gather(*(store.put_if_absent("s", b"k", b"%d" % number) for number in range(50)))

    assert len(set(stood)) == 1
    assert await store.get("s", b"k") == stood[0]


async def test_what_expires_is_gone(world: World) -> None:
    """Not found, not listed, and not in the way."""
    store = await world.store()
    await store.put("s", b"short", b"1", ttl_s=10)
    await store.put("s", b"long", b"2", ttl_s=1000)
    await store.put("s", b"ever", b"3")
    world.let_pass(10)

    assert await store.get("s", b"short") is None
    assert await store.get_many("s", [b"short", b"long"]) == [None, b"2"]
    assert await listed(store) == [(b"ever", b"3"), (b"long", b"2")]
    assert await store.put_if_absent("s", b"short", b"4") == b"4"
    world.let_pass(10**6)
    assert await listed(store) == [(b"ever", b"3"), (b"short", b"4")]


async def test_many_are_found_together(make: Made) -> None:
    """In the order of the keys, however many; what is not there is None in its place."""
    store = await make(10**6)
    keys = [b"\x00k%d" % number for number in range(1000)]
    for key in keys[::3]:
        await store.put("s", key, key * 2)
    await store.put("other", keys[1], b"other")
    asked = [*reversed(keys), keys[0]]
    found = await store.get_many("s", asked)

    assert found == [key * 2 if key in keys[::3] else None for key in asked]
    assert await store.get_many("s", []) == []


async def test_what_is_prolonged_lives_on(world: World) -> None:
    """From now on for so long; what is gone does not come back, what had no end gets one, values stay."""
    store = await world.store()
    for key, ttl_s in ((b"gone", 10), (b"used", 100), (b"unused", 100), (b"ever", None)):
        await store.put("s", key, key, ttl_s=ttl_s)
    world.let_pass(50)
    await store.prolong("s", [b"gone", b"used", b"ever", b"never"], 100)
    world.let_pass(80)

    assert await store.get_many("s", [b"gone", b"used", b"unused", b"ever", b"never"]) == [
        None, b"used", None, b"ever", None
    ]  # fmt: skip
    world.let_pass(20)
    assert await listed(store) == []


PREFIXES = [b"", b"a", b"ab", b"a\xff", b"\xff", b"\xff\xff", b"%", b"b"]
KEYS = [b"a", b"ab", b"abc", b"a\xff", b"a\xff\x01", b"b", b"\xff", b"\xff\xff\x00", b"%", b"_a", b"A"]


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_prefixes_choose_exactly(make: Made, prefix: bytes) -> None:
    """Listing and deleting take the keys that begin so, of one space, and no other."""
    store = await make()
    for key in KEYS:
        await store.put("s", key, key)
        await store.put("other", key, b"")
    chosen = sorted(key for key in KEYS if key.startswith(prefix))

    assert await listed(store, prefix=prefix) == [(key, key) for key in chosen]
    assert await store.delete_prefix("s", prefix) == len(chosen)
    assert [key for key, _ in await listed(store)] == sorted(set(KEYS) - set(chosen))
    assert len(await listed(store, "other")) == len(KEYS)


async def test_long_lists_come_whole(make: Made) -> None:
    """Also while entries behind the reader go."""
    store = await make(10**6)
    keys = [number.to_bytes(4, "big") for number in range(1000)]
    for key in keys:
        await store.put("s", key, b"v")
    seen = []
    async for key, _ in store.scan("s"):
        seen.append(key)
        await store.delete("s", key)

    assert seen == keys
    assert await listed(store) == []
    assert store.held_bytes == 0


@pytest.mark.parametrize("world", BOUNDED, indirect=True)
async def test_the_bound_holds_and_the_least_used_go(world: World) -> None:
    """A read counts as use; an expired entry goes before any other."""
    store = await world.store(30 * (ENTRY_BYTES + 1000))
    await store.put("s", b"read", b"x" * 1000)
    await store.put("s", b"expired", b"x" * 1000, ttl_s=1)
    world.let_pass(2)
    for number in range(60):
        await store.put("s", b"%02d" % number, b"x" * 900)
        assert await store.get("s", b"read") is not None
        assert store.held_bytes <= 30 * (ENTRY_BYTES + 1000)
    held = {key for key, _ in await listed(store)}
    assert await store.get_many("s", [b"nothing", b"read"]) == [None, b"x" * 1000]

    assert held >= {b"read", b"59", b"50"}
    assert not held & {b"00", b"10", b"expired"}
    assert len(held) >= 25
    assert store.evicted >= 25


async def test_a_value_above_the_bound_is_not_kept(make: Made) -> None:
    """And neither is the one whose place it was to take."""
    store = await make(10_000)
    await store.put("s", b"k", b"small")
    await store.put("s", b"k", b"x" * 10_001)

    assert await store.get("s", b"k") is None
    assert store.faults == {"full": 1}


@settings(max_examples=30, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["put", "get", "many", "absent", "delete", "prefix"]),
            st.sampled_from([b"a", b"ab", b"b", b"\xff"]),
            st.binary(max_size=9),
        ),
        max_size=25,
    )
)
def test_all_stores_are_one_dictionary(
    steps: list[tuple[str, bytes, bytes]], tmp_path_factory: Any, request: pytest.FixtureRequest
) -> None:
    """Any sequence of operations does to each store what it does to a dictionary."""
    server = request.getfixturevalue("shared_redis") if find_server() else None

    async def played(store: StateStore) -> tuple[list[object], list[tuple[bytes, bytes]]]:
        answers: list[object] = []
        for step, key, value in steps:
            if step == "put":
                await store.put("s", key, value)
            elif step == "get":
                answers.append(await store.get("s", key))
            elif step == "many":
                answers.append(await store.get_many("s", [key, b"a", b"b"]))
            elif step == "absent":
                answers.append(await store.put_if_absent("s", key, value))
            elif step == "delete":
                await store.delete("s", key)
            else:
                answers.append(await store.delete_prefix("s", key))
        return answers, await listed(store)

    async def all_of_them() -> None:
        memory = MemoryStateStore(MAX_BYTES)
        expected = await played(memory)
        async with closing(SqliteStateStore(tmp_path_factory.mktemp("s") / "f", MAX_BYTES, Clock())) as file:
            assert await played(file) == expected
            assert memory.held_bytes == file.held_bytes
            assert not file.faults
        if server is not None:
            with server.client() as client:
                client.flushall()
            async with closing(RedisStateStore(server.url, MAX_BYTES)) as shared:
                assert await played(shared) == expected
                assert not shared.faults

    asyncio.run(all_of_them())


@given(st.binary(max_size=4), st.binary(max_size=6))
def test_the_end_of_a_prefix_is_sharp(prefix: bytes, key: bytes) -> None:
    end = after_prefix(prefix)

    assert key.startswith(prefix) == (key >= prefix and (end is None or key < end))

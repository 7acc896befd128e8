"""The store in a Redis outlives trouble with Redis; what every store promises is in `test_state_store`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.shell.state.redis import RedisStateStore
from tests.redis_server import RedisServer, StallingWire, free_port, redis_server, shared_redis
from tests.shell.test_state_store import MAX_BYTES, listed

__all__ = ["redis_server", "shared_redis"]


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[RedisStateStore]:
    store = RedisStateStore(url, MAX_BYTES)
    try:
        yield store
    finally:
        await store.close()


AT_MOST_S = 20
"""A call that waits longer waits for ever; how long one really waits is `OP_S`, and those after it do not."""


async def comes_back(store: RedisStateStore) -> None:
    """Waits until a value can be put and found."""
    async with asyncio.timeout(20):
        while True:
            await store.put("s", b"probe", b"v")
            if await store.get("s", b"probe") == b"v":
                return
            await asyncio.sleep(0.01)


OPERATIONS: dict[str, Callable[[RedisStateStore], Any]] = {
    "get": lambda store: store.get("s", b"k"),
    "get_many": lambda store: store.get_many("s", [b"k"]),
    "put": lambda store: store.put("s", b"k", b"v"),
    "put_if_absent": lambda store: store.put_if_absent("s", b"k", b"v"),
    "prolong": lambda store: store.prolong("s", [b"k"], 60),
    "delete": lambda store: store.delete("s", b"k"),
    "delete_prefix": lambda store: store.delete_prefix("s", b"k"),
    "scan": lambda store: listed(store),
}
LOST = {"put_if_absent": b"v", "delete_prefix": 0, "scan": []}
"""What an operation answers where there is no Redis; None where it is not named."""


@pytest.mark.parametrize("name", OPERATIONS)
async def test_a_redis_that_is_not_there(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is found, nothing raises, it is said once, and no password is."""
    async with opened(f"redis://:s3cret@127.0.0.1:{free_port()}/0") as store:
        await store.open()
        answers = [await OPERATIONS[name](store) for _ in range(5)]

    assert answers == [LOST.get(name)] * 5
    assert store.faults == {"error": 1, "down": 5}
    assert len(caplog.records) == 1
    assert "s3cret" not in str([vars(record) for record in caplog.records])


@pytest.mark.parametrize("name", OPERATIONS)
async def test_a_redis_that_stalls(name: str, redis_server: RedisServer) -> None:
    """One call waits, for a bounded time; those after it do not."""
    async with StallingWire(redis_server.port) as wire, opened(wire.url) as store:
        await store.put("s", b"k", b"v")
        wire.stall()
        async with asyncio.timeout(AT_MOST_S):
            answer = await OPERATIONS[name](store)
            for _ in range(100):
                await OPERATIONS[name](store)

    assert answer == LOST.get(name)
    assert store.faults["slow"] == 1
    assert store.faults["down"] == 100


async def test_a_redis_that_accepts_and_never_speaks() -> None:
    """The first call of all is bounded too."""
    async with StallingWire(free_port()) as wire:
        wire.stall()
        quiet = await asyncio.start_server(lambda reader, _: reader.read(), "127.0.0.1", 0)
        port = quiet.sockets[0].getsockname()[1]
        async with opened(f"redis://127.0.0.1:{port}/0") as store:
            async with asyncio.timeout(AT_MOST_S):
                await store.open()
        quiet.close()

    assert store.faults == {"slow": 1}


async def test_many_at_once_meet_a_stall(redis_server: RedisServer) -> None:
    """A thousand requests go on without an answer, and each is counted."""
    async with StallingWire(redis_server.port) as wire, opened(wire.url) as store:
        await store.put("s", b"k", b"v")
        wire.stall()
        found = await asyncio.gather(*(store.get("s", b"k") for _ in range(1000)))

    assert found == [None] * 1000
    assert store.faults.total() == 1000


async def test_many_at_once_are_served(redis_server: RedisServer) -> None:
    """By few connections; in waves that also a slow machine serves within the patience for one."""
    async with StallingWire(redis_server.port) as wire, opened(wire.url) as store:
        found = []
        for wave in range(10):
            keys = [b"%d" % number for number in range(50 * wave, 50 * wave + 50)]
            await asyncio.gather(*(store.put("s", key, key) for key in keys))
            found += [
                got == key
                for got, key in zip(await asyncio.gather(*(store.get("s", key) for key in keys)), keys, strict=True)
            ]

    assert found == [True] * 500
    assert not store.faults
    assert wire.connections <= 32


async def test_answers_do_not_get_mixed_up(redis_server: RedisServer) -> None:
    """What was asked before a stall, or by someone who left, is not taken for the answer to a later question."""
    async with StallingWire(redis_server.port) as wire, opened(wire.url) as store:
        for number in range(50):
            await store.put("s", b"%d" % number, b"value %d" % number)
        wire.stall()
        asking = [asyncio.create_task(store.get("s", b"%d" % number)) for number in range(50)]
        await asyncio.sleep(0.05)
        for task in asking[::2]:
            task.cancel()
        await asyncio.wait(asking)
        wire.flow()
        await comes_back(store)
        found = [await store.get("s", b"%d" % number) for number in range(50)]

    assert found == [b"value %d" % number for number in range(50)]


async def test_a_killed_server_is_used_again_when_it_is_back() -> None:
    """Within seconds, and no call waits for it meanwhile."""
    with RedisServer() as server:
        async with opened(server.url) as store:
            await store.put("s", b"k", b"v")
            server.kill()
            found = [await store.get("s", b"k") for _ in range(100)]
            server.start()
            await comes_back(store)

    assert found == [None] * 100
    assert store.faults["error"] == 1


async def test_a_server_restarted_between_two_calls_costs_one_of_them() -> None:
    with RedisServer() as server:
        async with opened(server.url) as store:
            await store.put("s", b"k", b"v")
            server.kill()
            server.start()
            await comes_back(store)

            assert set(store.faults) <= {"error", "down"}


async def test_what_others_put_there_is_left_alone(redis_server: RedisServer) -> None:
    """Keys that are not ours are neither listed nor deleted; glob characters in keys are only characters."""
    with redis_server.client() as client:
        client.set("app:key", "theirs")
        client.set("llm-gateway:t:k", "another space")
        async with opened(redis_server.url) as store:
            for key in (b"a*", b"ab", b"a?", b"[ab]", b"a"):
                await store.put("s", key, b"v")
            starred = await listed(store, prefix=b"a*")
            gone = [await store.delete_prefix("s", prefix) for prefix in (b"[", b"a?", b"")]
        left = sorted(client.keys())

    assert starred == [(b"a*", b"v")]
    assert gone == [1, 1, 3]
    assert left == [b"app:key", b"llm-gateway:t:k"]


async def test_a_value_of_another_type_is_written_over(redis_server: RedisServer) -> None:
    """It is as good as absent; that is counted where it stands in the way."""
    with redis_server.client() as client:
        for key in ("a", "b", "c"):
            client.lpush(f"llm-gateway:s:{key}", "x")
        async with opened(redis_server.url) as store:
            assert await store.get_many("s", [b"a", b"b"]) == [None, None]
            await store.put("s", b"a", b"1")
            assert await store.put_if_absent("s", b"b", b"2", ttl_s=60) == b"2"
            assert await listed(store) == [(b"a", b"1"), (b"b", b"2")]

        assert store.faults == {"foreign": 1}
        assert 0 < client.ttl("llm-gateway:s:b") <= 60


async def test_a_full_redis_loses_writes_and_says_so(redis_server: RedisServer) -> None:
    """What is there is still found, and the gateway goes on asking."""
    with redis_server.client() as client:
        async with opened(redis_server.url) as store:
            await store.put("s", b"k", b"v")
            client.config_set("maxmemory", "1mb")
            try:
                for number in range(40):
                    await store.put("s", b"%d" % number, b"x" * 90_000)
                assert await store.put_if_absent("s", b"new", b"w" * 90_000) == b"w" * 90_000
                found = await store.get("s", b"k")
            finally:
                client.config_set("maxmemory", "0")

    assert found == b"v"
    assert store.faults["full"] >= 2
    assert set(store.faults) == {"full"}


async def test_a_wrong_password_is_said_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with RedisServer("--requirepass", "right") as server:
        port = server.port
        async with opened(f"redis://:wr0ng@127.0.0.1:{port}/0") as refused:
            await refused.open()
            assert await refused.get("s", b"k") is None
        async with opened(f"redis://default:right@127.0.0.1:{port}/3") as store:
            await store.put("s", b"k", b"v")
            assert await store.get("s", b"k") == b"v"

    assert not store.faults
    assert refused.faults.total() == 2
    said = str([vars(record) for record in caplog.records])
    assert "WRONGPASS" in said or "password" in said
    assert "wr0ng" not in said


async def test_one_that_answers_pings_and_nothing_else_is_asked_less_and_less() -> None:
    """A user without rights, a replica: it is not asked and logged at each request for ever."""
    with RedisServer("--replicaof", "127.0.0.1", str(free_port())) as server:
        async with opened(server.url) as store:
            for _ in range(150):
                await store.put("s", b"k", b"v")
                await asyncio.sleep(0.01)

    assert 1 <= store.faults["read_only"] <= 3
    assert store.faults["read_only"] + store.faults["down"] == 150


async def test_what_users_said_is_not_logged(redis_server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """An error of Redis names the command that it is about; the log does not."""
    with redis_server.client() as client:
        client.acl_setuser("reader", enabled=True, passwords=["+p"], keys=["*"], commands=["+get", "+multi", "+exec"])
        try:
            async with opened(redis_server.url.replace("//", "//reader:p@")) as store:
                assert await store.put_if_absent("s", b"k", b"my secret plan") == b"my secret plan"
        finally:
            client.acl_deluser("reader")

    assert store.faults == {"error": 1}
    said = str([vars(record) for record in caplog.records])
    assert "secret plan" not in said


async def test_a_closed_store_is_quiet(redis_server: RedisServer) -> None:
    """A late write is lost and counted."""
    store = RedisStateStore(redis_server.url, MAX_BYTES)
    await store.put("s", b"k", b"v")
    await store.close()
    await store.put("s", b"k", b"w")

    assert store.faults == {"closed": 1}
    with redis_server.client() as client:
        assert client.get("llm-gateway:s:k") == b"v"
        assert not [each for each in client.client_list() if each["cmd"] in ("set", "mget")]

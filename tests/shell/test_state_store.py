"""Every state store keeps the same promises; the one in a file also outlives trouble with the file."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ports import StateStore
from gateway.shell.state.key_value import ENTRY_BYTES, MemoryStateStore, after_prefix
from gateway.shell.state.sqlite import APPLICATION_ID, DAMAGED, SqliteStateStore

MAX_BYTES = 100_000


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_s


@asynccontextmanager
async def opened(path: Path, max_bytes: int = MAX_BYTES, clock: Clock | None = None) -> AsyncIterator[SqliteStateStore]:
    store = SqliteStateStore(path, max_bytes, clock or Clock())
    try:
        yield store
    finally:
        await store.close()


Made = Callable[..., Any]


@pytest.fixture(params=["memory", "sqlite"])
async def make(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Made]:
    """Makes a store of each kind."""
    async with AsyncExitStack() as stack:

        async def made(max_bytes: int = MAX_BYTES, clock: Clock | None = None) -> Any:
            if request.param == "memory":
                return MemoryStateStore(max_bytes, clock or Clock())
            return await stack.enter_async_context(opened(tmp_path / "state.db", max_bytes, clock))

        yield made


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


async def test_what_expires_is_gone(make: Made) -> None:
    """Not found, not listed, and not in the way."""
    clock = Clock()
    store = await make(clock=clock)
    await store.put("s", b"short", b"1", ttl_s=10)
    await store.put("s", b"long", b"2", ttl_s=1000)
    await store.put("s", b"ever", b"3")
    clock.now_s += 10

    assert await store.get("s", b"short") is None
    assert await listed(store) == [(b"ever", b"3"), (b"long", b"2")]
    assert await store.put_if_absent("s", b"short", b"4") == b"4"
    clock.now_s += 10**6
    assert await listed(store) == [(b"ever", b"3"), (b"short", b"4")]


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


async def test_the_bound_holds_and_the_least_used_go(make: Made) -> None:
    """A read counts as use; an expired entry goes before any other; a value above the bound is not kept."""
    clock = Clock()
    store = await make(30 * (ENTRY_BYTES + 1000), clock)
    await store.put("s", b"read", b"x" * 1000)
    await store.put("s", b"expired", b"x" * 1000, ttl_s=1)
    clock.now_s += 2
    for number in range(60):
        await store.put("s", b"%02d" % number, b"x" * 900)
        assert await store.get("s", b"read") is not None
        assert store.held_bytes <= 30 * (ENTRY_BYTES + 1000)
    held = {key for key, _ in await listed(store)}
    await store.put("s", b"59", b"x" * 10**6)

    assert held >= {b"read", b"59", b"50"}
    assert not held & {b"00", b"10", b"expired"}
    assert len(held) >= 25
    assert store.evicted >= 25
    assert await store.get("s", b"59") is None
    assert store.faults["full"] == 1


@settings(max_examples=30, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["put", "get", "absent", "delete", "prefix"]),
            st.sampled_from([b"a", b"ab", b"b", b"\xff"]),
            st.binary(max_size=9),
        ),
        max_size=25,
    )
)
def test_both_stores_are_one_dictionary(steps: list[tuple[str, bytes, bytes]], tmp_path_factory: Any) -> None:
    """Any sequence of operations does to either store what it does to a dictionary."""

    async def played(store: StateStore) -> tuple[list[object], list[tuple[bytes, bytes]]]:
        answers: list[object] = []
        for step, key, value in steps:
            if step == "put":
                await store.put("s", key, value)
            elif step == "get":
                answers.append(await store.get("s", key))
            elif step == "absent":
                answers.append(await store.put_if_absent("s", key, value))
            elif step == "delete":
                await store.delete("s", key)
            else:
                answers.append(await store.delete_prefix("s", key))
        return answers, await listed(store)

    async def both() -> None:
        memory = MemoryStateStore(MAX_BYTES)
        async with opened(tmp_path_factory.mktemp("s") / "f") as file:
            assert await played(memory) == await played(file)
            assert memory.held_bytes == file.held_bytes
            assert not file.faults

    asyncio.run(both())


@given(st.binary(max_size=4), st.binary(max_size=6))
def test_the_end_of_a_prefix_is_sharp(prefix: bytes, key: bytes) -> None:
    end = after_prefix(prefix)

    assert key.startswith(prefix) == (key >= prefix and (end is None or key < end))


# The file


async def test_a_restart_loses_nothing(tmp_path: Path) -> None:
    """Neither an orderly one, nor one without a close; the file is its owner's alone."""
    path = tmp_path / "state.db"
    async with opened(path) as store:
        await store.put("s", b"a", b"1", ttl_s=1000)
    killed = SqliteStateStore(path, MAX_BYTES, Clock())
    await killed.put("s", b"b", b"2")
    async with opened(path) as store:
        assert await listed(store) == [(b"a", b"1"), (b"b", b"2")]
        assert store.held_bytes == 2 * (ENTRY_BYTES + 3)
    await killed.close()

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def damaged_in_the_middle(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    for page in range(1, len(raw) // 4096):
        raw[page * 4096 : page * 4096 + 200] = os.urandom(200)
    path.write_bytes(raw)


def from_the_future(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "no database": lambda path: path.write_bytes(b"hello" * 1000),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:5000]),
    "damaged in the middle": damaged_in_the_middle,
    "of a newer format": from_the_future,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_a_damaged_file_is_set_aside(
    tmp_path: Path, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    """Loudly; its bytes are kept, and a new file serves."""
    path = tmp_path / "state.db"
    async with opened(path) as store:
        for number in range(100):
            await store.put("s", b"%d" % number, b"x" * 500)
    damage(path)
    spoiled = path.read_bytes()
    async with opened(path) as store:
        await store.open()
        await store.put("s", b"k", b"v")

        assert await listed(store) == [(b"k", b"v")]
        assert store.faults == {"set_aside": 1}
    assert path.with_name("state.db" + DAMAGED).read_bytes()[4096:] == spoiled[4096:]
    assert "set aside" in caplog.text


async def test_damage_while_in_use_is_survived(tmp_path: Path) -> None:
    """Whatever happens to the file under a running store, calls return, and in the end it works again."""
    path = tmp_path / "state.db"
    async with opened(path) as store:
        for number in range(100):
            await store.put("s", b"%d" % number, b"x" * 500)
        store._thread.submit(lambda: store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")).result()  # type: ignore[union-attr]
        damaged_in_the_middle(path)
        for number in range(300):
            await store.put("s", b"n%d" % number, b"x" * 500)
        await store.put("s", b"last", b"v")

        assert await store.get("s", b"last") == b"v"
        assert set(store.faults) <= {"set_aside", "damaged"}


async def test_another_programs_database_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "app.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE customers (name TEXT)")
    db.close()
    before = path.read_bytes()
    async with opened(path) as store:
        await store.put("s", b"k", b"v")

        assert await store.get("s", b"k") is None
        assert await store.put_if_absent("s", b"k", b"v") == b"v"
        assert await store.delete_prefix("s", b"") == 0
        assert await listed(store) == []
        assert store.faults == {"down": 5}
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["app.db"]
    assert "another program" in caplog.records[0].error  # type: ignore[attr-defined]


async def test_a_place_that_cannot_be_written_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not with each call, and it stops nothing."""
    async with opened(tmp_path / "no" / "such" / "folder.db") as store:
        for _ in range(20):
            assert await store.get("s", b"k") is None
    assert store.faults == {"down": 20}
    assert caplog.text.count("cannot be used") == 1


async def test_a_locked_file_is_waited_for_a_little(tmp_path: Path) -> None:
    """Another process writes for long: calls return in bounded time, what they wanted is lost and counted."""
    path = tmp_path / "state.db"
    async with opened(path) as store:
        await store.put("s", b"k", b"old")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        began_s = asyncio.get_running_loop().time()
        await store.put("s", b"k", b"new")
        took_s = asyncio.get_running_loop().time() - began_s
        found = await store.get("s", b"k")
        other.execute("ROLLBACK")
        other.close()
        await store.put("s", b"k", b"newer")

        assert took_s < 1
        assert found == b"old"
        assert store.faults == {"busy": 1}
        assert await store.get("s", b"k") == b"newer"


async def test_two_processes_may_share_a_file(tmp_path: Path) -> None:
    """Each sees what the other wrote, and the first of two still stands."""
    async with opened(tmp_path / "f") as one, opened(tmp_path / "f") as two:
        await one.put("s", b"k", b"1")

        assert await two.get("s", b"k") == b"1"
        assert await two.put_if_absent("s", b"k", b"2") == b"1"


async def test_a_stuck_disk_holds_nobody_up(tmp_path: Path) -> None:
    """A call gives up after its patience; a thousand waiting ones are enough; afterwards all is well."""
    async with opened(tmp_path / "f") as store:
        release = threading.Event()
        store._thread.submit(release.wait)
        began_s = asyncio.get_running_loop().time()
        found = await asyncio.gather(*(store.get("s", b"k") for _ in range(1500)))
        took_s = asyncio.get_running_loop().time() - began_s
        release.set()
        while store._pending:
            await asyncio.sleep(0.01)
        await store.put("s", b"k", b"v")

        assert found == [None] * 1500
        assert took_s < 2
        assert store.faults == {"overloaded": 476, "slow": 1024}
        assert await store.get("s", b"k") == b"v"


async def test_the_file_stays_small(tmp_path: Path) -> None:
    """A thousand times the bound is written; the file and its log stay within a few times the bound."""
    path = tmp_path / "f"
    async with opened(path, 500_000) as store:
        for number in range(3000):
            await store.put("s", b"%d" % (number % 777), os.urandom(3000))
        size = sum(entry.stat().st_size for entry in tmp_path.iterdir())

        assert store.held_bytes <= 500_000
        assert size < 6_000_000
        assert not store.faults


async def test_a_closed_store_is_quiet(tmp_path: Path) -> None:
    """A late write is lost and counted, and does not open the file again."""
    store = SqliteStateStore(tmp_path / "f", MAX_BYTES, Clock())
    await store.put("s", b"k", b"v")
    await store.close()
    await store.put("s", b"k", b"w")

    assert store.faults == {"closed": 1}
    assert Record.owner(tmp_path / "f") == APPLICATION_ID


class Record:
    """What stands in a file."""

    @staticmethod
    def owner(path: Path) -> int:
        db = sqlite3.connect(path)
        (found,) = db.execute("PRAGMA application_id").fetchone()
        db.close()
        return int(found)
